"""What has been seen of InferenceServices and their pods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from kubernetes import client

from levada.engines.kubernetes.cluster import Cluster
from levada.engines.kubernetes.inference import ScorerPods
from levada.engines.kubernetes.services import Services
from levada.names import Kind
from levada.resources import Ref

LATE = Ref(Kind.DEPLOYMENT, "team", "late")

Document = dict[str, Any]


def service(version: int, name: str = "late") -> Document:
    metadata = {"name": name, "namespace": "team", "resourceVersion": f"{version}"}
    address = {"url": f"http://{version}"}
    return {"metadata": metadata, "spec": {"predictor": {}}, "status": {"address": address}}


def pod(name: str, version: int = 1) -> Document:
    return {"metadata": {"name": name, "namespace": "team", "resourceVersion": f"{version}"}}


class Listing(Cluster):
    """A cluster with some InferenceServices; `meanwhile` is called after they were listed."""

    def __init__(self, *documents: Document) -> None:
        super().__init__(client.ApiClient())
        self._documents = documents
        self.meanwhile: Callable[[], None] = lambda: None

    def inference_services(self) -> Iterator[Document]:
        yield from self._documents
        self.meanwhile()


def seen(cluster: Listing) -> tuple[Services, list[Ref]]:
    changed: list[Ref] = []
    return Services(cluster, ScorerPods("levada"), changed.append), changed


def test_dep3_what_is_made_during_a_look_is_not_taken_for_gone() -> None:
    cluster = Listing()
    services, _ = seen(cluster)
    cluster.meanwhile = lambda: services.service_changed(service(5))

    asyncio.run(services.look())

    assert services.state(LATE).url == "http://5/v2/models/late"


def test_dep3_a_look_does_not_bring_back_an_older_state_and_concerns_nobody_by_itself() -> None:
    cluster = Listing(service(4))
    services, changed = seen(cluster)
    services.service_changed(service(5))

    asyncio.run(services.look())

    assert services.state(LATE).url == "http://5/v2/models/late"
    assert changed == [LATE]


def test_dep3_a_look_sees_what_is_gone() -> None:
    services, changed = seen(Listing())
    services.service_changed(service(5))

    asyncio.run(services.look())

    assert services.state(LATE).url is None
    assert changed == [LATE, LATE]


def test_dep3_pods_are_dropped_by_name_and_an_older_state_of_one_is_ignored() -> None:
    services, changed = seen(Listing())
    services.pod_changed(LATE, pod("a", 2))
    services.pod_changed(LATE, pod("a", 1))
    services.pod_changed(LATE, pod("b"))

    services.drop_pods({("team", "b"), ("other", "a")})

    assert services.pod_keys() == {("team", "a")}
    assert changed == [LATE] * 3
