"""Many publishes at once, each acknowledged by its stream.

nats-py's own `publish_async` spends ten times the processor time on a message, mostly on a future and a timer for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError, NoStreamResponseError

Message = tuple[str, bytes, dict[str, str] | None]
"""Subject, payload, headers."""

_IN_FLIGHT = 4096
_YIELD_EVERY = 256


class _Acknowledgements:
    """Counts what the stream has answered, and keeps the first refusal."""

    def __init__(self) -> None:
        self._count = 0
        self._wanted = 0
        self._refusal: Exception | None = None
        self._reached = asyncio.Event()

    async def take(self, message: Msg) -> None:
        self._count += 1
        if message.headers and message.headers.get("Status") == "503":
            self._refusal = self._refusal or NoStreamResponseError()
        elif b'"error"' in message.data:
            answer = orjson.loads(message.data)
            if "error" in answer:
                self._refusal = self._refusal or APIError(**answer["error"])
        if self._refusal or self._count >= self._wanted:
            self._reached.set()

    async def wait_for(self, count: int, seconds: float) -> None:
        """Wait until so many have come; raises the first refusal, or TimeoutError."""
        self._wanted = count
        while self._refusal is None and self._count < count:
            self._reached.clear()
            before = self._count
            try:
                await asyncio.wait_for(self._reached.wait(), seconds)
            except TimeoutError:
                if self._count == before:
                    raise TimeoutError(f"no acknowledgement within {seconds:.0f} seconds") from None
        if self._refusal is not None:
            raise self._refusal


async def publish_all(client: Client, messages: Iterable[Message], seconds: float = 10) -> int:
    """Publish messages and wait until their stream has every one of them; how many.

    Raises nats-py's errors if one is refused, and TimeoutError if no acknowledgement comes for so many seconds.
    """
    acknowledgements = _Acknowledgements()
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=acknowledgements.take)
    count = 0
    try:
        for subject, payload, headers in messages:
            await client.publish(subject, payload, reply=inbox, headers=headers)
            count += 1
            if count % _YIELD_EVERY == 0:
                await acknowledgements.wait_for(count - _IN_FLIGHT, seconds)
                await asyncio.sleep(0)  # lets the connection read
        await acknowledgements.wait_for(count, seconds)
    finally:
        if not client.is_closed:
            await subscription.unsubscribe()
    return count
