"""Events over NATS JetStream; see `levada.stores.ports.Bus`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

import orjson
import structlog
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.js import JetStreamContext, api
from nats.js.errors import NoStreamResponseError

from levada.events import Event
from levada.settings import Settings
from levada.stores.failpoints import after_write
from levada.stores.nats.connection import Connection, connection_of, ensure_stream
from levada.stores.nats.publish import publish_all

log = structlog.get_logger()

STREAM = "levada"
SUBJECTS = "levada.>"
_KEPT_SECONDS = 7 * 24 * 3600
_DEDUPLICATED_SECONDS = 120
_ACKNOWLEDGED_SECONDS = 60  # then an event is delivered again
_BATCH = 256
_CONTENT_TYPE = "application/cloudevents+json"


class NatsBus:
    """The stream `levada`, which is made when first used."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._has_stream = False

    async def publish(self, events: Sequence[Event]) -> None:
        messages = [
            (
                event.subject,
                orjson.dumps(event.cloud_event()),
                {api.Header.MSG_ID.value: event.id, "Content-Type": _CONTENT_TYPE},
            )
            for event in events
        ]
        with self._connection.errors():
            await self._stream()
            try:
                await publish_all(await self._connection.client(), messages)
            except NoStreamResponseError:
                self._has_stream = False  # deleted meanwhile: the next attempt makes it again
                raise
        if events:
            after_write(f"publish {len(events)} events")

    async def subscribe(self, subject: str, durable: str) -> AsyncIterator[tuple[Event, Callable[[], Awaitable[None]]]]:
        config = api.ConsumerConfig(
            durable_name=durable,
            filter_subject=subject,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=_ACKNOWLEDGED_SECONDS,
            max_ack_pending=4 * _BATCH,
        )
        with self._connection.errors():
            jetstream = await self._stream()
            await jetstream.add_consumer(STREAM, config)
            subscription = await jetstream.pull_subscribe_bind(durable, stream=STREAM)
        try:
            while True:
                with self._connection.errors():
                    messages = await fetch(subscription)
                for message in messages:
                    event = _event(message)
                    if event is None:
                        await message.term()
                    else:
                        yield event, message.ack
        finally:
            with suppress(ConnectionClosedError):
                await subscription.unsubscribe()

    async def close(self) -> None:
        await self._connection.close()

    async def _stream(self) -> JetStreamContext:
        jetstream = await self._connection.jetstream()
        if not self._has_stream:
            await ensure_stream(jetstream, stream_config())
            self._has_stream = True
        return jetstream


def stream_config() -> api.StreamConfig:
    """How the stream of what Levada announces is made."""
    return api.StreamConfig(
        name=STREAM,
        description="Everything that Levada announces",
        subjects=[SUBJECTS],
        max_age=_KEPT_SECONDS,
        duplicate_window=_DEDUPLICATED_SECONDS,
    )


async def fetch(subscription: JetStreamContext.PullSubscription) -> list[Msg]:
    """What is there now, or else the next message when it comes; empty after a while without any.

    nats-py's fetch of many waits for the whole of its time once it has had to wait for the first.
    """
    with suppress(TimeoutError):
        return await subscription.fetch(_BATCH, timeout=0.05)
    with suppress(TimeoutError):
        return await subscription.fetch(1, timeout=10)
    return []


def _event(message: Msg) -> Event | None:
    try:
        return Event.from_cloud_event(orjson.loads(message.data))
    except (ValueError, LookupError, TypeError) as error:
        log.warning("not an event of Levada's", subject=message.subject, error=str(error))
        return None


def open_bus(settings: Settings) -> NatsBus:
    """The bus that the settings name."""
    return NatsBus(connection_of(settings))
