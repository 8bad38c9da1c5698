"""GitOps against a real API server: what the operator writes shows as no diff, and Flux's own controllers at work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from levada import names
from levada.engines.kubernetes.cluster import Cluster
from levada.engines.local.servers import Endpoints
from levada.names import PLURALS, Kind
from levada.resources import Ref, TrainingRun
from levada.resources.manifests import load
from tests.api.conftest import Kubectl, new_space
from tests.e2e.pipelines import condition
from tests.support.apiserver import ApiServer
from tests.support.controllers import PodRunner
from tests.support.delivery import KINDS, OVERLAY, Delivery, edited, labels_of_flux
from tests.support.flux import FluxControllers, definitions
from tests.support.gitserver import GitServer
from tests.support.waiting import until
from tests.unit.planners.worlds import World
from tools.build import BuildError, ensure, module_folder

ROOT = Path(__file__).parents[2]
GITOPS = ROOT / "deploy" / "gitops"
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if list(path.glob("*.yaml")))
OVERLAYS = sorted((GITOPS / "apps" / "overlays").iterdir())
CLUSTERS = sorted((GITOPS / "clusters").rglob("*.yaml"))
METRICS = {"rocAuc": 0.7, "r2": 0.5, "silhouette": 0.5}

Document = dict[str, Any]


@pytest.fixture
def namespace(connection: client.ApiClient) -> str:
    """A namespace in which no operator works."""
    made = client.CoreV1Api(connection).create_namespace({"metadata": {"generateName": "gitops-"}})
    return str(made.metadata.name)


@pytest.fixture
def apply(kubectl: Kubectl, tmp_path: Path) -> Callable[..., list[Document]]:
    """Applies manifests on the server as a GitOps tool does; the objects as they are then."""

    def run(documents: list[Document], namespace: str, *options: str) -> list[Document]:
        path = tmp_path / "applied.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        applied = kubectl(
            *("apply", "--server-side", "--field-manager=argocd-controller", "--show-managed-fields", "-o", "json"),
            *("-n", namespace, "-f", str(path), *options),
        )
        found = json.loads(applied)
        return list(found.get("items", [found]))

    return run


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_k8s3_nothing_that_the_operator_writes_shows_as_a_diff_to_git(
    example: Path,
    namespace: str,
    connection: client.ApiClient,
    apply: Callable[..., list[Document]],
) -> None:
    manifests = [d for path in sorted(example.glob("*.yaml")) for d in yaml.safe_load_all(path.read_text())]
    apply(manifests, namespace)

    _carry_out(example, namespace, Cluster(connection))
    live = apply(manifests, namespace, "--dry-run=server")  # what applying Git once more would give

    custom = client.CustomObjectsApi(connection)
    for manifest, applied in zip(manifests, live, strict=True):
        kind, name = Kind(manifest["kind"]), manifest["metadata"]["name"]
        now = custom.get_namespaced_custom_object(names.GROUP, names.VERSION, namespace, PLURALS[kind], name)
        assert now["status"]["conditions"], "the operator has written nothing"
        assert applied == now  # resourceVersion and managedFields included
        assert _differences(manifest, now) == []
        assert now["metadata"]["generation"] == 1
        writers = {entry["manager"]: entry.get("subresource") for entry in now["metadata"]["managedFields"]}
        assert writers == {"argocd-controller": None, "levada": "status"}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_k8s3_the_example_repository_is_taken_by_the_api_server(
    overlay: Path, kubectl: Kubectl, apply: Callable[..., list[Document]], connection: client.ApiClient
) -> None:
    documents = list(yaml.safe_load_all(kubectl("kustomize", str(overlay))))
    assert sorted(d["kind"] for d in documents) == ["Dataset", "Deployment", "FeatureSet", "TrainingRun"]
    (namespace,) = {d["metadata"]["namespace"] for d in documents}
    assert namespace == f"flights-{overlay.name}"
    client.CoreV1Api(connection).create_namespace({"metadata": {"name": namespace}})

    taken = apply(documents, namespace, "--dry-run=server")

    specs = {d["kind"]: d["spec"] for d in taken}
    assert specs["Dataset"]["source"]["object"]["uri"] == f"s3://landing-{overlay.name}/flights/"
    assert specs["Deployment"]["promotion"] == {"staging": "automatic", "production": "manual"}[overlay.name]
    assert not any(d["kind"] == "Secret" for d in documents)


@pytest.fixture(scope="module")
def tools_of_gitops(kubectl: Kubectl) -> Iterator[None]:
    """The definitions of Flux and Argo CD, for as long as these tests run."""
    try:
        folders = [*definitions(), module_folder("argocd", "github.com/argoproj/argo-cd/v3") / "manifests/crds"]
    except BuildError:
        pytest.skip("the definitions of Flux and Argo CD cannot be had here: run 'make tools' to see why")
    files = [f"--filename={path}" for folder in folders for path in sorted(folder.glob("*_*.yaml"))]
    files += [f"--filename={path}" for path in sorted(folders[-1].glob("*-crd.yaml"))]
    kubectl("apply", "--server-side", *files)
    until(lambda: _are_established(json.loads(kubectl("get", "crd", "-o", "json"))["items"]))
    yield
    kubectl("delete", "--wait=false", *files)


def _are_established(definitions: list[Document]) -> bool:
    conditions = [definition.get("status", {}).get("conditions") or () for definition in definitions]
    return all(any(c["type"] == "Established" and c["status"] == "True" for c in each) for each in conditions)


@pytest.fixture(scope="module")
def flux(
    api_server: ApiServer, tools_of_gitops: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FluxControllers]:
    """Flux's controllers at work."""
    try:
        source, kustomize = ensure(["source-controller", "kustomize-controller"])
    except BuildError:
        pytest.skip("the Flux controllers cannot be built here: run 'make tools' to see why")
    with FluxControllers(source, kustomize, api_server, tmp_path_factory.mktemp("flux")) as running:
        yield running


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: str(path.relative_to(GITOPS / "clusters")))
def test_k8s3_what_the_example_tells_flux_and_argo_cd_is_taken(
    path: Path, namespace: str, apply: Callable[..., list[Document]], tools_of_gitops: None
) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    for document in documents:
        del document["metadata"]["namespace"]
    assert len(apply(documents, namespace, "--dry-run=server")) == len(documents)
    for document in documents:
        spec = document["spec"]
        place = spec.get("path") or spec.get("source", {}).get("path")
        if place is not None:
            assert (GITOPS / place / "kustomization.yaml").is_file()


