"""The contract of `Bus`, and of the relay from the outbox to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import count

import nats
import pytest

from levada.engines.local.servers import NatsEndpoint
from levada.errors import StoreUnavailable
from levada.events import Event, EventType
from levada.names import Kind
from levada.settings import Settings
from levada.stores.nats import NatsBus
from levada.stores.nats.connection import Connection
from levada.stores.open import open_bus, open_online
from levada.stores.outbox import relay
from levada.stores.ports import StoreRefused
from levada.stores.postgres import PostgresCatalogue
from tests.contract.stores import samples
from tests.contract.stores.conftest import connection

pytestmark = pytest.mark.anyio


_numbers = count(1)


class Space:
    """A namespace of the test's own: a busy server may find old messages again in a stream that is made anew."""

    def __init__(self) -> None:
        self.namespace = f"space{next(_numbers)}"
        self.everything = f"levada.{self.namespace}.>"

    def event(self, name: str, number: int = 0, type: EventType = EventType.STALLED) -> Event:
        return samples.event(type, number, name, self.namespace)


@pytest.fixture
def space() -> Space:
    return Space()


async def read(bus: NatsBus, subject: str, durable: str, count: int) -> list[Event]:
    """The next events of a subject, acknowledged."""
    events = []
    async with asyncio.timeout(60):
        async for event, done in bus.subscribe(subject, durable):
            await done()
            events.append(event)
            if len(events) == count:
                break
    return events


async def test_x1_events_arrive_as_they_were_published_in_order(event_bus: NatsBus, space: Space) -> None:
    events = [space.event("flights", number) for number in range(3000)]
    await event_bus.publish(events)
    assert await read(event_bus, space.everything, "reader", 3000) == events


async def test_x1_an_event_is_a_cloud_event_on_its_subject(event_bus: NatsBus, bus: NatsEndpoint, space: Space) -> None:
    client = await nats.connect(bus.url, user=bus.user, password=bus.password)
    subscription = await client.subscribe(f"levada.{space.namespace}.dataset.flights.raw-data-extracted")
    await client.flush()
    event = space.event("flights", type=EventType.RAW_DATA_EXTRACTED)
    await event_bus.publish([event])
    message = await subscription.next_msg(timeout=30)
    await client.close()
    assert message.headers == {"Nats-Msg-Id": event.id, "Content-Type": "application/cloudevents+json"}
    document = json.loads(message.data)
    assert document == {
        "specversion": "1.0",
        "id": event.id,
        "type": "dev.levada.dataset.raw-data-extracted",
        "source": f"/levada/{space.namespace}/dataset/flights",
        "subject": "flights",
        "time": "2026-03-01T12:30:15.250000+00:00",
        "datacontenttype": "application/json",
        "data": event.data,
    }
    assert Event.from_cloud_event(document) == event


async def test_x1_an_event_that_is_published_twice_arrives_once(event_bus: NatsBus, space: Space) -> None:
    first, second = space.event("a"), space.event("b")
    await event_bus.publish([first, first])
    await event_bus.publish([first, second])
    assert await read(event_bus, space.everything, "reader", 2) == [first, second]


async def test_publishing_nothing_is_nothing(event_bus: NatsBus) -> None:
    await event_bus.publish([])


async def test_x1_subscribers_get_their_subject_only(event_bus: NatsBus, space: Space) -> None:
    events = [space.event("flights"), space.event("weather"), space.event("flights", type=EventType.RAW_DATA_EXTRACTED)]
    await event_bus.publish(events)
    assert await read(event_bus, f"levada.{space.namespace}.dataset.flights.*", "flights", 2) == [events[0], events[2]]
    assert await read(event_bus, f"levada.{space.namespace}.*.*.stalled", "stalled", 2) == events[:2]


async def test_x1_an_event_that_comes_while_one_waits_arrives(
    event_bus: NatsBus, bus: NatsEndpoint, space: Space
) -> None:
    reading = asyncio.create_task(read(event_bus, space.everything, "reader", 2))
    await _consumer_waits(bus, "reader")
    await event_bus.publish([space.event("a")])
    await event_bus.publish([space.event("b")])
    assert [event.name for event in await reading] == ["a", "b"]


async def test_x1_what_was_acknowledged_does_not_come_again(
    event_bus: NatsBus, bus: NatsEndpoint, space: Space
) -> None:
    events = [space.event("flights", number) for number in range(10)]
    await event_bus.publish(events)
    assert await read(event_bus, space.everything, "reader", 4) == events[:4]
    await _acknowledged(bus, "reader", 4)
    other = NatsBus(connection(bus))
    await event_bus.publish([space.event("last")])
    # Those that were handed out but not acknowledged come again after a minute; the new one comes now.
    assert (await read(other, space.everything, "reader", 1))[0] not in events[:4]
    await other.close()


async def test_x1_readers_of_one_name_share_the_events(event_bus: NatsBus, bus: NatsEndpoint, space: Space) -> None:
    events = [space.event("flights", number) for number in range(600)]
    others = [NatsBus(connection(bus)) for _ in range(2)]
    seen: list[Event] = []
    everything = asyncio.Event()

    async def take(reader: NatsBus) -> None:
        async for event, done in reader.subscribe(space.everything, "shared"):
            await done()
            seen.append(event)
            if len(seen) == len(events):
                everything.set()

    tasks = [asyncio.create_task(take(reader)) for reader in others]
    await event_bus.publish(events)
    await asyncio.wait_for(everything.wait(), 30)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for reader in others:
        await reader.close()
    assert sorted(event.id for event in seen) == sorted(event.id for event in events)


