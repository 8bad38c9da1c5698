"""TrainingRun: one training of all algorithms, a ModelCandidate for each, and the best of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from levada import names
from levada.errors import Waiting
from levada.names import Kind, Prefix
from levada.planners import evaluation, executions, references, supported
from levada.planners.conditions import clipped
from levada.planners.course import Course, Inputs, Outcome
from levada.planners.plan import Action, Decision, Job, JobState, Observed, Plan
from levada.resources import Ref, TrainingRun
from levada.resources.base import essence
from levada.resources.status import Execution, InputVersion, RunStatus
from levada.resources.trainingrun import CandidateStatus, SplitStatus, TrainingRunStatus
from levada.steps.io import StepError, TrainedCandidate, TrainOutput, TrainWork


def plan(run: TrainingRun, observed: Observed, now: datetime) -> Plan:
    """Train on the newest (or pinned) version, have every candidate evaluated, choose the best that passes the gate."""
    supported.check(run, local=observed.local)
    spec, metadata = run.spec, run.metadata

    def identify(_: str, inputs: Inputs, fitted: str | None) -> str:
        wanted = essence(spec)
        data = {key: wanted.get(key) for key in ("task", "algorithms")} | {"split": _divided(run) or None}
        return names.derived_id(Prefix.TRAINING, [metadata.namespace, metadata.name, data, fitted, _version(inputs)])

    def build(execution: Execution, name: str) -> Job:
        feature_set = references.feature_set(observed, metadata.namespace, spec.feature_set.name)
        version = _version(execution.inputs)
        work = TrainWork(
            execution=execution.id,
            split=split_id(run, version),
            feature_set=spec.feature_set.name,
            version=version,
            features_prefix=names.features_prefix(metadata.namespace, spec.feature_set.name, version),
            spec=spec,
            transform=feature_set.spec.transform,
            select=feature_set.spec.select,
            candidates=candidate_names(run, execution),
        )
        workers = min(spec.parallelism.workers, len(spec.algorithms))
        return executions.step_job(run, execution, name, work, completions=len(spec.algorithms), parallelism=workers)

    def advance(execution: Execution, job: JobState | None) -> Outcome:
        outcome = _trained(run, execution, job, observed.bucket)
        if outcome.update:
            return outcome
        training = [
            CandidateStatus(name=name, algorithm=a.name, state="Training")
            for name, a in zip(candidate_names(run, execution), spec.algorithms, strict=True)
        ]
        return replace(outcome, update={"candidates": training, "feature_set_version": _version(execution.inputs)})

    def follow(status: RunStatus) -> Outcome:
        assert isinstance(status, TrainingRunStatus)
        return evaluation.follow(run, status, observed, now)

    course = Course(
        "train",
        identify,
        _inputs(run, observed),
        build,
        advance,
        _describe,
        source=_fitted(run, observed),
        ends=True,
        follow=follow,
    )
    return executions.carry_out(run, observed, now, course)


def split_id(run: TrainingRun, version: str) -> str:
    """The id of the split of a feature set version: the same for every training that splits it alike."""
    metadata, spec = run.metadata, run.spec
    return names.derived_id(Prefix.SPLIT, [metadata.namespace, metadata.name, version, spec.task, _divided(run)])


def _divided(run: TrainingRun) -> dict[str, Any]:
    """What of the split says where a row goes."""
    return {key: value for key, value in essence(run.spec.split).items() if key != "maxImbalance"}


def candidate_names(run: TrainingRun, execution: Execution) -> list[str]:
    """The name of the ModelCandidate of each algorithm."""
    return [names.candidate_name(run.metadata.name, a.name, execution.id) for a in run.spec.algorithms]


def _fitted(run: TrainingRun, observed: Observed) -> str | None:
    """What tells that the part of the feature set's definition which training fits has changed."""
    ref = Ref(Kind.FEATURE_SET, run.metadata.namespace, run.spec.feature_set.name)
    if ref not in observed.resources:
        return None
    document = essence(observed.resources[ref].spec)
    return names.short_hash([document.get("transform"), document.get("select")])


def _version(inputs: Inputs) -> str:
    return inputs[0].ids[0]


def _inputs(run: TrainingRun, observed: Observed) -> Inputs | Waiting:
    wanted = run.spec.feature_set
    try:
        feature_set = references.feature_set(observed, run.metadata.namespace, wanted.name)
        if wanted.version is None:
            references.settled(feature_set)
    except Waiting as waiting:
        return waiting
    assert feature_set.status.latest_version is not None
    version = wanted.version or feature_set.status.latest_version.id
    return [InputVersion(kind="FeatureSet", name=wanted.name, ids=[version])]


def _trained(run: TrainingRun, execution: Execution, job: JobState | None, bucket: str) -> Outcome:
    """The outcome of the training itself: every algorithm has a candidate, or the reason why it has none."""
    if job is None or job.phase == "active":
        return Outcome()
    if job.phase == "failed":
        return Outcome(needs_job=False, failed=executions.error_of(job), ended_at=job.finished_at)
    found = {r.output.candidate.name: r.output.candidate for r in job.results if isinstance(r.output, TrainOutput)}
    candidates, decisions, warnings = [], [], []
    split: SplitStatus | None = None
    for name, algorithm in zip(candidate_names(run, execution), run.spec.algorithms, strict=True):
        trained = found.get(name)
        if trained is None:
            return Outcome(needs_job=False, failed=executions.no_result(job), ended_at=job.finished_at)
        warnings += trained.warnings
        if trained.split_prefix and split is None:
            split = SplitStatus(
                id=trained.split_prefix.rstrip("/").rsplit("/", 1)[-1],
                uri=f"s3://{bucket}/{trained.split_prefix}",
                digest=trained.split_digest,
                rows=trained.rows,
            )
        candidates.append(_candidate(trained, algorithm.name))
        if trained.refused is not None:
            decisions.append(_refused(execution, algorithm.name, trained.refused))
    update = {
        "candidates": candidates,
        "feature_set_version": _version(execution.inputs),
        "warnings": executions.warnings_of(job.results, *warnings),
        **({"split": split} if split is not None else {}),
    }
    return Outcome(needs_job=False, done=True, ended_at=job.finished_at, update=update, decisions=tuple(decisions))


def _candidate(trained: TrainedCandidate, algorithm: str) -> CandidateStatus:
    if trained.refused is not None:
        message = clipped(trained.refused.message, 4096)
        return CandidateStatus(name=trained.name, algorithm=algorithm, state="Refused", message=message)
    return CandidateStatus(name=trained.name, algorithm=algorithm, state="Evaluating", digest=trained.onnx_digest)


def _refused(execution: Execution, algorithm: str, error: StepError) -> Decision:
    return Decision(
        Action.CANDIDATE_REFUSED,
        error.reason,
        f"{algorithm}: {error.message}",
        key=f"{execution.id}/{algorithm}",
        data={"execution": execution.id, "algorithm": algorithm},
    )


def _describe(status: RunStatus) -> str:
    assert isinstance(status, TrainingRunStatus)
    best = status.best
    if best is None:
        return f"{len(status.candidates)} candidates"
    return f"best is {best.name}: {best.metric} {best.value:.4g}"
