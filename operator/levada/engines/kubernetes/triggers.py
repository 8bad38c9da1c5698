"""Messages that start executions: who listens to what, and what waits for an answer."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from levada.engines.kubernetes.recent import Recent
from levada.errors import StoreUnavailable
from levada.resources import AnyResource, Ref
from levada.stores.ports import TriggerMessage, Triggers

log = structlog.get_logger()

_RETRY_SECONDS = (0.5, 30.0)  # first and longest, after the bus did not answer

Key = tuple[Ref, str, str]
"""Resource, its uid, subject."""


class TriggerListener:
    """Listens for each resource to the subjects that its spec names. Belongs to the event loop."""

    def __init__(self, triggers: Triggers, changed: Callable[[Ref], None]) -> None:
        """`changed(resource)` is called whenever there is a message, or listening fails or goes on."""
        self._triggers = triggers
        self._changed = changed
        self._listening: dict[Key, asyncio.Task[None]] = {}
        self._forgetting: set[asyncio.Task[None]] = set()
        self._pending: defaultdict[Ref, dict[str, TriggerMessage]] = defaultdict(dict)
        self._answered = Recent[tuple[Ref, str]]()  # one whose acknowledgement was lost comes again
        self._problems: dict[Key, str] = {}

    def listen(self, resource: AnyResource) -> None:
        """Listen to what a resource names, and to nothing else for it."""
        ref, uid = resource.ref, resource.metadata.uid
        wanted = {(ref, uid, trigger.subject) for trigger in getattr(resource.spec, "triggers", ())}
        for key in [key for key in self._listening if key[0] == ref and key not in wanted]:
            self._stop(key)
        for key in wanted - self._listening.keys():
            self._listening[key] = asyncio.create_task(self._listen(key), name=f"{ref} {key[2]}")

    def gone(self, ref: Ref) -> None:
        """A resource is not there any more."""
        for key in [key for key in self._listening if key[0] == ref]:
            self._stop(key)
        self._pending.pop(ref, None)

    def pending(self, ref: Ref) -> tuple[str, ...]:
        """Ids of messages for a resource that are not answered, oldest first."""
        return tuple(sorted(self._pending[ref], key=lambda id: self._pending[ref][id].published_at))

    def problem(self, ref: Ref) -> str | None:
        """Why messages for a resource may not be heard."""
        return next((said for key, said in self._problems.items() if key[0] == ref), None)

    async def answered(self, ref: Ref, ids: Iterable[str]) -> None:
        """The status says that messages are answered. Oldest first: what is not acknowledged in the end comes again
        with the newest, by which the status knows it."""
        for id in ids:
            message = self._pending[ref].pop(id, None)
            if message is not None:
                self._answered.add((ref, id))
                await message.acknowledge()

    async def close(self) -> None:
        """Listen no more; what was not answered is heard again by the next who listens."""
        tasks = [*self._listening.values(), *self._forgetting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(StoreUnavailable, OSError):
            await self._triggers.close()

    async def _listen(self, key: Key) -> None:
        ref, uid, subject = key
        first, longest = _RETRY_SECONDS
        wait = first
        while True:
            try:
                async for message in self._triggers.listen(subject, uid):
                    wait = first
                    await self._heard(key, message)
            except (StoreUnavailable, OSError) as error:
                if key not in self._problems:
                    log.warning("messages are not heard", resource=str(ref), subject=subject, error=str(error))
                    since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
                    self._problems[key] = f"messages on '{subject}' are not heard since {since}: {error}"
                    self._changed(ref)
            await asyncio.sleep(wait)
            wait = min(longest, 2 * wait)

    async def _heard(self, key: Key, message: TriggerMessage | None) -> None:
        ref = key[0]
        if self._problems.pop(key, None) is not None:
            self._changed(ref)
        if message is None:
            return
        if (ref, message.id) in self._answered:
            await message.acknowledge()
            return
        known = message.id in self._pending[ref]
        self._pending[ref][message.id] = message  # acknowledging the last delivery of it is what counts
        if not known:
            self._changed(ref)

    def _stop(self, key: Key) -> None:
        self._listening.pop(key).cancel()
        self._problems.pop(key, None)
        _, uid, subject = key
        task = asyncio.create_task(self._forget(subject, uid))
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    async def _forget(self, subject: str, uid: str) -> None:
        with suppress(StoreUnavailable, OSError):  # the bus forgets it in time
            await self._triggers.forget(subject, uid)
