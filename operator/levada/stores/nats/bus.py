"""Events over NATS JetStream; see `levada.stores.ports.Bus`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import orjson
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from levada.events import Event
from levada.settings import Settings
from levada.stores.failpoints import after_write
from levada.stores.nats.connection import Connection, connection_of
from levada.stores.nats.publish import publish_all

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
            jetstream = await self._stream()
            try:
                await publish_all(jetstream, messages, seconds=10)
            except BaseException:
                self._has_stream = False  # it may be that which is missing
                raise
        if events:
            after_write(f"publish {len(events)} events")

    async def subscribe(self, subject: str, durable: str) -> AsyncIterator[tuple[Event, Callable[[], Awaitable[None]]]]:
        config = api.ConsumerConfig(
            ack_policy=api.AckPolicy.EXPLICIT, ack_wait=_ACKNOWLEDGED_SECONDS, max_ack_pending=4 * _BATCH
        )
        with self._connection.errors():
            jetstream = await self._stream()
            subscription = await jetstream.pull_subscribe(subject, durable, stream=STREAM, config=config)
        try:
            while True:
                with self._connection.errors():
                    try:
                        messages = await subscription.fetch(_BATCH, timeout=5, heartbeat=1)
                    except NatsTimeout:
                        continue
                for message in messages:
                    yield Event.from_cloud_event(orjson.loads(message.data)), message.ack
        finally:
            await subscription.unsubscribe()

    async def close(self) -> None:
        await self._connection.close()

    async def _stream(self) -> JetStreamContext:
        jetstream = await self._connection.jetstream()
        if not self._has_stream:
            try:
                await jetstream.stream_info(STREAM)
            except NotFoundError:
                config = api.StreamConfig(
                    name=STREAM,
                    description="Everything that Levada announces",
                    subjects=[SUBJECTS],
                    max_age=_KEPT_SECONDS,
                    duplicate_window=_DEDUPLICATED_SECONDS,
                )
                await jetstream.add_stream(config)
            self._has_stream = True
        return jetstream


def open_bus(settings: Settings) -> NatsBus:
    """The bus that the settings name."""
    return NatsBus(connection_of(settings))
