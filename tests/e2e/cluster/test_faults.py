"""Whatever is killed in the middle of a pipeline on a real cluster, it ends as if nothing had been."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.e2e.cluster.installed import RELEASE, Document, Installed
from tests.e2e.pipelines import PIPELINE, small_pipeline
from tests.support.waiting import until
from tools.cluster import node
from tools.cluster.layout import own_state

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

ROWS = 600
# What the pipeline makes by itself: artifacts of the catalogue by type, Jobs, versions, scores.
UNDISTURBED = {
    "batch": 2,
    "features": 2,
    "split": 1,
    "candidate": 2,
    "evaluation": 2,
    "scores": 1,
    "jobs": 8,
    "versions": 1,
    "rows scored": ROWS,
}
OPERATOR = "app.kubernetes.io/component=operator"
SCORERS = "levada.dev/kind=Deployment"


@pytest.fixture
def pipeline(levada: Installed, tmp_path: Path) -> Iterator[list[Document]]:
    """The small pipeline, its raw data in the bucket, nothing of it applied yet."""
    levada.clear()
    levada.upload(small_pipeline(tmp_path, ROWS).folder)
    yield list(yaml.safe_load_all(PIPELINE))
    levada.clear()


@pytest.fixture
def served(levada: Installed, tmp_path: Path) -> list[Document]:
    """The small pipeline, whose model is served; it stays there for the next test that wants one."""
    pipeline = list(yaml.safe_load_all(PIPELINE))
    if not levada.get("modeldeployments.levada.dev")["items"]:
        levada.upload(small_pipeline(tmp_path, ROWS).folder)
        levada.apply(*pipeline)
    levada.wait("mdep/returns", "Ready")
    return pipeline


def is_done(levada: Installed) -> bool:
    runs = levada.get("scoringruns.levada.dev")["items"]
    return any(
        c["type"] == "Complete" and c["status"] == "True" for r in runs for c in r["status"].get("conditions", ())
    )


def made(levada: Installed) -> dict[str, int]:
    """How many there are of what a pipeline makes, as in UNDISTURBED."""
    sql = "SELECT type, count(*) FROM artifacts WHERE namespace = %s GROUP BY type"
    with psycopg.connect(levada.settings().postgres_dsn.get_secret_value()) as connection:
        found = {str(type): int(count) for type, count in connection.execute(sql, (levada.namespace,))}
    return found | {
        "jobs": len(levada.get("jobs")["items"]),
        "versions": len(levada.get("mdep/returns")["status"]["versions"]),
        "rows scored": levada.get("srun/all-orders")["status"]["scores"]["rows"],
    }


def kill_operator(levada: Installed) -> bool:
    return any(levada.kill(pod) for pod in levada.pods(OPERATOR, namespace=RELEASE))


def kill_step(levada: Installed) -> bool:
    return any(levada.kill(pod, "step") for pod in levada.pods("levada.dev/execution"))


def kill_scorer(levada: Installed) -> bool:
    for pod in levada.pods(SCORERS):
        if levada.kill(pod, "kserve-container"):
            levada.replace(pod)
            return True
    return False


@pytest.mark.timeout(900)
def test_x5_killing_operator_steps_and_scorers_ten_times_changes_nothing(
    levada: Installed, pipeline: list[Document]
) -> None:
    dice = random.Random(4)
    # No more steps than one of them is tried again.
    left = Counter({kill_operator: 4, kill_step: 3, kill_scorer: 3})

    def kill() -> None:
        threading.Event().wait(dice.uniform(0.3, 3))  # at some moment, not at a condition
        if ways := sorted((+left), key=lambda way: way.__name__):
            way = dice.choice(ways)
            left[way] -= way(levada)

    while +left:
        assert run(levada, pipeline, kill) == UNDISTURBED, left


def run(levada: Installed, pipeline: list[Document], meanwhile: Callable[[], None]) -> dict[str, int]:
    """The pipeline once more from nothing; what it has made."""
    levada.clear()
    levada.forget()
    levada.apply(*pipeline)

    def look() -> bool:
        if not (done := is_done(levada)):
            meanwhile()
        return done

    until(look, seconds=600)
    levada.wait("mdep/returns", "Ready")
    return made(levada)


@pytest.mark.timeout(600)
def test_k8s2_a_chart_upgrade_in_the_middle_of_a_run_neither_repeats_nor_ends_its_jobs(
    levada: Installed, pipeline: list[Document]
) -> None:
    running: set[str] = set()

    def upgrade() -> None:
        if not running:
            running.update(until(lambda: running_jobs(levada)))
            levada.upgrade("--set=operator.logLevel=debug", "--set=crds.keep=false")  # changes each definition as well

    try:
        assert run(levada, pipeline, upgrade) == UNDISTURBED
        assert running <= {job["metadata"]["uid"] for job in levada.get("jobs")["items"]}
    finally:
        levada.upgrade()


def running_jobs(levada: Installed) -> set[str]:
    return {job["metadata"]["uid"] for job in levada.get("jobs")["items"] if is_running(job)}


@pytest.mark.timeout(600)
def test_x5_a_leader_that_was_stopped_past_its_lease_wakes_in_the_middle_of_a_run_and_changes_nothing(
    levada: Installed, pipeline: list[Document]
) -> None:
    scale(levada, 2)
    stopped: list[str] = []

    def stop_and_wake() -> None:
        if not stopped:
            until(lambda: running_jobs(levada))
            leader = replica(levada, holder(levada))
            stopped.append(leader["metadata"]["uid"])
            assert levada.kill(leader, signal="SIGSTOP")
            try:
                until(lambda: holder(levada) not in ("", *stopped))
            finally:
                assert levada.kill(leader, signal="SIGCONT")  # before its liveness probe gives up

    try:
        assert run(levada, pipeline, stop_and_wake) == UNDISTURBED
        (state,) = replica(levada, stopped[0])["status"]["containerStatuses"]
        assert state["lastState"]["terminated"]["exitCode"] == 1  # by itself: killed, it would be 137
        assert holder(levada) not in ("", *stopped)
    finally:
        scale(levada, 1)


def scale(levada: Installed, replicas: int) -> None:
    """Have so many operators, and wait until they are there and the others are gone."""
    levada.run("scale", "deployment/levada-operator", f"--replicas={replicas}", namespace=RELEASE)
    levada.run("rollout", "status", "deployment/levada-operator", "--timeout=120s", namespace=RELEASE)
    until(lambda: len(levada.pods(OPERATOR, namespace=RELEASE)) == replicas)


def replica(levada: Installed, uid: str) -> Document:
    (found,) = [pod for pod in levada.pods(OPERATOR, namespace=RELEASE) if pod["metadata"]["uid"] == uid]
    return found


def holder(levada: Installed) -> str:
    """The uid of the operator's pod that is the active one; empty if none is."""
    return str(levada.get("lease", "levada-operator", namespace=RELEASE)["spec"].get("holderIdentity") or "")


