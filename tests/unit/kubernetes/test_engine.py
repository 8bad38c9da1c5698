"""What the engine does when the API server does not take what it makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from kubernetes import client

from levada.engines.kubernetes.cluster import Cluster, Conflict, Missing, Refused
from levada.engines.kubernetes.engine import LOOK_AGAIN, KubernetesEngine
from levada.engines.kubernetes.inference import ScorerPods
from levada.engines.kubernetes.jobs import StepPods
from levada.names import Kind
from levada.planners import plan
from levada.planners.plan import Observed, Plan
from levada.resources import Dataset
from levada.stores.ports import Catalogue, Objects, Triggers

METADATA = {"name": "shops", "namespace": "team", "uid": "u1", "generation": 1, "resourceVersion": "5"}
SHOPS = {
    "apiVersion": "levada.dev/v1alpha1",
    "kind": "Dataset",
    "metadata": METADATA,
    "spec": {"source": {"type": "object", "object": {"uri": "s3://landing/"}}, "format": {"type": "csv"}},
}
PENDING = {
    "version": 1,
    "candidate": "a",
    "digest": f"sha256:{'0' * 64}",
    "state": "Pending",
    "since": "2026-01-01T00:00:00Z",
}
RETURNS = {
    "apiVersion": "levada.dev/v1alpha1",
    "kind": "Deployment",
    "metadata": METADATA | {"name": "returns"},
    "spec": {"model": {"candidate": "a"}, "suspend": True},
    "status": {"observedGeneration": 1, "versions": [PENDING], "lastVersion": 1},
}

LABELS = {"levada.dev/kind": "Dataset", "levada.dev/name": "shops"}
Document = dict[str, Any]

JOB: Document = {"metadata": METADATA | {"name": "shops-ingest-1", "labels": LABELS}, "spec": {}, "status": {}}


class Refusing(Cluster):
    """A cluster that makes nothing, and notes the statuses that are written and, as a catalogue, what is decided."""

    def __init__(self, why: Exception) -> None:
        super().__init__(client.ApiClient())
        self.statuses: list[Document] = []
        self.decided: list[tuple[str, str]] = []
        self._why = why

    def record_decision(self, ref: object, actor: str, action: str, reason: str, *_: object) -> None:
        self.decided.append((action, reason))

    def make_job(self, job: Document) -> Document | None:
        raise self._why

    def apply_inference_service(self, document: Document, known: tuple[str, str] | None) -> Document:
        raise self._why

    def write_status(self, ref: object, version: str, status: Document) -> Document:
        self.statuses.append(status)
        metadata = METADATA | {"name": getattr(ref, "name", ""), "resourceVersion": str(int(version) + 1)}
        return (SHOPS if metadata["name"] == "shops" else RETURNS) | {"metadata": metadata, "status": status}


def engine_of(cluster: Cluster) -> KubernetesEngine:
    """An engine that reads no results."""
    unused: Any = None
    ports = cast(Catalogue, cluster), cast(Objects, unused), cast(Triggers, _NoTriggers())
    return KubernetesEngine(cluster, *ports, StepPods("steps"), ScorerPods("b"), "s3://b/s", timedelta(seconds=10))


def running() -> Document:
    """The Dataset, whose status says that its ingestion runs."""
    dataset = Dataset.model_validate(SHOPS)
    planned = plan(dataset, Observed({dataset.ref: dataset}), datetime(2026, 1, 1, tzinfo=UTC))
    return SHOPS | {"status": planned.status.document()}


async def pauses(
    cluster: Cluster,
    kind: Kind,
    document: Document,
    count: int,
    patch: pytest.MonkeyPatch,
    jobs: Iterable[Document] = (),
) -> list[float]:
    """How long the engine means to wait after each of its first attempts, in seconds. It does not wait."""
    engine = engine_of(cluster)
    found: list[float] = []
    enough = asyncio.Event()

    def later(ref: Any, after: timedelta) -> None:
        found.append(after.total_seconds())
        if len(found) < count:
            engine._mark(ref)
        else:
            enough.set()

    patch.setattr(engine, "_later", later)
    for job in jobs:
        engine.job_changed(job)
    engine.resource_changed(kind, document)
    running = asyncio.create_task(engine.run())
    await enough.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return found[:count]


class Deleting(Refusing):
    """A cluster that notes which Jobs are deleted, and where the status has always changed."""

    def __init__(self) -> None:
        super().__init__(Conflict("the object has been modified"))
        self.deleted: list[str] = []

    def delete_job(self, job: Document) -> None:
        self.deleted.append(job["metadata"]["name"])

    def write_status(self, ref: object, version: str, status: Document) -> Document:
        raise self._why


@pytest.mark.parametrize(("generation", "deleted"), [(1, ["shops-1", "shops-0"]), (2, [])])
def test_x5_old_jobs_are_removed_once_the_status_holds_what_they_said(
    generation: int, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = running()
    dataset["metadata"] = METADATA | {"generation": generation}  # of another one, the status has to be written
    now = JOB | {"metadata": {**JOB["metadata"], "name": dataset["status"]["execution"]["job"]}}
    cluster = Deleting()

    asyncio.run(pauses(cluster, Kind.DATASET, dataset, 1, monkeypatch, [now, *map(failed, range(5))]))

    assert cluster.deleted == deleted


def failed(number: int) -> Document:
    """A Job of the Dataset's that has failed, the newer the higher its number."""
    when = {"name": f"shops-{number}", "uid": f"{number}", "creationTimestamp": f"2026-01-01T00:00:0{number}Z"}
    conditions = [{"type": "Failed", "status": "True"}]
    return JOB | {"metadata": {**JOB["metadata"], **when}, "status": {"conditions": conditions}}