@pytest.fixture(scope="module")
def delivery(
    api_server: ApiServer,
    connection: client.ApiClient,
    stores: Endpoints,
    pods: PodRunner,
    flux: FluxControllers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Delivery]:
    """A namespace with an operator, which Flux has filled from the example repository. Tests leave it as they found it.

    In the end it is taken out of Flux, which takes it out of the cluster.
    """
    folder = tmp_path_factory.mktemp("delivery")
    with new_space(api_server, connection, stores, pods, folder) as space, GitServer(folder) as git:
        space.start()
        delivery = Delivery(space, git)
        delivery.prepare()
        commit = git.commit("The pipeline")
        delivery.start()
        delivery.wait_for(commit)
        yield delivery
        delivery.end()
        for kind in Kind:
            until(lambda kind=kind: not delivery.there(kind))  # type: ignore[misc]


def test_k8s3_flux_brings_a_pipeline_from_git_and_then_finds_nothing_to_correct(delivery: Delivery) -> None:
    space = delivery.space
    kinds = {**KINDS, Kind.DEPLOYMENT: "flights-late"}
    before = {kind: space.get(kind, name) for kind, name in kinds.items()}
    told = delivery.changes()
    assert sorted(told) == sorted(f"{kind}/{space.namespace}/{name} created" for kind, name in kinds.items())

    for _ in range(3):
        delivery.reconcile()

    assert delivery.ready()["status"] == "True"
    assert delivery.changes() == told
    for kind, name in kinds.items():
        now = space.get(kind, name)
        assert now == before[kind]  # resourceVersion and managedFields included
        assert now["metadata"]["generation"] == 1
    # What it made is not Flux's: it goes with the TrainingRun.
    run = before[Kind.TRAINING_RUN]
    best = space.get(Kind.MODEL_CANDIDATE, run["status"]["best"]["name"])
    assert best["metadata"]["ownerReferences"][0]["uid"] == run["metadata"]["uid"]
    assert labels_of_flux(run)
    assert not labels_of_flux(best)
    # In production a model waits for approval, which Flux is told to be no fault.
    assert condition(before[Kind.DEPLOYMENT], "Ready")["reason"] == "WaitingForApproval"


