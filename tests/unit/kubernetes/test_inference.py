"""A Deployment as an InferenceService."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from levada.engines.kubernetes.inference import ScorerPods, covers, inference_service
from levada.names import Kind
from levada.planners.plan import ServedVersion, Serving
from levada.resources import Ref
from levada.resources.base import Resources
from levada.serving.config import ScorerConfig
from levada.steps.io import Owner

OWNER = Owner(kind=Kind.DEPLOYMENT, namespace="team", name="late", uid="u-1", generation=3)
SERVING = Serving(
    name="late",
    owner=Ref(Kind.DEPLOYMENT, "team", "late"),
    versions=(
        ServedVersion(1, "a", "models/team/a/", f"sha256:{'0' * 64}", 0),
        ServedVersion(2, "b", "models/team/b/", f"sha256:{'1' * 64}", 100),
    ),
)
PODS = ScorerPods("levada")


def made(serving: Serving = SERVING, pods: ScorerPods = PODS) -> dict[str, Any]:
    return inference_service(serving, OWNER, pods)


def predictor(serving: Serving = SERVING) -> dict[str, Any]:
    return dict(made(serving)["spec"]["predictor"])


def test_dep1_kserve_brings_the_model_that_serves() -> None:
    assert predictor()["model"]["storageUri"] == "s3://levada/models/team/b/"


def test_dep3_the_scorer_is_told_the_versions_where_they_are_and_their_weights() -> None:
    (variable,) = predictor()["model"]["env"]
    config = ScorerConfig.from_bytes(variable["value"].encode())

    assert variable["name"] == "LEVADA_SCORER_CONFIG"
    assert (config.name, config.namespace, config.recording) == ("late", "team", True)
    assert [(v.version, v.model_prefix or str(v.folder), v.weight) for v in config.versions] == [
        (1, "models/team/a/", 0),
        (2, "/mnt/models", 100),
    ]
    assert config.drain_seconds > 0


def test_dep3_another_set_of_versions_is_another_template_of_pods_and_the_same_set_is_not() -> None:
    first = predictor()["annotations"]
    other = predictor(replace(SERVING, versions=SERVING.versions[:1]))["annotations"]

    assert first == predictor()["annotations"]
    assert (first["levada.dev/serves"], other["levada.dev/serves"]) == ("2", "1")
    assert first["levada.dev/set"] != other["levada.dev/set"]


def test_dep3_old_scorers_go_when_new_ones_are_ready_and_not_before() -> None:
    strategy = predictor()["deploymentStrategy"]

    assert strategy["type"] == "RollingUpdate"
    assert strategy["rollingUpdate"]["maxUnavailable"] == 0


def test_dep6_replicas_are_fixed_or_follow_the_load() -> None:
    fixed = made(replace(SERVING, replicas=3))
    scaled = made(replace(SERVING, min_replicas=2, max_replicas=5, target_cpu_percent=70))

    def scale(service: dict[str, Any]) -> tuple[Any, ...]:
        spec = service["spec"]["predictor"]
        return spec["minReplicas"], spec["maxReplicas"], spec.get("scaleMetric"), spec.get("scaleTarget")

    assert scale(fixed) == (3, 3, None, None)
    assert fixed["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
    assert scale(scaled) == (2, 5, "cpu", 70)
    assert scaled["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "hpa"


def test_k8s1_it_goes_with_its_deployment_and_its_pods_can_be_found() -> None:
    metadata = made()["metadata"]
    (reference,) = metadata["ownerReferences"]

    assert (reference["kind"], reference["uid"], reference["blockOwnerDeletion"]) == ("Deployment", "u-1", False)
    assert (metadata["labels"]["levada.dev/kind"], metadata["labels"]["levada.dev/name"]) == ("Deployment", "late")


def test_k8s2_scorers_are_restricted_and_have_no_rights_in_the_cluster() -> None:
    spec = predictor()

    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "levada-scorer"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_dep1_the_container_is_named_by_the_runtime_as_kserve_insists() -> None:
    assert "name" not in predictor()["model"]


def test_x3_the_stores_settings_come_from_the_namespaces_secrets_in_their_order() -> None:
    assert predictor()["model"]["envFrom"] == [{"secretRef": {"name": "levada-stores"}}]

    pods = replace(PODS, stores_secrets=("levada-stores", "my-postgres"))
    model = made(pods=pods)["spec"]["predictor"]["model"]
    assert model["envFrom"] == [{"secretRef": {"name": name}} for name in ("levada-stores", "my-postgres")]


@pytest.mark.parametrize("expose", [False, True])
def test_dep1_scorers_are_reachable_from_outside_only_where_the_operator_is_told_so(expose: bool) -> None:
    labels = made(pods=replace(PODS, expose=expose))["metadata"]["labels"]

    assert ("networking.kserve.io/visibility" in labels) is not expose


def test_dep1_resources_are_the_containers() -> None:
    resources = Resources.model_validate({"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}})

    assert predictor(replace(SERVING, resources=resources))["model"]["resources"] == {
        "requests": {"cpu": "100m"},
        "limits": {"memory": "1Gi"},
    }


def test_dep1_what_others_add_is_theirs_and_what_they_change_is_noticed() -> None:
    wanted = made()
    there = deepcopy(wanted)
    there["status"] = {"url": "x"}
    there["spec"]["predictor"]["model"]["resources"] = {"limits": {"cpu": "1"}}
    assert covers(there, wanted)

    there["spec"]["predictor"]["model"]["env"].append({"name": "ELSE"})
    assert not covers(there, wanted)
    assert not covers({}, wanted)
    assert json.dumps(wanted)  # a plain document