class Listing(Cluster):
    """A cluster with a Dataset and its Job, which are deleted right after they were listed."""

    def __init__(self) -> None:
        super().__init__(client.ApiClient())
        self.engine = engine_of(self)

    def resources(self, kind: Kind) -> Iterator[Document]:
        if kind is Kind.DATASET:
            yield SHOPS
            self.engine.resource_changed(kind, SHOPS, gone=True)

    def jobs(self) -> Iterator[Document]:
        yield JOB
        self.engine.job_changed(JOB, gone=True)

    def pods(self) -> Iterator[Document]:
        yield from ()

    def inference_services(self) -> Iterator[Document]:
        yield from ()


def test_k8s1_what_is_deleted_during_a_look_does_not_come_back() -> None:
    cluster = Listing()
    cluster.engine.resource_changed(Kind.DATASET, SHOPS)
    cluster.engine.job_changed(JOB)

    asyncio.run(cluster.engine.look())

    assert not cluster.engine._picture.resources
    assert not cluster.engine._picture.job_keys()


class _NoTriggers:
    async def close(self) -> None:
        pass


def ready(status: Document) -> Document:
    (found,) = [condition for condition in status["conditions"] if condition["type"] == "Ready"]
    return dict(found)


def test_x5_without_kserve_it_is_tried_again_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Refusing(Missing("404 page not found"))

    found = asyncio.run(pauses(cluster, Kind.DEPLOYMENT, RETURNS, 4, monkeypatch))

    assert found == [0.2, 0.4, 0.8, 1.6]
    assert len(cluster.statuses) == 1
    assert "KServe is not installed" in ready(cluster.statuses[0])["message"]


def test_x5_a_conflict_that_stays_is_tried_again_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asyncio.run(pauses(Refusing(Conflict("changed")), Kind.DATASET, running(), 4, monkeypatch))

    assert found == [0.2, 0.4, 0.8, 1.6]


def test_x5_a_job_that_the_api_server_finds_invalid_stalls_its_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    why = Refused('Job "shops-ingest" is invalid: spec.template.spec.containers[0].image: Required value')
    why.__cause__ = client.ApiException(status=422)
    cluster = Refusing(why)

    found = asyncio.run(pauses(cluster, Kind.DATASET, running(), 2, monkeypatch))

    assert found == [LOOK_AGAIN.total_seconds()] * 2  # what refuses it may change unseen
    (status,) = cluster.statuses
    stalled = [condition for condition in status["conditions"] if condition["type"] == "Stalled"]
    assert [(c["status"], c["reason"]) for c in stalled] == [("True", "InvalidSpec")]
    assert "containers[0].image: Required value" in stalled[0]["message"]
    # It is asked for once more each time, which is one decision.
    assert cluster.decided == [("stalled", "InvalidSpec"), ("execution-started", "Progressing")]


def test_k8s1_a_warning_becomes_an_event_once_it_stands_in_the_status() -> None:
    async def told() -> list[str]:
        engine = engine_of(Refusing(Conflict("changed")))
        engine.resource_changed(Kind.DATASET, running())
        for warnings in (["7 rows were set aside"], ["7 rows were set aside", "2 files are empty"]):
            seen = engine._picture.seen(Dataset.model_validate(SHOPS).ref)
            assert seen is not None
            await engine._write_status_of(seen, Plan(seen.resource.status.model_copy(update={"warnings": warnings})))
        return [occurrence.note for occurrence in engine.events._waiting]

    assert asyncio.run(told()) == ["7 rows were set aside", "2 files are empty"]


def test_x5_an_error_of_the_operators_own_is_said_in_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Refusing(RuntimeError("something unforeseen"))

    asyncio.run(pauses(cluster, Kind.DATASET, running(), 3, monkeypatch))

    (status,) = cluster.statuses
    (said,) = [condition for condition in status["conditions"] if condition["type"] == "Reconciling"]
    assert said["reason"] == "Retrying"
    assert "the operator fails with RuntimeError: something unforeseen; its log has more" in said["message"]
