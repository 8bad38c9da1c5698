"""What a real API server makes of the custom resource definitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from levada import names
from levada.names import Kind
from levada.resources import RESOURCES, AnyResource
from levada.resources.conditions import Reason
from levada.resources.manifests import load
from tests.api.conftest import Kubectl
from tests.support.apiserver import ApiServer
from tests.support.manifests import BAD, GOOD, Bad, manifest
from tests.unit.planners.test_pipeline import pipeline
from tests.unit.planners.worlds import World, ref

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*/*.yaml"))


@dataclass(frozen=True)
class Api:
    """The six kinds in the namespace `default`."""

    custom: client.CustomObjectsApi

    def create(self, document: dict[str, Any], *, strict: bool = True, keep: bool = False) -> dict[str, Any]:
        """The object as the API server takes it; without `keep` nothing is stored."""
        return self.custom.create_namespaced_custom_object(  # type: ignore[no-any-return]
            names.GROUP,
            names.VERSION,
            "default",
            names.PLURALS[Kind(document["kind"])],
            document,
            field_validation="Strict" if strict else "Warn",
            **({} if keep else {"dry_run": "All"}),
        )

    def refusal(self, document: dict[str, Any]) -> str:
        """Why the API server refuses an object."""
        with pytest.raises(ApiException) as refused:
            self.create(document)
        assert refused.value.status in (400, 422)
        return str(json.loads(refused.value.body)["message"])

    def patch(self, kind: Kind, name: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.custom.patch_namespaced_custom_object(  # type: ignore[no-any-return]
            names.GROUP, names.VERSION, "default", names.PLURALS[kind], name, body
        )


@pytest.fixture(scope="module")
def api(connection: client.ApiClient) -> Api:
    """The API with the committed definitions."""
    return Api(client.CustomObjectsApi(connection))


def test_k8s1_the_definitions_are_structural_and_their_rules_affordable(api: Api, kubectl: Kubectl) -> None:
    # The API server refuses rules that could cost too much; what it only dislikes it says in this condition.
    found = yaml.safe_load(kubectl("get", "crd", "-o", "yaml"))["items"]
    assert {crd["spec"]["names"]["kind"] for crd in found} == set(Kind)
    for crd in found:
        conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
        assert conditions.get("NonStructuralSchema") is None
        assert (conditions["Established"], conditions["NamesAccepted"]) == ("True", "True")


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s1_a_good_manifest_is_taken(kind: Kind, api: Api) -> None:
    assert api.create(manifest(kind))["spec"]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_k8s1_a_bad_manifest_is_refused_as_the_loader_refuses_it(bad: Bad, api: Api) -> None:
    assert bad.api in api.refusal(bad.manifest())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_k8s1_every_example_is_taken(path: Path, api: Api) -> None:
    resources, problems = load([path])
    assert problems == []
    for resource in resources:
        document = resource.document()
        del document["status"]
        metadata = document["metadata"]
        document["metadata"] = {"name": metadata["name"], "labels": metadata["labels"]}
        api.create(document)


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s1_the_defaults_of_the_api_server_are_those_of_the_models(kind: Kind, api: Api) -> None:
    spec: Any = RESOURCES[kind].model_fields["spec"].annotation
    taken = spec.model_validate(api.create(manifest(kind))["spec"])
    assert taken == spec.model_validate(GOOD[kind])


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s1_a_new_object_says_that_nothing_has_looked_at_it_yet(kind: Kind, api: Api) -> None:
    assert api.create(manifest(kind))["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", {"uri": "s3://models/other.onnx"}),
        ("task", "regression"),
        ("provenance", {"source": "elsewhere"}),
    ],
)
def test_k8s1_which_model_a_candidate_is_cannot_change(field: str, value: Any, api: Api) -> None:
    name = f"fixed-{field}"
    api.create(manifest(Kind.MODEL_CANDIDATE, name), keep=True)
    with pytest.raises(ApiException) as refused:
        api.patch(Kind.MODEL_CANDIDATE, name, {"spec": {field: value}})
    assert f"spec.{field}: Invalid value" in json.loads(refused.value.body)["message"]
    assert "may not change; make another resource instead" in json.loads(refused.value.body)["message"]
    assert api.patch(Kind.MODEL_CANDIDATE, name, {"spec": {"retries": 7}})["spec"]["retries"] == 7


def test_k8s1_unknown_fields_are_pruned_but_in_free_mappings(api: Api) -> None:
    document = manifest(Kind.TRAINING_RUN, unknown=1)
    document["spec"]["algorithms"][0]["params"] = {"anything": {"goes": [1]}}
    taken = api.create(document, strict=False)["spec"]
    assert "unknown" not in taken
    assert taken["algorithms"][0]["params"] == {"anything": {"goes": [1]}}


def test_k8s1_kubectl_refuses_unknown_fields_by_itself(api: Api, kubectl: Kubectl, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(manifest(Kind.DATASET, "misspelt", sorce={})))
    assert 'unknown field "spec.sorce"' in kubectl("apply", "-f", str(path), fails=True)


def test_k8s1_the_spec_is_not_changed_with_the_status_nor_the_status_with_the_spec(api: Api) -> None:
    api.create(manifest(Kind.DATASET, "parts"), keep=True)
    changed = api.patch(Kind.DATASET, "parts", {"status": {"observedGeneration": 5}, "spec": {"suspend": True}})
    assert (changed["spec"]["suspend"], changed["status"]["observedGeneration"]) == (True, -1)
    assert changed["metadata"]["generation"] == 2


def test_k8s1_a_status_with_a_condition_given_twice_is_refused(api: Api) -> None:
    api.create(manifest(Kind.DATASET, "twice"), keep=True)
    ready = {"type": "Ready", "status": "True", "reason": "Succeeded", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    with pytest.raises(ApiException) as refused:
        api.custom.patch_namespaced_custom_object_status(
            names.GROUP, names.VERSION, "default", "datasets", "twice", {"status": {"conditions": [ready, ready]}}
        )
    assert "Duplicate value" in refused.value.body


STATUS: dict[Kind, dict[str, Any]] = {
    Kind.DATASET: {
        "latestBatch": {
            "id": "batch-1",
            "uri": "s3://levada/raw/",
            "digest": "sha256:0",
            "rows": 1234,
            "createdAt": "2026-01-01T00:00:00Z",
        }
    },
    Kind.FEATURE_SET: {
        "latestVersion": {
            "id": "features-1",
            "uri": "s3://levada/features/",
            "digest": "sha256:0",
            "rows": 99,
            "createdAt": "2026-01-01T00:00:00Z",
        }
    },
    Kind.TRAINING_RUN: {
        "best": {"name": "late-trees", "metric": "rocAuc", "value": 0.69, "since": "2026-01-01T00:00:00Z"}
    },
    Kind.MODEL_CANDIDATE: {"algorithm": "boostedTrees"},
    Kind.DEPLOYMENT: {"servingVersion": 3, "url": "http://late.example.com"},
    Kind.SCORING_RUN: {
        "candidate": "late-trees",
        "scores": {
            "id": "scoring-1",
            "uri": "s3://levada/scores/",
            "digest": "sha256:0",
            "rows": 7,
            "createdAt": "2026-01-01T00:00:00Z",
        },
    },
}
COLUMNS: dict[Kind, dict[str, Any]] = {
    Kind.DATASET: {"Batch": "batch-1", "Rows": 1234},
    Kind.FEATURE_SET: {"Version": "features-1", "Rows": 99},
    Kind.TRAINING_RUN: {"Best": "late-trees", "Metric": "rocAuc", "Value": 0.69},
    Kind.MODEL_CANDIDATE: {"Task": "classification", "Algorithm": "boostedTrees"},
    Kind.DEPLOYMENT: {"Version": 3, "URL": "http://late.example.com"},
    Kind.SCORING_RUN: {"Candidate": "late-trees", "Rows": 7},
}


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s1_a_table_shows_readiness_and_what_there_is(kind: Kind, api: Api, api_server: ApiServer) -> None:
    name = f"shown-{kind.value.lower()}"
    plural = names.PLURALS[kind]
    api.create(manifest(kind, name), keep=True)
    ready = {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "all is well"}
    conditions = [{**ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    body = {"status": {"observedGeneration": 1, "conditions": conditions, **STATUS[kind]}}
    api.custom.patch_namespaced_custom_object_status(names.GROUP, names.VERSION, "default", plural, name, body)
    table = _table(api_server, api.custom.api_client, f"/apis/{names.API_VERSION}/namespaces/default/{plural}/{name}")
    shown = table["rows"][0]["cells"]
    cells = {column["name"]: cell for column, cell in zip(table["columnDefinitions"], shown, strict=True)}
    assert {"Name": name, "Ready": "True", "Reason": "Succeeded", **COLUMNS[kind]}.items() <= cells.items()
    assert [c["name"] for c in table["columnDefinitions"]][-1] == "Age"
    assert {c["name"] for c in table["columnDefinitions"] if c["priority"] == 1} >= {"Message"}


def _table(api_server: ApiServer, connection: client.ApiClient, path: str) -> dict[str, Any]:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    headers = {"Accept": accept, "Authorization": f"Bearer {api_server.token}"}
    response = connection.rest_client.request("GET", api_server.url + path, headers=headers)
    return json.loads(response.data)  # type: ignore[no-any-return]


def test_k8s1_one_category_and_short_names_find_the_kinds(api: Api, kubectl: Kubectl) -> None:
    for kind in Kind:
        api.create(manifest(kind, "found"), keep=True)
    everything = kubectl("get", "levada", "-o", "name").split()
    for kind in Kind:
        printed = f"{kind.value.lower()}.levada.dev/found"
        assert printed in everything
        assert printed in kubectl("get", names.SHORT_NAMES[kind], "-o", "name").split()
        assert kubectl("get", printed, "-o", "name").split() == [printed]


def test_k8s1_deployments_stay_kubernetes_own(api: Api, kubectl: Kubectl) -> None:
    api.create(manifest(Kind.DEPLOYMENT, "ours"), keep=True)
    for name in ("deployments", "deployment", "deploy"):
        assert "No resources found" in kubectl("get", name)
    assert "ours" in kubectl("get", "mdep")


def test_k8s1_kubectl_explains_fields(api: Api, kubectl: Kubectl) -> None:
    assert "A model in ONNX and where it comes from." in kubectl("explain", "modelcandidates")
    assert "s3://bucket/prefix/, or file:///folder/" in kubectl("explain", "datasets.spec.source.object")
    assert "Absent: its newest." in kubectl("explain", "featureset.spec.lookups.asOf")
    assert "clustering" in kubectl("explain", "trainingruns.spec.task")


def test_k8s1_kubectl_waits_for_conditions(api: Api, kubectl: Kubectl) -> None:
    api.create(manifest(Kind.DATASET, "awaited"), keep=True)
    ready = {"type": "Ready", "status": "True", "reason": "Succeeded", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    body = {"status": {"observedGeneration": 1, "conditions": [{**ready, "observedGeneration": 1}]}}
    api.custom.patch_namespaced_custom_object_status(names.GROUP, names.VERSION, "default", "datasets", "awaited", body)
    assert "condition met" in kubectl("wait", "--for=condition=Ready", "--timeout=60s", "dset/awaited")


# --- what planners write ---------------------------------------------------------------------------------------------


def finished() -> World:
    world = pipeline()
    world.settle()
    return world


def running() -> World:
    world = pipeline()
    for each in list(world.resources):
        world.reconcile(each)
    return world


def failed() -> World:
    world = finished()
    world.edit(ref(Kind.TRAINING_RUN, "late"), gate={"minimum": {"rocAuc": 0.99}})
    world.edit(ref(Kind.DEPLOYMENT, "late"), cache={})
    world.edit(ref(Kind.DATASET, "flights"), format={"type": "jsonl"})
    world.reconcile(ref(Kind.DATASET, "flights"))
    world.fail(ref(Kind.DATASET, "flights"), Reason.INVALID_DATA, "long " * 5000)
    for each in list(world.resources):
        world.reconcile(each)
    return world


@pytest.mark.parametrize("world", [finished, running, failed])
def test_k8s1_every_status_is_stored_as_the_planners_write_it(world: Callable[[], World], api: Api) -> None:
    made = world()
    for resource in made.resources.values():
        written = resource.status.document()
        assert _store(api, resource, world.__name__, written)["status"] == written


def _store(api: Api, resource: AnyResource, prefix: str, status: dict[str, Any]) -> dict[str, Any]:
    document = resource.document()
    name = f"{prefix}-{resource.metadata.name}"[:50].rstrip("-")
    manifest = {**document, "metadata": {"name": name}}
    del manifest["status"]
    api.create(manifest, keep=True)
    return api.custom.patch_namespaced_custom_object_status(  # type: ignore[no-any-return]
        names.GROUP,
        names.VERSION,
        "default",
        names.PLURALS[resource.kind],
        name,
        {"status": status},
        field_validation="Strict",
    )
