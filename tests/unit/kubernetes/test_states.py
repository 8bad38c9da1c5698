"""What a Job and its pods say, as planners see it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from levada.engines.kubernetes.states import completed_indexes, job_state, outdated, phase_of, waits_for
from levada.resources.conditions import Reason
from levada.steps.io import StepError, StepResult, Termination


def job(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "flights-ingest-1"},
        "spec": {"activeDeadlineSeconds": 60},
        "status": {"conditions": [{"status": "True", **condition} for condition in conditions], **status},
    }


def pod(name: str = "p", phase: str = "Failed", state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    containers = [{"name": "step", "state": state}] if state is not None else []
    return {"metadata": {"name": name}, "status": {"phase": phase, "containerStatuses": containers, **status}}


def ended(code: int, message: str = "", at: str = "2026-01-01T00:00:00Z", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "finishedAt": at, "reason": reason}}


def error(message: str, reason: Reason = Reason.NO_ROWS) -> str:
    return Termination(error=StepError(reason=reason, message=message)).to_bytes().decode()


def test_x5_the_newest_jobs_that_ended_can_be_looked_at_and_the_older_ones_go() -> None:
    def made(minute: int, *ended: str) -> dict[str, Any]:
        found = job(*({"type": type} for type in ended))
        return found | {"metadata": {"name": f"j{minute}", "creationTimestamp": f"2026-01-01T00:{minute:02}:00Z"}}

    succeeded = [made(minute, "Complete") for minute in (9, 1, 2, 3, 10)]
    failed = [made(minute, "Failed") for minute in (4, 5, 6, 7)]
    jobs = {found["metadata"]["name"]: found for found in [*succeeded, *failed, made(0)]}

    assert outdated(jobs, ()) == ["j2", "j1", "j4"]
    assert outdated(jobs, {"j1", "j4"}) == ["j2"]


@pytest.mark.parametrize(
    ("text", "indexes"), [(None, []), ("", []), ("0", [0]), ("0,2-4", [0, 2, 3, 4]), ("1-2", [1, 2])]
)
def test_x5_completed_indexes_are_read(text: str | None, indexes: list[int]) -> None:
    assert completed_indexes(job(completedIndexes=text)) == indexes


@pytest.mark.parametrize(
    ("condition", "phase"),
    [
        (None, "active"),
        ("SuccessCriteriaMet", "active"),  # its last pods are still ending
        ("FailureTarget", "active"),
        ("Complete", "succeeded"),
        ("Failed", "failed"),
    ],
)
def test_x5_a_job_ends_with_its_last_pod(condition: str | None, phase: str) -> None:
    assert phase_of(job(*([{"type": condition}] if condition else []))) == phase


def test_x5_a_job_that_has_just_been_made_is_active() -> None:
    state = job_state({"metadata": {"name": "j"}, "spec": {}}, [], [])

    assert (state.phase, state.retries, state.last_failure, state.started_at) == ("active", 0, "", None)


def test_x5_results_come_in_the_order_of_their_indexes_and_times_are_the_jobs() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    results = [StepResult(job="j", index=index, finished_at=now) for index in (2, 0, 1)]

    state = job_state(
        job({"type": "Complete"}, startTime="2026-01-01T00:00:00Z", completionTime="2026-01-01T00:01:00Z"), [], results
    )

    assert [result.index for result in state.results] == [0, 1, 2]
    assert state.started_at == now
    assert state.finished_at == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def test_x5_the_steps_own_error_is_the_jobs() -> None:
    state = job_state(job({"type": "Failed", "reason": "PodFailurePolicy"}), [pod(state=ended(65, error("empty")))], [])

    assert state.error == StepError(reason=Reason.NO_ROWS, message="empty")


def test_x5_of_several_failures_the_last_one_counts() -> None:
    pods = [
        pod("b", state=ended(1, error("second"), "2026-01-01T00:00:02Z")),
        pod("a", state=ended(1, error("first"), "2026-01-01T00:00:01Z")),
    ]

    state = job_state(job(failed=2), pods, [])

    assert (state.phase, state.retries, state.last_failure) == ("active", 2, "second")


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (pod(state=ended(137, reason="OOMKilled")), "raise spec.resources.limits.memory"),
        (pod(state=ended(3)), "exit code 3"),
        (pod(reason="Evicted", message="The node was low on resource: memory."), "low on resource: memory"),
        (pod(), "failed without saying why"),
    ],
)
def test_x5_a_pod_that_left_no_message_is_explained(failed: dict[str, Any], said: str) -> None:
    state = job_state(job({"type": "Failed", "reason": "FailedIndexes"}), [failed], [])

    assert state.error is not None
    assert said in state.error.message


def test_x6_a_deadline_that_passed_is_named() -> None:
    state = job_state(job({"type": "Failed", "reason": "DeadlineExceeded"}), [pod(state=ended(143))], [])

    assert state.error is not None
    assert state.error.reason is Reason.DEADLINE_EXCEEDED
    assert "60 s" in state.error.message


def test_x5_a_job_that_failed_without_pods_says_what_the_job_controller_said() -> None:
    state = job_state(job({"type": "Failed", "reason": "X", "message": "quota"}), [], [])

    assert state.error is not None
    assert "quota" in state.error.message


@pytest.mark.parametrize(
    ("waiting", "said"),
    [
        ({"reason": "ImagePullBackOff", "message": "not found"}, "its image cannot be pulled: not found"),
        ({"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}, 'secret "x" not found'),
    ],
)
def test_x5_a_container_that_cannot_start_is_seen_before_anything_fails(waiting: dict[str, str], said: str) -> None:
    stuck = pod(phase="Pending", state={"waiting": waiting})

    assert said in str(waits_for(stuck))
    assert said in job_state(job(active=1), [stuck], []).last_failure


def test_x5_a_pod_that_fits_nowhere_says_so() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}

    assert "fits on no node: 0/3 nodes" in str(waits_for(pod(phase="Pending", conditions=[condition])))


def test_x5_a_container_that_is_only_being_made_is_no_news() -> None:
    assert waits_for(pod(phase="Pending", state={"waiting": {"reason": "ContainerCreating"}})) is None


def test_x4_the_last_line_of_the_log_tells_why_a_step_ended_that_could_not_say_so() -> None:
    died = pod(state=ended(139, "loading\nSegmentation fault\n"))

    state = job_state(job({"type": "Failed"}), [died], [])

    assert state.error is not None
    assert state.error.message == "the step ended with exit code 139 and without a result: Segmentation fault"
