"""Servers that go away from the operator in the middle of its work, and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from levada.names import Kind
from tests.api.test_triggers import last, listening, publish
from tests.e2e.pipelines import condition
from tests.support.relay import Relay
from tests.support.space import Space, land, pipeline
from tests.support.waiting import until


@pytest.fixture
def relays() -> Iterator[Callable[[str], Relay]]:
    """Makes relays to the servers of URLs."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(Relay(urlsplit(url).port or 0))


def through(relay: Relay, url: str) -> str:
    """The URL by way of the relay."""
    return url.replace(f":{urlsplit(url).port}", f":{relay.port}", 1)


def behind_api(space: Space, relay: Relay, folder: Path) -> None:
    """Let the operator reach the API server by the relay."""
    document = yaml.safe_load(space.api.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = through(relay, space.api.url)
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    space.settings["KUBECONFIG"] = str(path)


def waits_for(space: Space, kind: Kind, name: str, store: str) -> bool:
    """Whether a resource says that it waits for a store, and since when."""
    for found in space.get(kind, name).get("status", {}).get("conditions", ()):
        if found["type"] == "Reconciling" and found["reason"] == "StoreUnavailable":
            return store in found["message"] and "since 20" in found["message"]
    return False


def test_x5_the_operator_goes_on_after_the_api_server_was_away(
    empty_space: Space, relays: Callable[[str], Relay], tmp_path: Path
) -> None:
    space, relay = empty_space, relays(empty_space.api.url)
    behind_api(space, relay, tmp_path)
    land(space, tmp_path)
    space.start()
    space.apply(*pipeline(space, Kind.DATASET, Kind.FEATURE_SET))
    until(space.jobs, space.operator)

    relay.cut()
    count = len(space.jobs())
    until(lambda: "does not answer" in space.log.read_text(), space.operator)
    assert len(space.jobs()) == count
    relay.restore()

    space.wait(Kind.FEATURE_SET, "orders", "Ready")
    made = [job.metadata.name for job in space.jobs()]
    assert len(made) == len(set(made)) == 4


def test_x5_watches_that_fall_silent_are_noticed(
    empty_space: Space, relays: Callable[[str], Relay], tmp_path: Path
) -> None:
    space, relay = empty_space, relays(empty_space.api.url)
    space.settings["LEVADA_RESYNC_SECONDS"] = "1"
    behind_api(space, relay, tmp_path)
    land(space, tmp_path)
    space.start()
    first, second = pipeline(space, Kind.DATASET)
    space.apply(first)
    space.wait(Kind.DATASET, first["metadata"]["name"], "Ready")

    relay.silence()
    space.apply(second)

    space.wait(Kind.DATASET, second["metadata"]["name"], "Ready")


def test_x5_a_resource_says_that_the_catalogue_does_not_answer_and_goes_on(
    empty_space: Space, relays: Callable[[str], Relay], tmp_path: Path
) -> None:
    space, relay = empty_space, relays(empty_space.stores.postgres)
    space.settings["LEVADA_POSTGRES_DSN"] = through(relay, space.stores.postgres)
    land(space, tmp_path)
    space.start()
    (shops,) = [d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops"]
    space.apply(shops)
    space.wait(Kind.DATASET, "shops", "Ready")

    relay.cut()
    (orders,) = [d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "orders"]
    space.apply(orders)
    until(lambda: waits_for(space, Kind.DATASET, "orders", "the catalogue 127.0.0.1"), space.operator)
    told = space.get(Kind.DATASET, "orders")["metadata"]["resourceVersion"]
    until(lambda: space.log.read_text().count("trying again") >= 5, space.operator)
    assert space.get(Kind.DATASET, "orders")["metadata"]["resourceVersion"] == told  # it is said once
    relay.restore()

    ready = space.wait(Kind.DATASET, "orders", "Ready")
    assert not condition(ready, "Reconciling")


def test_x5_a_resource_says_that_the_objects_do_not_answer_and_goes_on(
    empty_space: Space, relays: Callable[[str], Relay], tmp_path: Path
) -> None:
    space, relay = empty_space, relays(empty_space.stores.objects.endpoint)
    space.settings["LEVADA_OBJECTS_ENDPOINT"] = through(relay, space.stores.objects.endpoint)
    land(space, tmp_path)
    space.start()
    (shops,) = [d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops"]
    space.apply(shops)
    until(space.jobs, space.operator)
    relay.cut()

    until(lambda: waits_for(space, Kind.DATASET, "shops", "127.0.0.1"), space.operator)
    relay.restore()

    space.wait(Kind.DATASET, "shops", "Ready")


def test_x5_a_resource_says_that_messages_are_not_heard_and_hears_them_later(
    empty_space: Space, relays: Callable[[str], Relay], tmp_path: Path
) -> None:
    space, relay = empty_space, relays(empty_space.stores.nats.url)
    space.settings["LEVADA_NATS_URL"] = through(relay, space.stores.nats.url)
    subject = f"landing.{space.namespace}.shops"
    land(space, tmp_path)
    space.start()
    space.apply(listening(space, subject))
    space.wait(Kind.DATASET, "shops", "Ready")

    relay.cut()
    until(lambda: waits_for(space, Kind.DATASET, "shops", subject), space.operator)
    publish(space, subject, "one")
    relay.restore()

    until(lambda: last(space)[0] == f"{space.namespace}-one", space.operator)
    until(lambda: not condition(space.get(Kind.DATASET, "shops"), "Reconciling"), space.operator)
