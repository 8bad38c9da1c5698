"""Pipelines whose operator is disturbed in the middle of its work end as without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from levada.engines.local.servers import Endpoints
from levada.names import Kind
from tests.api.conftest import ROOT, Kubectl, new_space
from tests.api.test_lease import MODELS, holder, settle
from tests.support import busy_api
from tests.support.apiserver import ApiServer
from tests.support.busy_api import BusyApi, Card
from tests.support.controllers import PodRunner
from tests.support.outcome import Outcome, events, outcome
from tests.support.space import Space, land, pipeline
from tests.support.waiting import until

DEFINITIONS = ROOT / "crds"
APPLY = ("apply", "--server-side", "--force-conflicts", "-f")  # Helm may have made them, in a test before
SEED = 7
# A Job that is not made at the second attempt either, when the status says already that it is under way.
FIRST = {busy_api.Kind("post", "jobs"): [Card.CONTENDED] * 4}
REFUSALS = {Card.BUSY, Card.BUSY_FOR_A_SECOND}


@pytest.fixture(scope="module")
def undisturbed(
    api_server: ApiServer,
    connection: client.ApiClient,
    stores: Endpoints,
    pods: PodRunner,
    tmp_path_factory: pytest.TempPathFactory,
) -> Outcome:
    """What comes of the pipeline by itself."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with new_space(api_server, connection, stores, pods, folder) as space:
        land(space, folder)
        space.start()
        space.apply(*pipeline(space, *MODELS))
        space.wait(Kind.TRAINING_RUN, "returns", "Complete")
        until(lambda: settle(space), space.operator)
        until(lambda: any(event["action"] == "ModelReady" for event in events(space)))  # the last of all
        return outcome(space)


def come_to(space: Space, expected: Outcome) -> Outcome:
    """What has come of the pipeline, once that is what was expected, or no longer goes on."""
    space.wait(Kind.TRAINING_RUN, "returns", "Complete")
    with suppress(AssertionError):
        until(lambda: outcome(space) == expected, space.operator, seconds=30)
    return outcome(space)


@pytest.fixture
def shared(empty_space: Space) -> Iterator[Space]:
    """A namespace whose operators share a Lease."""
    empty_space.settings |= {"LEVADA_LEASE_NAMESPACE": empty_space.namespace, "LEVADA_LEASE_RETRY": "0.2"}
    yield empty_space
    empty_space.pods.release()


@pytest.fixture
def busy(shared: Space, tmp_path: Path) -> Iterator[BusyApi]:
    """What stands between the operators of the namespace and the API server."""
    with BusyApi(shared.api, SEED, FIRST) as relay:
        document = yaml.safe_load(shared.api.kubeconfig.read_text())
        document["clusters"][0]["cluster"] = {"server": relay.url}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(document))
        shared.settings["KUBECONFIG"] = str(path)
        yield relay
        shared.end_all()


def test_x5_an_api_server_that_answers_429_and_409_again_and_again_changes_nothing_of_what_comes_of_a_pipeline(
    undisturbed: Outcome, shared: Space, busy: BusyApi, tmp_path: Path
) -> None:
    space = shared
    land(space, tmp_path)
    space.start()
    space.apply(*pipeline(space, *MODELS))

    assert come_to(space, undisturbed) == undisturbed

    met = {verb: {card for kind, card in busy.drawn if kind.verb == verb} for verb in ("get", "watch", "post", "patch")}
    assert met["get"] >= REFUSALS
    assert met["watch"] >= REFUSALS
    assert met["post"] == met["patch"] == set(Card)
    statuses = [write for write in busy.accepted if write.kind.what.endswith("/status")]
    assert len(statuses) == len({(write.path, write.body) for write in statuses})  # none is written twice


@pytest.fixture
def older_definitions(kubectl: Kubectl, connection: client.ApiClient, tmp_path: Path) -> Iterator[None]:
    """The definitions as an older chart may have had them; afterwards they are the committed ones again."""
    older = []
    for path in sorted(DEFINITIONS.glob("*.yaml")):
        document = yaml.safe_load(path.read_text())
        document["spec"]["versions"][0]["additionalPrinterColumns"].pop()
        older.append(document)
    file = tmp_path / "older.yaml"
    file.write_text(yaml.safe_dump_all(older))
    kubectl(*APPLY, str(file))
    yield
    kubectl(*APPLY, str(DEFINITIONS))


@pytest.mark.usefixtures("older_definitions")
@pytest.mark.parametrize("way", ["recreated", "rolled"])
def test_k8s2_an_upgrade_in_the_middle_of_a_run_neither_repeats_nor_ends_its_jobs(
    undisturbed: Outcome, shared: Space, connection: client.ApiClient, kubectl: Kubectl, tmp_path: Path, way: str
) -> None:
    space, leases = shared, client.CoordinationV1Api(connection)
    land(space, tmp_path)
    old = {"LEVADA_LEASE_IDENTITY": "old", "LEVADA_STEPS_IMAGE": "levada/steps:1"}
    new = {"LEVADA_LEASE_IDENTITY": "new", "LEVADA_STEPS_IMAGE": "levada/steps:2", "LEVADA_RESYNC_SECONDS": "5"}
    first = space.replica(tmp_path / "old.log", **old)
    until(lambda: holder(leases, space) == "old", first)
    documents = pipeline(space, *MODELS)
    (late,) = [d for d in documents if d["kind"] == "Dataset" and d["metadata"]["name"] == "shops"]
    space.pods.hold_next = 1
    space.apply(*[d for d in documents if d is not late])
    until(lambda: space.pods.held, first)
    (running,) = space.jobs()

    if way == "rolled":  # the new one is there before the old one goes
        space.operator = space.replica(space.log, **new)
        until(lambda: "waiting for the lease" in space.log.read_text(), space.operator)
    kubectl(*APPLY, str(DEFINITIONS))
    first.terminate()
    assert first.wait(60) == 0
    if way == "recreated":
        space.operator = space.replica(space.log, **new)
    until(lambda: holder(leases, space) == "new", space.operator)
    space.apply(late)
    space.wait(Kind.DATASET, "shops", "Ready")
    (going,) = [job for job in space.jobs() if job.metadata.name == running.metadata.name]
    assert (going.metadata.uid, going.status.active) == (running.metadata.uid, 1)
    space.pods.release()

    assert come_to(space, undisturbed) == undisturbed
    images = {job.metadata.uid: job.spec.template.spec.containers[0].image for job in space.jobs()}
    assert images.pop(running.metadata.uid) == "levada/steps:1"
    assert set(images.values()) == {"levada/steps:2"}
