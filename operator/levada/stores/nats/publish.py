"""Many publishes at once, each acknowledged by its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from nats.js import JetStreamContext

_GATHERED = 2048


async def publish_all(
    jetstream: JetStreamContext, messages: Iterable[tuple[str, bytes, dict[str, str] | None]], seconds: float
) -> int:
    """Publish messages (subject, payload, headers) and wait until their stream has every one of them; how many.

    Raises nats-py's errors if any is refused, or not acknowledged within `seconds`.
    """
    count = 0
    acknowledgements = []
    for subject, payload, headers in messages:
        acknowledgements.append(await jetstream.publish_async(subject, payload, wait_stall=seconds, headers=headers))
        count += 1
        if len(acknowledgements) == _GATHERED:
            await asyncio.wait_for(asyncio.gather(*acknowledgements), seconds)
            acknowledgements = []
    if acknowledgements:
        await asyncio.wait_for(asyncio.gather(*acknowledgements), seconds)
    return count
