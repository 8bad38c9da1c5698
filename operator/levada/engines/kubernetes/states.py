"""What the API server says of Jobs and their pods, as planners see it. Pure: reads documents."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from levada.engines import retention
from levada.engines.kubernetes.jobs import STEP
from levada.planners.plan import JobState
from levada.resources.conditions import Reason
from levada.steps.io import StepError, StepResult, Termination

Document = Mapping[str, Any]
Phase = Literal["active", "succeeded", "failed"]

# Why a container does not start, where waiting alone does not help.
_CANNOT_START = {
    "ErrImagePull": "its image cannot be pulled",
    "ImagePullBackOff": "its image cannot be pulled",
    "ErrImageNeverPull": "its image is not on the node",
    "InvalidImageName": "its image has no valid name",
    "CreateContainerConfigError": "its container cannot be made",
    "CreateContainerError": "its container cannot be made",
    "RunContainerError": "its container cannot be started",
}


def phase_of(job: Document) -> Phase:
    """How a Job stands; one whose end is certain but whose last pods are still ending is active."""
    conditions = _conditions(job)
    if "Complete" in conditions:
        return "succeeded"
    return "failed" if "Failed" in conditions else "active"


def completed_indexes(job: Document) -> list[int]:
    """The indexes that have ended well: `0,2-4` is 0, 2, 3, 4."""
    text = str(_status(job).get("completedIndexes") or "")
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def outdated(jobs: Mapping[str, Document], needed: Collection[str]) -> list[str]:
    """Which Jobs of a resource (by name) have ended, and nobody will look at any more."""
    newest = sorted(jobs, key=lambda name: str(jobs[name]["metadata"]["creationTimestamp"]), reverse=True)
    phases = {name: phase_of(jobs[name]) for name in newest}
    ended = {name: phase == "succeeded" for name, phase in phases.items() if phase != "active"}
    return retention.outdated(ended, needed)


def job_state(job: Document, pods: Iterable[Document], results: Iterable[StepResult]) -> JobState:
    """The state of a Job; `pods`: its own, `results`: of its completed indexes."""
    status, phase = _status(job), phase_of(job)
    failures = sorted(_failures(pods), key=lambda failure: failure[0])
    last = failures[-1][1] if failures else None
    error = _error(job, last) if phase == "failed" else None
    waiting = next((text for pod in pods if (text := waits_for(pod)) is not None), "") if phase == "active" else ""
    failed = _conditions(job).get("Failed", {})
    return JobState(
        name=job["metadata"]["name"],
        phase=phase,
        results=tuple(sorted(results, key=lambda result: result.index)),
        error=error,
        retries=int(status.get("failed") or 0) if phase == "active" else max(0, len(failures) - 1),
        last_failure=waiting or (last.message if last is not None else ""),
        started_at=_time(status.get("startTime")),
        finished_at=_time(status.get("completionTime") or failed.get("lastTransitionTime")),
    )


def waits_for(pod: Document) -> str | None:
    """Why a pod does not start, as one clause; None if it runs, has ended, or needs only a moment."""
    name, status = pod["metadata"]["name"], _status(pod)
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting", {})
        if (what := _CANNOT_START.get(waiting.get("reason", ""))) is not None:
            return f"the pod {name} does not start, since {what}: {waiting.get('message') or waiting['reason']}"
    scheduled = _conditions(pod, true_only=False).get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return f"the pod {name} fits on no node: {scheduled.get('message') or 'no node has room'}"
    return None


def _failures(pods: Iterable[Document]) -> Iterator[tuple[str, StepError]]:
    """When and why each pod failed that did."""
    for pod in pods:
        status = _status(pod)
        if status.get("phase") != "Failed":
            continue
        ended = _terminated(status)
        yield str(ended.get("finishedAt") or pod["metadata"].get("creationTimestamp") or ""), _failure(pod, ended)


def _failure(pod: Document, ended: Document) -> StepError:
    name, status = pod["metadata"]["name"], _status(pod)
    with contextlib.suppress(ValueError):
        termination = Termination.from_bytes(str(ended.get("message") or "").encode())
        if termination.error is not None:
            return termination.error
    if ended.get("reason") == "OOMKilled":
        return _failed(
            f"the step used more memory than it may, and was killed (pod {name}): raise spec.resources.limits.memory"
        )
    if status.get("reason") or status.get("message"):
        return _failed(f"the pod {name} was ended: {status.get('message') or status['reason']}")
    if "exitCode" in ended:
        lines = str(ended.get("message") or "").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), f"see the log of {name}")
        return _failed(f"the step ended with exit code {ended['exitCode']} and without a result: {said}")
    return _failed(f"the pod {name} failed without saying why; see its events")


def _error(job: Document, last: StepError | None) -> StepError:
    condition = _conditions(job).get("Failed", {})
    if condition.get("reason") == "DeadlineExceeded":
        seconds = job["spec"].get("activeDeadlineSeconds")
        return StepError(
            reason=Reason.DEADLINE_EXCEEDED,
            message=f"the deadline of {seconds} s passed before it was done; allow more time in spec.deadline",
        )
    if last is not None:
        return last
    said = condition.get("message") or condition.get("reason") or "it did not say why"
    return _failed(f"the Job {job['metadata']['name']} failed: {said}")


def _failed(message: str) -> StepError:
    return StepError(reason=Reason.STEP_FAILED, message=message)


def _terminated(status: Document) -> Document:
    for container in status.get("containerStatuses", ()):
        if container.get("name") == STEP:
            ended: Document = container.get("state", {}).get("terminated") or {}
            return ended
    return {}


def _status(document: Document) -> Document:
    status: Document = document.get("status") or {}
    return status


def _conditions(document: Document, *, true_only: bool = True) -> dict[str, Document]:
    conditions = _status(document).get("conditions") or ()
    return {c["type"]: c for c in conditions if not true_only or c.get("status") == "True"}


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
