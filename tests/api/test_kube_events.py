"""Kubernetes Events, as `kubectl describe` shows them."""

from __future__ import annotations

import json
from typing import Any

from kubernetes import client

from levada.engines.kubernetes.cluster import Cluster
from levada.engines.kubernetes.kube_events import EventRecorder, Occurrence
from levada.names import Kind
from levada.resources import Ref
from tests.api.conftest import Kubectl
from tests.e2e.pipelines import condition
from tests.support.space import Space, pipeline
from tests.support.waiting import until


def shops(space: Space) -> Any:
    return next(d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops")


def events_of(connection: client.ApiClient, space: Space) -> list[Any]:
    """Events about resources of Levada's, oldest first."""
    answer = client.EventsV1Api(connection).list_namespaced_event(space.namespace, _preload_content=False)
    found = [e for e in json.loads(answer.data)["items"] if e.get("reportingController") == "levada.dev/operator"]
    return sorted(found, key=lambda event: str(event["eventTime"]))


def test_k8s1_describe_shows_what_was_decided_and_why_it_stalled(
    space: Space, kubectl: Kubectl, connection: client.ApiClient
) -> None:
    space.apply(shops(space))  # nothing has landed
    message = condition(space.wait(Kind.DATASET, "shops", "Stalled"), "Stalled")["message"]
    until(lambda: any(event["type"] == "Warning" for event in events_of(connection, space)))

    told = kubectl("describe", "dataset", "shops", "-n", space.namespace).partition("Events:")[2]

    lines = [line.split() for line in told.splitlines() if "levada.dev/operator" in line]
    assert [words[:2] for words in lines] == [
        ["Warning", "SourceNotFound"]
    ]  # that it was started, its Job's Events say
    assert message in told


def test_k8s1_an_operator_that_begins_anew_says_nothing_twice(space: Space, connection: client.ApiClient) -> None:
    space.apply(shops(space))  # nothing has landed
    space.wait(Kind.DATASET, "shops", "Stalled")
    (said,) = until(lambda: events_of(connection, space))

    space.end()
    space.start()
    second = {**shops(space), "metadata": {"name": "other"}}
    space.apply(second)
    space.wait(Kind.DATASET, "other", "Stalled")

    both = until(lambda: found if len(found := events_of(connection, space)) == 2 else None)
    assert both[0] == said
    assert both[1]["regarding"]["name"] == "other"


def test_k8s1_repeated_events_are_one_that_counts(empty_space: Space, connection: client.ApiClient) -> None:
    recorder = EventRecorder(Cluster(connection))
    ref = Ref(Kind.DATASET, empty_space.namespace, "shops")
    for number in (1, 1, 2, 3):
        recorder._write(Occurrence(ref, "u", f"{number}", True, "NoRows", "Stalled", "there are no rows"))

    (event,) = events_of(connection, empty_space)
    assert event["series"]["count"] == 3
