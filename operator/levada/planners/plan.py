"""What planners see and what they return. Nothing here does anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from levada.resources import AnyResource, Ref
from levada.resources.base import Resources
from levada.resources.conditions import Reason
from levada.resources.status import Status
from levada.steps.io import ProgressRecord, StepError, StepInput, StepResult


@dataclass(frozen=True)
class Job:
    """A step to run: a Kubernetes Job (Indexed), or subprocesses.

    Created if no job of its name exists; one that exists is left as it is, whatever has changed here since.
    """

    name: str
    owner: Ref
    input: StepInput
    completions: int = 1
    parallelism: int = 1
    backoff_limit: int = 3  # per index
    deadline: timedelta | None = None
    resources: Resources | None = None
    pod_template: dict[str, Any] | None = None


@dataclass(frozen=True)
class JobState:
    """What has been observed of a job."""

    name: str
    phase: Literal["active", "succeeded", "failed"]
    results: tuple[StepResult, ...] = ()  # of the indexes that ended, in their order
    error: StepError | None = None  # why it failed
    retries: int = 0  # failed attempts so far
    last_failure: str = ""  # what the last failed attempt said
    progress: ProgressRecord | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True)
class ServedVersion:
    """A version that the scorers of a Deployment hold."""

    version: int
    candidate: str
    model_prefix: str
    onnx_digest: str
    weight: int  # percent of the requests that name no version


@dataclass(frozen=True)
class Serving:
    """What should be served for a Deployment: an InferenceService, or a scorer process."""

    name: str
    owner: Ref
    versions: tuple[ServedVersion, ...]
    recording: bool = True
    record_requests: bool = True
    replicas: int = 1
    min_replicas: int | None = None
    max_replicas: int | None = None
    target_cpu_percent: int | None = None
    resources: Resources | None = None


@dataclass(frozen=True)
class ServingState:
    """What has been observed of it."""

    ready_versions: frozenset[int] = frozenset()  # loaded, checked and answering (or checked, where nothing serves)
    url: str | None = None
    message: str = ""  # why not all of it is ready
    failed: Mapping[int, StepError] = field(default_factory=dict)  # versions that cannot be served, and why


class Action(StrEnum):
    """Decisions that are audited; each is an event too."""

    EXECUTION_STARTED = "execution-started"
    EXECUTION_FAILED = "execution-failed"
    CANDIDATE_CREATED = "candidate-created"
    CANDIDATE_REFUSED = "candidate-refused"
    BEST_CHOSEN = "model-ready"
    VERSION_CREATED = "version-created"
    VERSION_SERVING = "version-serving"
    VERSION_REJECTED = "version-rejected"
    APPROVAL_NEEDED = "approval-needed"
    STALLED = "stalled"
    DELETED = "deleted"


@dataclass(frozen=True)
class Decision:
    """Something that was decided, and why. `key` makes it one: deciding it again is the same decision."""

    action: Action
    reason: Reason
    message: str
    key: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Observed:
    """The world as far as a resource's planner looks at it."""

    # All resources that there are: planners follow references, and references of references.
    resources: Mapping[Ref, AnyResource] = field(default_factory=dict)
    jobs: Mapping[str, JobState] = field(default_factory=dict)  # its jobs by name
    serving: ServingState | None = None
    source: str | None = None  # what tells that a source changed, where the engine can see it
    triggers: tuple[str, ...] = ()  # ids of trigger messages that are not yet answered, oldest first
    bucket: str = "levada"  # where outputs lie: s3://<bucket>/<prefix>
    # One machine without pods: file:// sources are read, podTemplate is refused, and a failed execution whose job
    # is not there any more is tried again.
    local: bool = False
    # Another set of versions means other scorers, which take over from the old ones once they hold it all; where it is
    # False the scorers stay, and are told.
    rolling: bool = False


@dataclass(frozen=True)
class Plan:
    """What should exist for a resource. Engines make it so, in this order: decisions, children, jobs, serving, status.

    Jobs of the resource that run and are neither in `jobs` nor in `keep` are obsolete: engines end them. Children that
    are not named stay. Messages in `answered` are acknowledged once the status is written.
    """

    status: Status
    jobs: tuple[Job, ...] = ()
    children: tuple[AnyResource, ...] = ()
    serving: Serving | None = None
    decisions: tuple[Decision, ...] = ()
    requeue_after: timedelta | None = None
    keep: tuple[str, ...] = ()  # names of older jobs that may run on
    answered: tuple[str, ...] = ()  # ids of trigger messages that need not be shown again
