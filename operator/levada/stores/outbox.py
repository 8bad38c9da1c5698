"""From the catalogue's outbox to the bus: at least once, in the order in which things were committed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from levada.errors import StoreUnavailable
from levada.stores.ports import Bus, Catalogue

log = structlog.get_logger()

RELAY_EVERY = 0.2  # seconds
_BATCH = 1000


async def relay(catalogue: Catalogue, bus: Bus) -> int:
    """Publish every event that is pending; how many.

    An event leaves the outbox once the bus has it. Whoever dies in between publishes it again under the same id, which
    the bus drops within its window and consumers recognise after that.
    """
    count = 0
    while events := await asyncio.to_thread(catalogue.pending_events, _BATCH):
        await bus.publish(events)
        await asyncio.to_thread(catalogue.mark_published, [event.id for event in events])
        count += len(events)
        if len(events) < _BATCH:
            break
    return count


async def relay_until(ending: asyncio.Event, catalogue: Catalogue, open_bus: Callable[[], Bus]) -> bool:
    """Publish what comes into the outbox until it is told to end; whether nothing is left in it then."""
    bus = open_bus()
    empty = True
    try:
        while True:
            last = ending.is_set()  # looked at before the last pass, not after it
            try:
                await relay(catalogue, bus)
                empty = True
            except (StoreUnavailable, OSError) as error:  # OSError: the bus while it connects
                if empty:  # said once until it goes on
                    log.warning("events wait in the outbox", error=str(error))
                empty = False
            except Exception:
                log.exception("events are not published any more")
                raise
            if last:
                return empty
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), RELAY_EVERY)
    finally:
        with contextlib.suppress(StoreUnavailable, OSError):
            await bus.close()