async def test_a_message_that_is_no_event_is_passed_over(event_bus: NatsBus, bus: NatsEndpoint, space: Space) -> None:
    await event_bus.publish([space.event("a")])
    client = await nats.connect(bus.url, user=bus.user, password=bus.password)
    for data in (b"not json", b"[]", b"{}", b'{"type": "x", "source": "y"}'):
        await client.jetstream().publish(f"levada.{space.namespace}.dataset.flights.stalled", data)
    await client.close()
    await event_bus.publish([space.event("b")])
    assert [event.name for event in await read(event_bus, space.everything, "reader", 2)] == ["a", "b"]


async def test_x1_a_stream_that_was_deleted_is_made_again(event_bus: NatsBus, bus: NatsEndpoint, space: Space) -> None:
    await event_bus.publish([space.event("a")])
    client = await nats.connect(bus.url, user=bus.user, password=bus.password)
    await client.jetstream().delete_stream("levada")
    await client.close()
    with pytest.raises(StoreUnavailable, match="answers, but has no stream"):
        await event_bus.publish([space.event("b")])
    await event_bus.publish([space.event("b")])
    assert [event.name for event in await read(event_bus, space.everything, "reader", 1)] == ["b"]


async def test_x5_a_dead_server_is_named_without_the_password(closed_port: int, space: Space) -> None:
    bus = NatsBus(Connection(f"nats://127.0.0.1:{closed_port}", "levada", "a-secret"))
    with pytest.raises(StoreUnavailable) as caught:
        await bus.publish([space.event("a")])
    assert str(caught.value).startswith(f"NATS 127.0.0.1:{closed_port} does not answer: ")
    assert "a-secret" not in str(caught.value)
    await bus.close()


async def test_wrong_credentials_are_refused_in_one_sentence_without_them(bus: NatsEndpoint, space: Space) -> None:
    for user, password in [(bus.user, "a-wrong-one"), ("", "")]:
        wrong = NatsBus(Connection(bus.url, user, password))
        with pytest.raises(StoreRefused, match="refuses this user") as caught:
            await wrong.publish([space.event("a")])
        for secret in ("a-wrong-one", bus.password):
            assert secret not in str(caught.value)
        await wrong.close()


async def test_no_address_is_told() -> None:
    for open_it in (open_bus, open_online):
        with pytest.raises(StoreUnavailable, match="LEVADA_NATS_URL is not set"):
            open_it(Settings.model_validate({"nats_url": ""}))


# --- relay ----------------------------------------------------------------------------------------------------------


class Dying(NatsBus):
    """Publishes, and dies before anyone hears of it."""

    async def publish(self, events: Sequence[Event]) -> None:
        await super().publish(events)
        raise StoreUnavailable("dead")


async def test_x1_what_is_committed_is_published_in_order(
    event_bus: NatsBus, catalogue: PostgresCatalogue, space: Space
) -> None:
    await asyncio.to_thread(samples.commit_history, catalogue, space.namespace)
    pending = catalogue.pending_events()
    assert await relay(catalogue, event_bus) == len(pending)
    assert catalogue.pending_events() == []
    assert await relay(catalogue, event_bus) == 0
    assert await read(event_bus, space.everything, "reader", len(pending)) == pending


async def test_x1_more_than_a_batch_is_published_in_one_go(
    event_bus: NatsBus, catalogue: PostgresCatalogue, space: Space
) -> None:
    def decide() -> None:
        for number in range(1100):
            event = space.event("flights", number)
            catalogue.record_decision(samples.ref(Kind.DATASET, "flights"), "levada", "stalled", "r", "m", event)

    await asyncio.to_thread(decide)
    assert await relay(catalogue, event_bus) == 1100
    assert catalogue.pending_events() == []


async def test_x1_a_relay_that_dies_after_publishing_publishes_again_and_the_bus_drops_it(
    event_bus: NatsBus, bus: NatsEndpoint, catalogue: PostgresCatalogue, space: Space
) -> None:
    await asyncio.to_thread(samples.commit_history, catalogue, space.namespace)
    pending = catalogue.pending_events()
    dying = Dying(connection(bus))
    with pytest.raises(StoreUnavailable, match="dead"):
        await relay(catalogue, dying)
    await dying.close()
    assert catalogue.pending_events() == pending
    last = space.event("late", type=EventType.SCORES_READY)
    await asyncio.to_thread(catalogue.commit_scores, samples.scores(), samples.URI, samples.DIGEST, last)
    await relay(catalogue, event_bus)
    assert await read(event_bus, space.everything, "reader", len(pending) + 1) == [*pending, last]


async def test_x1_events_wait_for_a_bus_that_is_down(
    catalogue: PostgresCatalogue, closed_port: int, space: Space
) -> None:
    await asyncio.to_thread(samples.commit_history, catalogue, space.namespace)
    pending = catalogue.pending_events()
    with pytest.raises(StoreUnavailable):
        await relay(catalogue, NatsBus(Connection(f"nats://127.0.0.1:{closed_port}")))
    assert catalogue.pending_events() == pending


async def _consumer_waits(bus: NatsEndpoint, durable: str) -> None:
    """Until a reader's request for messages stands at the server."""
    async with asyncio.timeout(30):
        client = await nats.connect(bus.url, user=bus.user, password=bus.password)
        while True:
            try:
                info = await client.jetstream().consumer_info("levada", durable)
            except nats.js.errors.NotFoundError:
                continue
            if info.num_waiting:
                break
        await client.close()


async def _acknowledged(bus: NatsEndpoint, durable: str, count: int) -> None:
    async with asyncio.timeout(30):
        client = await nats.connect(bus.url, user=bus.user, password=bus.password)
        while True:
            info = await client.jetstream().consumer_info("levada", durable)
            if info.ack_floor is not None and info.ack_floor.consumer_seq >= count:
                break
        await client.close()
