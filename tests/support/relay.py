"""A connection to a server that a test can cut, or let fall silent, without touching the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


class Relay:
    """Passes on what comes to a port of its own to another port of this machine, until the block ends."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._silent: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> Relay:
        self._thread.start()
        self.restore()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._do(self._cut())

    def restore(self) -> None:
        """Accept connections (again), at the same port."""
        self._do(self._restore())

    def silence(self) -> None:
        """Keep the connections that there are, but pass nothing on over them any more. New ones are as ever."""
        self._loop.call_soon_threadsafe(lambda: self._silent.update(self._connections))

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(60)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        ended = list(self._connections)
        for connection in ended:
            connection.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def _restore(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                try:
                    await asyncio.gather(self._pump(task, reader, back), self._pump(task, there, writer))
                finally:
                    back.close()
        except asyncio.CancelledError:
            pass  # cut
        finally:
            writer.close()
            self._connections.discard(task)
            self._silent.discard(task)

    async def _pump(
        self, connection: asyncio.Task[None], source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        while data := await source.read(65536):
            if connection in self._silent:
                continue
            target.write(data)
            await target.drain()
        target.close()
