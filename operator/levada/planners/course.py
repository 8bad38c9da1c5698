"""What the planner of a kind says of its executions, and how far one of them is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from levada.errors import Waiting
from levada.planners.plan import Decision, Job, JobState
from levada.resources import Dataset, FeatureSet, ModelCandidate, ScoringRun, TrainingRun
from levada.resources.status import Execution, InputVersion, RunStatus
from levada.steps.io import StepError

Runnable: TypeAlias = Dataset | FeatureSet | TrainingRun | ModelCandidate | ScoringRun
Inputs: TypeAlias = list[InputVersion]

INITIAL, NEW_INPUTS = "initial", "inputs"


@dataclass(frozen=True)
class Outcome:
    """How far an execution is: going on unless `done` or `failed`. `update` holds fields of the status."""

    needs_job: bool = True
    done: bool = False
    failed: StepError | None = None
    ended_at: datetime | None = None  # now if absent
    update: dict[str, Any] = field(default_factory=dict)
    children: tuple[ModelCandidate, ...] = ()
    decisions: tuple[Decision, ...] = ()
    work: str = ""  # what is going on, where it is not the job that says it


@dataclass(frozen=True)
class Course:
    """What a kind says of its executions.

    `identify(trigger, inputs, source)` is the id of an execution; it leaves out what is not to matter. `inputs` are the
    newest, or why there are none. `supersede(new, old)` says whether new inputs are enough to run again.
    """

    step: str
    identify: Callable[[str, Inputs, str | None], str]
    inputs: Inputs | Waiting
    build: Callable[[Execution, str], Job]  # the job of a name; raises Waiting
    advance: Callable[[Execution, JobState | None], Outcome]
    describe: Callable[[RunStatus], str]  # one sentence about what there is, for a status after success
    source: str | None = None  # what else tells that the input changed; None: cannot be seen
    ends: bool = False  # has Complete and Failed
    follow: Callable[[RunStatus], Outcome] | None = None  # what comes after a successful execution
    supersede: Callable[[Inputs, Inputs], bool] = lambda new, old: new != old
