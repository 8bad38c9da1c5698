"""ScoringRun: scores for each pair of a model and an input."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from levada import names
from levada.errors import Stalled, Waiting
from levada.names import Kind, Prefix
from levada.planners import executions, references, supported
from levada.planners.course import INITIAL, NEW_INPUTS, Course, Inputs, Outcome
from levada.planners.plan import Job, JobState, Observed, Plan
from levada.resources import ModelCandidate, ScoringRun
from levada.resources.base import essence
from levada.resources.conditions import Reason
from levada.resources.scoringrun import ScoresStatus, ScoringRunStatus
from levada.resources.status import Execution, InputVersion, RunStatus
from levada.steps.io import ScoreOutput, ScoreWork, StepResult


def plan(run: ScoringRun, observed: Observed, now: datetime) -> Plan:
    """Score the newest (or pinned) input: the first time, when it or the model is new, at each tick or message."""
    supported.check(run, local=observed.local)
    spec, metadata = run.spec, run.metadata
    model: _Model | Waiting
    inputs: Inputs | Waiting
    try:
        model = _model(run, observed)
        inputs = _inputs(run, model.candidate, observed)
    except Waiting as waiting:
        model = inputs = waiting

    def identify(trigger: str, inputs: Inputs, model: str | None) -> str:
        # Files may have changed unseen, so each tick, message and request takes them anew.
        unseen = spec.input.type == "object" and trigger not in (INITIAL, NEW_INPUTS)
        wanted = [essence(spec.input), essence(spec.output), essence(spec.model)]
        used = [i.document() for i in inputs]
        return names.derived_id(
            Prefix.SCORING,
            [metadata.namespace, metadata.name, wanted, used, model, trigger if unseen else None],
        )

    def build(execution: Execution, name: str) -> Job:
        if isinstance(model, Waiting):
            raise model
        given = spec.input
        used = execution.inputs[0] if execution.inputs else None
        work = ScoreWork(
            execution=execution.id,
            candidate=model.candidate.metadata.name,
            model_prefix=names.model_prefix(metadata.namespace, model.candidate.metadata.name),
            source=given.type,
            prefixes=_prefixes(metadata.namespace, used),
            input=used,
            part=given.feature_set.part if given.feature_set else "all",
            object=given.object,
            format=given.object.format if given.object else None,
            catalogue=spec.output.catalogue,
            columns=spec.output.columns,
            deployment=spec.model.deployment,
            version=model.version,
        )
        return executions.step_job(run, execution, name, work, completions=spec.partitions, parallelism=spec.partitions)

    def advance(_: Execution, job: JobState | None) -> Outcome:
        return executions.from_job(job, lambda result: committed(result, observed.bucket))

    # Of files the engine may see that they changed.
    seen = observed.source if spec.input.object is not None else None
    source = None if isinstance(model, Waiting) else " ".join(filter(None, (model.key, seen)))
    course = Course("score", identify, inputs, build, advance, _describe, source=source, ends=True)
    return executions.carry_out(run, observed, now, course)


class _Model:
    """The model that scores, and the version under which a Deployment serves it."""

    def __init__(self, candidate: ModelCandidate, version: int | None = None) -> None:
        self.candidate = candidate
        self.version = version
        self.key = f"{candidate.metadata.name} {candidate.status.digest}"


def _model(run: ScoringRun, observed: Observed) -> _Model:
    namespace, wanted = run.metadata.namespace, run.spec.model
    if wanted.deployment is not None:
        deployment = references.deployment(observed, namespace, wanted.deployment)
        serving = next(v for v in deployment.status.versions if v.version == deployment.status.serving_version)
        return _Model(references.candidate(observed, namespace, serving.candidate), serving.version)
    if wanted.training_run is not None:
        training = references.training_run(observed, namespace, wanted.training_run)
        assert training.status.best is not None
        return _Model(references.candidate(observed, namespace, training.status.best.name))
    assert wanted.candidate is not None
    return _Model(references.candidate(observed, namespace, wanted.candidate))


def _inputs(run: ScoringRun, candidate: ModelCandidate, observed: Observed) -> Inputs:
    """The newest batch or version; of a part of a split, the version that was split."""
    namespace, given = run.metadata.namespace, run.spec.input
    if given.dataset is not None:
        dataset = references.dataset(observed, namespace, given.dataset)
        references.settled(dataset)
        assert dataset.status.latest_batch is not None
        return [InputVersion(kind="Dataset", name=given.dataset, ids=[dataset.status.latest_batch.id])]
    if given.feature_set is None:
        return []
    wanted, origin = given.feature_set, candidate.spec.provenance
    if wanted.part != "all":
        if origin.split is None or origin.feature_set != wanted.name:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"spec.input.featureSet.part: ModelCandidate {candidate.metadata.name} was not fitted on a split of "
                f"FeatureSet {wanted.name}, so there is no part '{wanted.part}'; use 'all'",
            )
        if wanted.version not in (None, origin.feature_set_version):
            raise Stalled(
                Reason.INVALID_SPEC,
                f"spec.input.featureSet.version: ModelCandidate {candidate.metadata.name} was fitted on a split of "
                f"{origin.feature_set_version}, not of {wanted.version}; leave the version out, or part",
            )
        assert origin.feature_set_version is not None
        return [InputVersion(kind="FeatureSet", name=wanted.name, ids=[origin.feature_set_version])]
    feature_set = references.feature_set(observed, namespace, wanted.name)
    if wanted.version is None:
        references.settled(feature_set)
    assert feature_set.status.latest_version is not None
    version = wanted.version or feature_set.status.latest_version.id
    return [InputVersion(kind="FeatureSet", name=wanted.name, ids=[version])]


def _prefixes(namespace: str, used: InputVersion | None) -> list[str]:
    if used is None:
        return []
    prefix = names.batch_prefix if used.kind == Kind.DATASET.value else names.features_prefix
    return [prefix(namespace, used.name, id) for id in used.ids]


def committed(result: StepResult, bucket: str) -> dict[str, Any] | None:
    """The status' fields after a scoring, from the result that committed it."""
    output = result.output
    if not isinstance(output, ScoreOutput):
        return None
    manifest = output.manifest
    scores = ScoresStatus(
        id=manifest.execution,
        uri=f"s3://{bucket}/{output.prefix}",
        digest=output.digest,
        rows=manifest.rows,
        created_at=manifest.created_at,
    )
    return {"scores": scores, "candidate": manifest.candidate}


def _describe(status: RunStatus) -> str:
    assert isinstance(status, ScoringRunStatus)
    assert status.scores is not None
    return f"{status.scores.id}: {status.scores.rows:,} rows by {status.candidate}"
