"""From the catalogue's outbox to the bus: at least once, in the order in which things were committed."""

from __future__ import annotations

import asyncio

from levada.stores.ports import Bus, Catalogue

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
