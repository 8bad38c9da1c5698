"""One active replica: operators as processes, a real API server, the Lease in it."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kubernetes import client

from levada import names
from levada.engines.kubernetes.cluster import Cluster, Conflict
from levada.engines.kubernetes.lease import Lease, LeaseLost, LeaseTimes
from levada.names import PLURALS, Kind
from levada.resources import Ref
from tests.support.space import Document, Space, done, land, pipeline
from tests.support.waiting import until

MODELS = (Kind.DATASET, Kind.FEATURE_SET, Kind.TRAINING_RUN)
TIMES = LeaseTimes(duration=2.0, renew_deadline=1.2, retry=0.2)


@pytest.fixture
def shared(empty_space: Space) -> Space:
    """A namespace whose operators share a Lease."""
    empty_space.settings |= {
        "LEVADA_LEASE_NAMESPACE": empty_space.namespace,
        "LEVADA_LEASE_DURATION": str(TIMES.duration),
        "LEVADA_LEASE_RENEW_DEADLINE": str(TIMES.renew_deadline),
        "LEVADA_LEASE_RETRY": str(TIMES.retry),
    }
    return empty_space


@pytest.fixture
def leases(connection: client.ApiClient) -> client.CoordinationV1Api:
    return client.CoordinationV1Api(connection)


def replica(space: Space, folder: Path, name: str) -> subprocess.Popen[bytes]:
    return space.replica(folder / f"{name}.log", LEVADA_LEASE_IDENTITY=name)


def holder(leases: client.CoordinationV1Api, space: Space) -> Any:
    found = leases.list_namespaced_lease(space.namespace).items
    return found[0].spec.holder_identity if found else None


def written_by_levada(space: Space) -> dict[str, str]:
    """The resourceVersion of everything in the namespace that an operator writes."""
    documents: list[Any] = [
        *space.batch.list_namespaced_job(space.namespace).items,
    ]
    found = {f"{d.metadata.name}/{d.metadata.uid}": d.metadata.resource_version for d in documents}
    for kind in Kind:
        where = (names.GROUP, names.VERSION, space.namespace, PLURALS[kind])
        for document in space.custom.list_namespaced_custom_object(*where)["items"]:
            found[f"{kind.value}/{document['metadata']['name']}"] = document["metadata"]["resourceVersion"]
    return found


def rows_of(space: Space) -> dict[str, list[Any]]:
    """What the catalogue holds of the namespace."""
    tables = {"artifacts": "key", "audit": "position"}
    with psycopg.connect(space.stores.postgres) as connection:
        return {
            table: connection.execute(
                f"SELECT * FROM {table} WHERE namespace = %s ORDER BY {order}".encode(), [space.namespace]
            ).fetchall()
            for table, order in tables.items()
        }


def test_k8s2_a_standby_is_passive_and_takes_over_when_the_active_one_is_killed(
    shared: Space, leases: client.CoordinationV1Api, tmp_path: Path
) -> None:
    first = replica(shared, tmp_path, "first")
    until(lambda: holder(leases, shared) == "first", first)
    second = replica(shared, tmp_path, "second")
    until(lambda: "waiting for the lease" in (tmp_path / "second.log").read_text(), second)
    land(shared, tmp_path)
    datasets = pipeline(shared, Kind.DATASET)
    shared.apply(datasets[0])
    shared.wait(Kind.DATASET, datasets[0]["metadata"]["name"], "Ready")
    assert holder(leases, shared) == "first"
    assert "active" not in re.findall("active|waiting", (tmp_path / "second.log").read_text())

    first.kill()
    first.wait()
    shared.apply(datasets[1])

    shared.wait(Kind.DATASET, datasets[1]["metadata"]["name"], "Ready")
    assert holder(leases, shared) == "second"
    (lease,) = leases.list_namespaced_lease(shared.namespace).items
    assert lease.spec.lease_transitions == 1


def test_k8s2_an_operator_that_ends_in_good_order_gives_the_lease_up(
    shared: Space, leases: client.CoordinationV1Api, tmp_path: Path
) -> None:
    shared.settings["LEVADA_LEASE_DURATION"] = "100"  # nobody who waits for it to run out passes this test
    first = replica(shared, tmp_path, "first")
    until(lambda: holder(leases, shared) == "first", first)

    first.terminate()
    assert first.wait(60) == 0

    assert holder(leases, shared) is None
    second = replica(shared, tmp_path, "second")
    until(lambda: holder(leases, shared) == "second", second)


def test_x5_a_stopped_leader_that_wakes_changes_nothing_and_ends(
    shared: Space, leases: client.CoordinationV1Api, tmp_path: Path
) -> None:
    land(shared, tmp_path)
    first = replica(shared, tmp_path, "first")
    until(lambda: holder(leases, shared) == "first", first)
    shared.apply(*pipeline(shared, *MODELS))
    until(lambda: len(shared.jobs()) >= 2, first)

    first.send_signal(signal.SIGSTOP)
    second = replica(shared, tmp_path, "second")
    until(lambda: holder(leases, shared) == "second", second)
    until(lambda: done(shared, "returns"), second)
    settled = until(lambda: settle(shared))
    first.send_signal(signal.SIGCONT)

    assert first.wait(60) == 1
    said = [line for line in (tmp_path / "first.log").read_text().splitlines() if "not the active one any more" in line]
    assert len(said) == 1
    assert (written_by_levada(shared), rows_of(shared)) == settled
    assert holder(leases, shared) == "second"
    made = [job.metadata.name for job in shared.jobs()]
    assert len(made) == len(set(made)) == 7


def settle(space: Space) -> tuple[dict[str, str], dict[str, list[Any]]] | None:
    """What there is, once every resource that has come of the pipeline is Ready or Complete, and all Jobs are over."""
    for kind in Kind:
        where = (names.GROUP, names.VERSION, space.namespace, PLURALS[kind])
        for document in space.custom.list_namespaced_custom_object(*where)["items"]:
            conditions = document.get("status", {}).get("conditions", ())
            if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                return None
    if not all(job.status.completion_time for job in space.jobs()):
        return None
    return written_by_levada(space), rows_of(space)


@pytest.fixture
def anyone(connection: client.ApiClient, empty_space: Space) -> Callable[[str], Lease]:
    """Makes leases of replicas by their name."""
    return lambda name: Lease(connection, empty_space.namespace, "levada-operator", name, TIMES)


@pytest.mark.anyio
async def test_k8s2_an_active_replica_that_loses_the_lease_to_another_may_not_write(
    anyone: Callable[[str], Lease],
) -> None:
    mine, other = anyone("mine"), anyone("other")
    await mine.acquire()
    mine.check()

    await mine.release()
    with pytest.raises(LeaseLost, match="not held any more"):
        mine.check()

    await other.acquire()
    other.check()


@pytest.mark.anyio
async def test_k8s2_a_lease_that_was_taken_ends_the_keeping_of_it(
    anyone: Callable[[str], Lease], leases: client.CoordinationV1Api, empty_space: Space
) -> None:
    mine = anyone("mine")
    await mine.acquire()

    lease = leases.read_namespaced_lease("levada-operator", empty_space.namespace)
    lease.spec.holder_identity = "other"
    leases.replace_namespaced_lease("levada-operator", empty_space.namespace, lease)

    with pytest.raises(LeaseLost):
        await mine.keep()
    await mine.release()  # leaves the other's alone
    assert holder(leases, empty_space) == "other"


def test_x5_children_are_applied_over_what_is_known_of_them_only(empty_space: Space, connection: Any) -> None:
    space = empty_space
    cluster = Cluster(connection, (space.namespace,))
    (dataset,) = [d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops"]
    wanted: Document = {**dataset, "metadata": {"name": "shops", "namespace": space.namespace}}

    made = cluster.apply(wanted, None)["metadata"]
    with pytest.raises(Conflict, match="there already"):
        cluster.apply(wanted, None)
    suspended = {**wanted, "spec": {**wanted["spec"], "suspend": True}}
    changed = cluster.apply(suspended, (made["uid"], made["resourceVersion"]))["metadata"]
    with pytest.raises(Conflict):
        cluster.apply(wanted, (made["uid"], made["resourceVersion"]))
    client.CustomObjectsApi(connection).delete_namespaced_custom_object(
        names.GROUP, names.VERSION, space.namespace, PLURALS[Kind.DATASET], "shops"
    )
    with pytest.raises(Conflict):  # it is not made again by who thinks that it is still there
        cluster.apply(wanted, (made["uid"], changed["resourceVersion"]))


def test_x5_a_replica_that_is_not_active_writes_nothing(empty_space: Space, connection: Any) -> None:
    def refuse() -> None:
        raise LeaseLost("not active")

    cluster = Cluster(connection, (empty_space.namespace,), refuse)
    ref = Ref(Kind.DATASET, empty_space.namespace, "shops")
    job: Document = {"metadata": {"name": "a", "namespace": empty_space.namespace, "uid": "1"}, "kind": "Dataset"}
    writes: list[Callable[[], Any]] = [
        lambda: cluster.make_job(job),
        lambda: cluster.delete_job(job),
        lambda: cluster.apply(job, None),
        lambda: cluster.write_status(ref, "1", {}),
        lambda: cluster.apply_inference_service(job, None),
        lambda: cluster.delete_inference_service(job),
    ]
    for write in writes:
        with pytest.raises(LeaseLost):
            write()
