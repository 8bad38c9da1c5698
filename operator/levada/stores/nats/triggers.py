"""Messages that start executions, over NATS JetStream; see `levada.stores.ports.Triggers`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from levada import names
from levada.settings import Settings
from levada.stores.nats.bus import fetch, stream_config
from levada.stores.nats.connection import Connection, connection_of, ensure_stream
from levada.stores.ports import StoreRefused, TriggerMessage

_KEPT_SECONDS = 7 * 24 * 3600
_ACKNOWLEDGED_SECONDS = 30  # then a message is delivered again
_UNANSWERED = 1000  # so many may wait for one answer


class NatsTriggers:
    """A durable consumer for each listener, on the stream that keeps its subject; one is made where there is none."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def listen(self, subject: str, listener: str) -> AsyncIterator[TriggerMessage | None]:
        durable = names.trigger_consumer(listener, subject)
        with self._connection.errors():
            jetstream = await self._connection.jetstream()
            stream = await _stream_of(jetstream, subject)
            await _ensure_consumer(jetstream, stream, durable, subject)
            subscription = await jetstream.pull_subscribe_bind(durable, stream=stream)
        try:
            yield None
            while True:
                with self._connection.errors():
                    messages = await fetch(subscription)
                for message in messages:
                    yield _message(message)
                if not messages:
                    await self._connection.check()
                    yield None
        finally:
            with suppress(ConnectionClosedError):
                await subscription.unsubscribe()

    async def forget(self, subject: str, listener: str) -> None:
        with self._connection.errors():
            jetstream = await self._connection.jetstream()
            stream = await _stream_of(jetstream, subject)
            with suppress(NotFoundError):
                await jetstream.delete_consumer(stream, names.trigger_consumer(listener, subject))

    async def close(self) -> None:
        await self._connection.close()


async def _stream_of(jetstream: JetStreamContext, subject: str) -> str:
    """The name of the stream that keeps a subject."""
    await ensure_stream(jetstream, stream_config())  # before another of these subjects is in its way
    with suppress(NotFoundError):
        name = await jetstream.find_stream_name_by_subject(subject)
        kept = (await jetstream.stream_info(name)).config.subjects or []
        if any(covers(pattern, subject) for pattern in kept):  # then no other stream can have any of it
            return name
        raise StoreRefused(
            f"the stream {name} keeps only a part of the subject '{subject}' ({', '.join(kept)}): "
            "name a subject that a stream keeps whole, or that none keeps"
        )
    config = api.StreamConfig(
        name=names.trigger_stream(subject),
        description=f"What starts executions of Levada's: {subject}",
        subjects=[subject],
        max_age=_KEPT_SECONDS,
    )
    return str((await ensure_stream(jetstream, config)).name)


async def _ensure_consumer(jetstream: JetStreamContext, stream: str, durable: str, subject: str) -> None:
    with suppress(NotFoundError):
        await jetstream.consumer_info(stream, durable)
        return
    config = api.ConsumerConfig(
        durable_name=durable,
        filter_subject=subject,
        deliver_policy=api.DeliverPolicy.NEW,  # what was said before anybody listened is not meant
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=_ACKNOWLEDGED_SECONDS,
        max_ack_pending=_UNANSWERED,
        inactive_threshold=_KEPT_SECONDS,  # of a listener that is gone for good
    )
    await jetstream.add_consumer(stream, config)


def covers(pattern: str, subject: str) -> bool:
    """Whether every subject that the second stands for is one that the first stands for."""
    wide, narrow = pattern.split("."), subject.split(".")
    for position, token in enumerate(wide):
        if token == ">":
            return len(narrow) > position
        if position >= len(narrow) or narrow[position] == ">" or (token != "*" and token != narrow[position]):
            return False
    return len(wide) == len(narrow)


def _message(message: Msg) -> TriggerMessage:
    given = (message.headers or {}).get(api.Header.MSG_ID.value)
    metadata = message.metadata
    id = given or f"{metadata.stream}:{metadata.sequence.stream}"
    return TriggerMessage(id[:1024], metadata.timestamp, message.ack)


def open_triggers(settings: Settings) -> NatsTriggers:
    """The triggers that the settings name."""
    return NatsTriggers(connection_of(settings))
