"""The home's stores, started when something first needs them, so that an unchanged pipeline starts no server at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from levada.engines.local.servers import LocalServers
from levada.settings import from_environment
from levada.stores.open import open_bus, open_catalogue, open_objects
from levada.stores.outbox import relay_until
from levada.stores.ports import Catalogue, Objects

LOOK_EVERY = 1.0  # seconds between looks at the servers


class Stores:
    """Servers, adapters and the outbox relay of one home. Enter `servers` before, close this first afterwards."""

    def __init__(self, servers: LocalServers, root: Path) -> None:
        self._servers = servers
        # There from before anything can come into the outbox until it is known to be empty.
        self._unpublished = root / "unpublished"
        self._starting = asyncio.Lock()
        self._environment: dict[str, str] = {}
        self._objects: Objects | None = None
        self._catalogue: Catalogue | None = None
        self._relay: asyncio.Task[bool] | None = None
        self._ending = asyncio.Event()

    async def for_steps(self) -> tuple[Objects, dict[str, str]]:
        """The objects, and the environment in which steps and scorers find all stores."""
        await self._started()
        assert self._objects is not None
        return self._objects, self._environment

    async def catalogue(self) -> Catalogue:
        """The catalogue, with its schema up to date. Raises ServerFailed, as `for_steps`, where a server does not run
        and cannot be started anew."""
        await self._started()
        assert self._catalogue is not None
        return self._catalogue

    async def finish_interrupted(self) -> None:
        """Publish what an engine that was killed left in the outbox."""
        if self._unpublished.exists():
            await self._started()

    async def watch(self) -> None:
        """Start servers anew that end while nothing asks for them, but scorers do, and all of them when another process
        asks; raises ServerFailed."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._relay is not None or self._servers.asked:
                await self._started()

    async def close(self) -> None:
        """Publish what is left in the outbox and close the adapters."""
        self._ending.set()
        try:
            if self._relay is not None and await self._relay:
                self._unpublished.unlink(missing_ok=True)
        finally:
            if self._catalogue is not None:
                self._catalogue.close()

    async def _started(self) -> None:
        async with self._starting:
            if self._relay is not None:
                await asyncio.to_thread(self._servers.revive)
                return
            self._unpublished.touch()
            endpoints = await asyncio.to_thread(self._servers.start_all)
            self._environment = endpoints.environment()
            settings = from_environment(self._environment)
            self._objects = open_objects(settings)
            self._catalogue = open_catalogue(settings)
            await asyncio.to_thread(self._catalogue.migrate)
            self._relay = asyncio.create_task(relay_until(self._ending, self._catalogue, lambda: open_bus(settings)))