def test_k8s3_a_commit_is_rolled_out_and_a_revert_rolls_back(delivery: Delivery) -> None:
    space = delivery.space
    first = space.get(Kind.TRAINING_RUN, "flights-late")

    edited(delivery.git.clone / "apps/base/training.yaml", "maxDepth: 4", "maxDepth: 2")
    commit = delivery.git.commit("Smaller trees")
    delivery.pull()
    delivery.wait_for(commit)

    smaller = space.get(Kind.TRAINING_RUN, "flights-late")
    assert smaller["spec"]["algorithms"][1]["params"] == {"maxDepth": 2}
    assert smaller["status"]["best"]["name"] != first["status"]["best"]["name"]

    jobs = {job.metadata.name for job in space.jobs()}
    commit = delivery.git.revert()
    delivery.pull()
    delivery.wait_for(commit)

    again = space.get(Kind.TRAINING_RUN, "flights-late")
    assert again["spec"] == first["spec"]
    assert again["status"]["best"]["name"] == first["status"]["best"]["name"]
    assert {job.metadata.name for job in space.jobs()} <= jobs  # what was made before is not made again


def test_k8s3_what_is_changed_by_hand_is_put_back(delivery: Delivery) -> None:
    space = delivery.space
    before, told = space.get(Kind.DATASET, "flights"), len(delivery.changes())
    where = (names.GROUP, names.VERSION, space.namespace, PLURALS[Kind.DATASET], "flights")
    by_hand = {"spec": {"schedule": {"concurrencyPolicy": "Allow"}}}
    space.custom.patch_namespaced_custom_object(*where, by_hand, field_manager="kubectl-edit")
    assert space.wait(Kind.DATASET, "flights", "Ready")["spec"] != before["spec"]  # the operator goes by it meanwhile

    delivery.reconcile()

    after = space.wait(Kind.DATASET, "flights", "Ready")
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 2  # there and back
    assert delivery.changes()[told:] == [f"Dataset/{space.namespace}/flights configured"]


def test_k8s3_flux_names_the_resource_that_a_person_must_mend(delivery: Delivery) -> None:
    space, overlay = delivery.space, delivery.git.clone / OVERLAY
    place = f"s3://{space.stores.objects.bucket}/nowhere/"
    source = {"type": "object", "object": {"uri": place, "pattern": "*.csv.gz"}}
    metadata = {"name": "planes"}
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": "Dataset",
        "metadata": metadata,
        "spec": {"source": source, "format": {"type": "csv"}},
    }
    (overlay / "planes.yaml").write_text(yaml.safe_dump(manifest))
    edited(overlay / "kustomization.yaml", "  - ../../base\n", "  - ../../base\n  - planes.yaml\n")
    delivery.git.commit("Planes from nowhere")
    delivery.pull()

    until(lambda: delivery.ready().get("reason") == "HealthCheckFailed")

    assert delivery.ready()["status"] == "False"
    assert f"Dataset/{space.namespace}/planes status: 'Failed'" in delivery.ready()["message"]
    assert place in condition(space.get(Kind.DATASET, "planes"), "Stalled")["message"]
    commit = delivery.git.revert()
    delivery.pull()
    delivery.wait_for(commit)
    assert delivery.there(Kind.DATASET) == ["flights"]


def _carry_out(example: Path, namespace: str, cluster: Cluster) -> None:
    """Write the statuses that an operator would leave once all is done."""
    resources, problems = load(sorted(example.glob("*.yaml")))
    assert problems == []
    runs = [resource for resource in resources if isinstance(resource, TrainingRun)]
    named = [f"{run.metadata.name}-{algorithm.name}" for run in runs for algorithm in run.spec.algorithms]
    world = World(local=True, metrics={word: METRICS for name in named for word in name.split("-")})
    world.add(*resources)
    world.settle()
    there = {_key(document): document for kind in Kind for document in cluster.resources(kind)}
    for resource in resources:
        ref = replace(resource.ref, namespace=namespace)
        version = there[ref]["metadata"]["resourceVersion"]
        cluster.write_status(ref, version, world.resources[resource.ref].status.document())


def _key(document: Document) -> Ref:
    metadata = document["metadata"]
    return Ref(Kind(document["kind"]), metadata["namespace"], metadata["name"])


def _differences(wanted: Any, there: Any, path: str = "") -> list[str]:
    """Fields of a manifest that are not in the live object as they stand in the manifest."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        return [d for key in wanted for d in _differences(wanted[key], there.get(key), f"{path}.{key}")]
    if isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        return [d for i in range(len(wanted)) for d in _differences(wanted[i], there[i], f"{path}[{i}]")]
    return [] if wanted == there else [f"{path}: {wanted!r} is {there!r}"]
