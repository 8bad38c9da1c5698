"""What InferenceServices and their pods say of versions."""

from __future__ import annotations

from typing import Any

import pytest

from levada.engines.kubernetes.inference_states import serving_state
from levada.planners.plan import ServingState
from levada.resources.conditions import Reason
from levada.serving.config import GivenUp

SERVICE: dict[str, Any] = {
    "metadata": {"name": "late"},
    "spec": {"predictor": {"annotations": {"levada.dev/serves": "2", "levada.dev/set": "new"}}},
    "status": {"url": "http://late.example.com", "address": {"url": "http://late-predictor.team.svc.cluster.local"}},
}


def pod(name: str, of: str, serves: str, *, ready: bool = True, **more: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    annotations = {"levada.dev/set": of, "levada.dev/serves": serves}
    container = {"name": "kserve-container", "ready": ready, "state": more.pop("state", {"running": {}})}
    container |= {"lastState": more.pop("last", {})}
    status = {"conditions": [condition], "containerStatuses": [container], **more.pop("status", {})}
    return {"metadata": {"name": name, "annotations": annotations, **more}, "status": status}


def observe(*pods: dict[str, Any], service: dict[str, Any] = SERVICE) -> ServingState:
    return serving_state(service, pods, external=False)


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


CRASHED: dict[str, Any] = {"waiting": {"reason": "CrashLoopBackOff"}}


def test_dep1_versions_are_ready_when_all_new_scorers_are() -> None:
    state = observe(pod("a", "new", "2"), pod("b", "new", "2"))

    assert state.ready_versions == {2}
    assert (state.message, dict(state.failed)) == ("", {})


def test_dep3_while_old_scorers_answer_the_new_set_is_not_ready() -> None:
    state = observe(pod("old", "old", "1"), pod("a", "new", "2"))

    assert state.ready_versions == {1}
    assert state.message == "1 of 1 new scorers are ready"


def test_dep4_a_version_that_old_scorers_only_keep_warm_is_not_the_one_that_serves() -> None:
    assert observe(pod("old", "old", "2"), pod("a", "new", "1", ready=False)).ready_versions == {2}


def test_dep3_scorers_that_are_ending_do_not_count() -> None:
    assert observe(pod("old", "old", "1", deletionTimestamp="now"), pod("a", "new", "2")).ready_versions == {2}


def test_dep3_a_scorer_that_gave_up_says_which_version_cannot_be_served() -> None:
    why = "model.onnx has another digest"
    message = GivenUp(failed={2: why}).to_bytes().decode()
    state = observe(pod("old", "old", "1"), pod("a", "new", "2", ready=False, state=CRASHED, last=ended(3, message)))

    assert state.ready_versions == {1}
    assert {v: (error.reason, error.message) for v, error in state.failed.items()} == {2: (Reason.NOT_READY, why)}
    assert state.message == why


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (ended(137, reason="OOMKilled"), "more memory than it may (pod a): raise spec.resources.limits.memory"),
        (ended(1), "the scorer in the pod a ended with exit code 1; see its log"),
        (ended(3, GivenUp(message="the object store does not answer").to_bytes().decode()), "object store does not"),
    ],
)
def test_x5_what_ends_a_scorer_is_said_and_is_no_fault_of_a_version(last: dict[str, Any], says: str) -> None:
    state = observe(pod("a", "new", "2", ready=False, state=CRASHED, last=last))

    assert says in state.message
    assert not state.failed


def test_x5_a_scorer_that_was_killed_and_is_ready_again_is_well() -> None:
    assert observe(pod("a", "new", "2", last=ended(137))).message == ""


def test_x5_models_that_cannot_be_read_are_said() -> None:
    initializer = {
        "name": "storage-initializer",
        "ready": False,
        "state": CRASHED,
        "lastState": ended(1, "Traceback\nRuntimeError: access denied\n"),
    }
    state = observe(pod("a", "new", "1", ready=False, status={"initContainerStatuses": [initializer]}))

    assert state.message == "the pod a cannot read the models from the object store: RuntimeError: access denied"


def test_x5_a_pod_that_cannot_start_is_said() -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}

    assert "its image cannot be pulled" in observe(pod("a", "new", "1", ready=False, state=waiting)).message


def test_x5_without_pods_kserve_says_why() -> None:
    condition = {"type": "PredictorReady", "status": "False", "message": "exceeded quota: pods"}
    service = SERVICE | {"status": {"conditions": [condition]}}

    assert observe(service=service).message == "KServe: exceeded quota: pods"


def test_dep1_the_address_is_the_models_inside_or_outside_of_the_cluster() -> None:
    inside, outside = (serving_state(SERVICE, [], external=external).url for external in (False, True))

    assert inside == "http://late-predictor.team.svc.cluster.local/v2/models/late"
    assert outside == "http://late.example.com/v2/models/late"
    assert observe(service=SERVICE | {"status": {}}).url is None
