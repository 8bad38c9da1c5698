"""Messages that start executions: what is promised of them, against a real NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import nats
import pytest

from levada import names
from levada.engines.local.servers import NatsEndpoint
from levada.settings import Settings
from levada.stores.nats.triggers import NatsTriggers, covers, open_triggers
from levada.stores.ports import StoreRefused, TriggerMessage

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[NatsTriggers]:
    triggers = open_triggers(settings)
    try:
        yield triggers
    finally:
        await triggers.close()


@asynccontextmanager
async def publisher(bus: NatsEndpoint) -> AsyncIterator[Any]:
    connection = await nats.connect(bus.url, user=bus.user, password=bus.password)
    try:
        yield connection
    finally:
        await connection.close()


async def heard(triggers: NatsTriggers, subject: str, count: int, listener: str = "me") -> list[TriggerMessage]:
    """So many messages."""
    found: list[TriggerMessage] = []
    if not count:
        return found
    async with asyncio.timeout(60), aclosing(triggers.listen(subject, listener)) as messages:  # type: ignore[type-var]
        async for message in messages:
            found += [message] if message is not None else []
            if len(found) == count:
                return found
    raise AssertionError("it ended")


async def begin(triggers: NatsTriggers, subject: str, listener: str = "me") -> None:
    """Listen for a moment, so that messages are kept from now on."""
    async with aclosing(triggers.listen(subject, listener)) as messages:  # type: ignore[type-var]
        assert await anext(messages) is None


async def test_ing4_a_message_is_kept_while_nobody_listens(settings: Settings, bus: NatsEndpoint) -> None:
    async with opened(settings) as triggers, publisher(bus) as connection:
        await begin(triggers, "landing.shops")
        await connection.publish("landing.shops", b"one")  # a plain message, as any producer sends it
        await connection.publish("landing.shops", b"two")
        await connection.flush()

        first, second = await heard(triggers, "landing.shops", 2)

        assert first.id != second.id
        assert first.published_at <= second.published_at


async def test_ing4_what_was_said_before_anybody_listened_is_not_heard(settings: Settings, bus: NatsEndpoint) -> None:
    async with opened(settings) as triggers, publisher(bus) as connection:
        await begin(triggers, "landing.shops", "other")
        await connection.publish("landing.shops", b"early")
        await connection.flush()
        await begin(triggers, "landing.shops")
        await connection.jetstream().publish("landing.shops", b"", headers={"Nats-Msg-Id": "late"})

        (message,) = await heard(triggers, "landing.shops", 1)

        assert message.id == "late"


async def test_ing4_what_is_not_acknowledged_is_heard_again(
    settings: Settings, bus: NatsEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("levada.stores.nats.triggers._ACKNOWLEDGED_SECONDS", 0.2)
    async with opened(settings) as triggers, publisher(bus) as connection:
        await begin(triggers, "landing.shops")
        for number in ("1", "2"):
            await connection.jetstream().publish("landing.shops", b"", headers={"Nats-Msg-Id": number})
        first, _ = await heard(triggers, "landing.shops", 2)
        await first.acknowledge()

        again = await heard(triggers, "landing.shops", 2)

        assert [message.id for message in again] == ["2", "2"]


async def test_ing4_every_listener_hears_each_message(settings: Settings, bus: NatsEndpoint) -> None:
    async with opened(settings) as triggers, publisher(bus) as connection:
        for listener in ("one", "two"):
            await begin(triggers, "landing.*", listener)
        await connection.publish("landing.shops", b"")
        await connection.flush()

        for listener in ("one", "two"):
            assert len(await heard(triggers, "landing.*", 1, listener)) == 1


async def test_ing4_a_stream_that_keeps_the_subject_already_is_used(settings: Settings, bus: NatsEndpoint) -> None:
    async with opened(settings) as triggers, publisher(bus) as connection:
        jetstream = connection.jetstream()
        await jetstream.add_stream(name="producers", subjects=["landing.>"])
        await begin(triggers, "landing.shops")

        assert {stream.config.name for stream in await jetstream.streams_info()} == {"levada", "producers"}
        with pytest.raises(StoreRefused, match="keeps only a part of the subject '>'"):
            await begin(triggers, ">")


async def test_ing4_what_levada_announces_itself_is_heard_too(settings: Settings, bus: NatsEndpoint) -> None:
    subject = "levada.here.dataset.shops.raw-data-extracted"
    async with opened(settings) as triggers, publisher(bus) as connection:
        await begin(triggers, subject)
        await connection.publish(subject, b"{}")
        await connection.flush()

        assert len(await heard(triggers, subject, 1)) == 1
        assert [stream.config.name for stream in await connection.jetstream().streams_info()] == ["levada"]


async def test_ing4_who_is_forgotten_leaves_nothing(settings: Settings, bus: NatsEndpoint) -> None:
    async with opened(settings) as triggers, publisher(bus) as connection:
        await begin(triggers, "landing.shops")
        stream = names.trigger_stream("landing.shops")
        assert len(await connection.jetstream().consumers_info(stream)) == 1

        await triggers.forget("landing.shops", "me")
        await triggers.forget("landing.shops", "me")

        assert not await connection.jetstream().consumers_info(stream)
        assert await connection.jetstream().stream_info(stream)  # there may be others


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.*", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a.b.>", True),
        (">", "a", True),
        ("a.b", "a.*", False),
        ("a.*", "a.>", False),
        ("a.>", "a", False),
        ("a.b", "a.b.c", False),
        ("a.b.c", "a.b", False),
        ("a.*", ">", False),
    ],
)
async def test_ing4_one_pattern_covers_another_or_not(pattern: str, subject: str, covered: bool) -> None:
    assert covers(pattern, subject) is covered
