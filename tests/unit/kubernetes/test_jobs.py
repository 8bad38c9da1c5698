"""A step as a Kubernetes Job."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from levada.engines.kubernetes.jobs import StepPods, job_document, merged
from levada.errors import Stalled
from levada.names import Kind
from levada.planners.plan import Job
from levada.resources import Ref
from levada.resources.base import Resources
from levada.resources.dataset import DatasetSpec
from levada.steps.io import IngestWork, Owner, StepInput

OWNER = Owner(kind=Kind.DATASET, namespace="team", name="flights", uid="u-1", generation=2)
SPEC = DatasetSpec.model_validate(
    {
        "source": {
            "type": "object",
            "object": {"uri": "s3://landing/", "credentials": {"secretRef": {"name": "landing"}}},
        },
        "format": {"type": "csv"},
    }
)
JOB = Job(
    name="flights-ingest-1",
    owner=Ref(Kind.DATASET, "team", "flights"),
    input=StepInput(
        job="flights-ingest-1", owner=OWNER, execution="batch-1", completions=3, work=IngestWork(batch="b", spec=SPEC)
    ),
    completions=3,
    parallelism=2,
    backoff_limit=4,
)
PODS = StepPods("registry/steps:1")


def made(job: Job = JOB, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return job_document(job, OWNER, labels or {}, PODS)


def container(job: Job = JOB) -> dict[str, Any]:
    (found,) = made(job)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_k8s1_parallel_work_is_an_indexed_job_with_a_limit_for_each_index() -> None:
    spec = made()["spec"]

    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 2)
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (4, 0)
    assert "activeDeadlineSeconds" not in spec
    assert "suspend" not in spec  # a queue's to write


def test_k8s2_a_pod_template_adds_to_what_pods_are_known_by_and_changes_none_of_it() -> None:
    metadata = {
        "labels": {"levada.dev/execution": None, "levada.dev/name": "other", "team": "air"},
        "annotations": {"levada.dev/input": "{}", "sidecar.istio.io/inject": "false"},
    }

    ours = made()["spec"]["template"]["metadata"]
    changed = made(replace(JOB, pod_template={"metadata": metadata}))["spec"]["template"]["metadata"]
    removed = made(replace(JOB, pod_template={"metadata": None}))["spec"]["template"]["metadata"]

    assert changed["labels"] == ours["labels"] | {"team": "air"}
    assert changed["annotations"] == ours["annotations"] | {"sidecar.istio.io/inject": "false"}
    assert removed == ours


def test_x5_an_input_that_does_not_fit_beside_a_pod_is_refused() -> None:
    work = IngestWork(batch="b" * 200_000, spec=SPEC)
    assert made(replace(JOB, input=JOB.input.model_copy(update={"work": work})))

    work = IngestWork(batch="b" * 210_000, spec=SPEC)
    with pytest.raises(Stalled, match=r"what the step ingest is told takes 20\d KiB, and 200 KiB fit"):
        made(replace(JOB, input=JOB.input.model_copy(update={"work": work})))


def test_x5_a_users_error_fails_the_job_at_once_and_an_evicted_pod_does_not_count() -> None:
    ignored, failing = made()["spec"]["podFailurePolicy"]["rules"]

    assert (ignored["action"], ignored["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (failing["action"], failing["onExitCodes"]["values"]) == ("FailJob", [65])


def test_x6_a_deadline_is_the_jobs() -> None:
    assert made(replace(JOB, deadline=timedelta(minutes=5)))["spec"]["activeDeadlineSeconds"] == 300


def test_k8s1_a_job_goes_with_its_owner_which_does_not_wait_for_it() -> None:
    (reference,) = made()["metadata"]["ownerReferences"]

    assert (reference["uid"], reference["controller"], reference["blockOwnerDeletion"]) == ("u-1", True, False)


def test_k8s1_the_input_comes_with_the_pod_as_a_file() -> None:
    template = made()["spec"]["template"]

    assert StepInput.from_bytes(template["metadata"]["annotations"]["levada.dev/input"].encode()) == JOB.input
    (item,) = template["spec"]["volumes"][0]["downwardAPI"]["items"]
    assert item["fieldRef"]["fieldPath"] == "metadata.annotations['levada.dev/input']"
    assert container()["command"][-1] == f"/etc/levada/{item['path']}"


def test_x3_the_stores_settings_come_from_the_namespaces_secrets_in_their_order() -> None:
    assert container()["envFrom"] == [{"secretRef": {"name": "levada-stores"}}]

    pods = replace(PODS, stores_secrets=("levada-stores", "my-postgres"))
    (step,) = job_document(JOB, OWNER, {}, pods)["spec"]["template"]["spec"]["containers"]
    assert step["envFrom"] == [{"secretRef": {"name": name}} for name in ("levada-stores", "my-postgres")]


def test_k8s2_pods_meet_the_restricted_standard() -> None:
    pod = made()["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    own = container()["securityContext"]
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_x3_secrets_that_the_work_names_come_by_reference() -> None:
    variables = {variable["name"]: variable.get("valueFrom") for variable in container()["env"]}

    reference = {"name": "landing", "key": "accessKey", "optional": True}
    assert variables["LEVADA_SECRET_LANDING_ACCESSKEY"] == {"secretKeyRef": reference}


def test_k8s1_resources_are_those_of_the_spec() -> None:
    limited = replace(JOB, resources=Resources(limits={"memory": "2Gi"}))

    assert container(limited)["resources"]["limits"] == {"memory": "2Gi"}
    assert "resources" not in container()


def test_k8s1_the_queues_label_is_passed_on_and_no_other() -> None:
    labels = made(labels={"kueue.x-k8s.io/queue-name": "team-a", "mine": "x"})["metadata"]["labels"]

    assert labels["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "mine" not in labels


def test_k8s1_a_pod_template_is_merged_in() -> None:
    template = {
        "metadata": {"labels": {"team": "a"}},
        "spec": {
            "priorityClassName": "high",
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "containers": [{"name": "step", "env": [{"name": "EXTRA", "value": "1"}]}, {"name": "proxy", "image": "p"}],
        },
    }

    pod = made(replace(JOB, pod_template=template))["spec"]["template"]

    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["labels"]["levada.dev/kind"] == "Dataset"
    assert pod["spec"]["priorityClassName"] == "high"
    step, proxy = pod["spec"]["containers"]
    assert step["image"] == "registry/steps:1"
    assert {"name": "EXTRA", "value": "1"} in step["env"]
    assert {"name": "HOME", "value": "/scratch"} in step["env"]
    assert proxy["name"] == "proxy"


@pytest.mark.parametrize(
    ("base", "patch", "expected"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": ["x"]}, {"a": ["y"]}, {"a": ["y"]}),
        ({"a": [{"name": "x", "v": 1}]}, {"a": [{"name": "x", "w": 2}]}, {"a": [{"name": "x", "v": 1, "w": 2}]}),
        ({"a": [{"q": 1}]}, {"a": [{"r": 2}]}, {"a": [{"q": 1}, {"r": 2}]}),
    ],
)
def test_k8s1_a_patch_is_merged(base: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(base)

    assert merged(base, patch) == expected
    assert repr(base) == before