@contextmanager
def asking(levada: Installed) -> Iterator[list[BaseException]]:
    """A client that goes on asking the scorer while the block runs; what failed."""
    url = levada.get("mdep/returns")["status"]["url"].replace("/v2/", "/v1/") + ":predict"
    row = {"order_id": 1, "shop": "s1", "price": 20.0, "colour": "red", "at": "2024-01-01T00:00:00Z"}
    columns = {i["name"] for i in levada.ask(url.replace("/v1/", "/v2/").removesuffix(":predict"))["inputs"]}
    body = {"instances": [{name: value for name, value in row.items() if name in columns}]}
    failed: list[BaseException] = []
    answered = 0
    ended = threading.Event()
    ask = levada.asker(url)

    def run() -> None:
        nonlocal answered
        while not ended.wait(0.05):
            try:
                ask(body)
                answered += 1
            except BaseException as error:
                failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield failed
    finally:
        ended.set()
        thread.join()
    assert answered > 0


@pytest.mark.parametrize("what", ["nats", "minio", "postgres", "etcd", "kube-apiserver"])
def test_x5_what_a_run_needs_may_go_away_and_come_back_while_the_scorer_answers(
    levada: Installed, served: list[Document], what: str
) -> None:
    wanted = 1 + max(d["status"]["batchCount"] for d in levada.get("datasets.levada.dev")["items"])
    with asking(levada) as failed:
        again = [run_again(d, what) for d in served if d["kind"] == "Dataset"]
        levada.apply(*again)
        until(lambda: any(is_running(job) for job in levada.get("jobs")["items"]))
        if what in ("etcd", "kube-apiserver"):
            node.kill_component(own_state(), what)
        else:
            (pod,) = levada.pods(f"app.kubernetes.io/component={what}", namespace=RELEASE)
            assert levada.kill(pod)
        until(lambda: quietly(lambda: all_observed(levada, wanted)), seconds=200)
    assert not failed
    for name in ("orders", "shops"):
        assert levada.get(f"dset/{name}")["status"]["batchCount"] == wanted


def run_again(dataset: Document, what: str) -> Document:
    """The manifest with a request for another ingestion."""
    metadata = {**dataset["metadata"], "annotations": {"levada.dev/requested-at": what}}
    return {**dataset, "metadata": metadata}


def is_running(job: Document) -> bool:
    return bool(job["status"].get("active"))


def all_observed(levada: Installed, batches: int) -> bool:
    datasets: list[Any] = levada.get("datasets.levada.dev")["items"]
    runs = levada.get("scoringruns.levada.dev")["items"]
    return all(d["status"].get("batchCount") == batches for d in datasets) and all(map(is_settled, [*datasets, *runs]))


def is_settled(resource: Document) -> bool:
    conditions = {c["type"]: c["status"] for c in resource["status"].get("conditions", ())}
    return conditions.get("Reconciling") != "True" and conditions.get("Ready") == "True"


def quietly(look: Callable[[], bool]) -> bool:
    """What is seen; nothing while the API server is away."""
    try:
        return look()
    except Exception:
        return False


def test_x5_deleting_in_any_order_never_waits_for_the_operator(levada: Installed, served: list[Document]) -> None:
    scale(levada, 0)
    try:
        for kind, name in [(d["kind"], d["metadata"]["name"]) for d in served]:
            plural = "modeldeployments" if kind == "Deployment" else f"{kind.lower()}s"
            levada.run("delete", f"{plural}.levada.dev", name, "--timeout=30s")
        until(lambda: not levada.pods("levada.dev/kind"))
        assert not levada.get("modelcandidates.levada.dev")["items"]
        assert not levada.get("inferenceservices.serving.kserve.io")["items"]
    finally:
        scale(levada, 1)
