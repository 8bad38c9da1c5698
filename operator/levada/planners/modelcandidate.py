"""ModelCandidate: one evaluation of its ONNX artefact for each choice of evaluators."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from levada import names
from levada.names import Prefix
from levada.planners import executions, strategies, supported
from levada.planners.course import Course, Inputs, Outcome
from levada.planners.plan import Job, JobState, Observed, Plan
from levada.resources import ModelCandidate
from levada.resources.base import essence
from levada.resources.modelcandidate import EvaluationStatus, ModelCandidateStatus
from levada.resources.status import Execution, RunStatus
from levada.steps.io import EvaluateOutput, EvaluateWork, StepResult


def plan(candidate: ModelCandidate, observed: Observed, now: datetime) -> Plan:
    """Measure the model, once."""
    supported.check(candidate, local=observed.local)
    spec, metadata = candidate.spec, candidate.metadata
    evaluators = strategies.evaluators_of(spec.task, spec.evaluators)

    def identify(_: str, __: Inputs, ___: str | None) -> str:
        model = essence(spec.model)
        return names.derived_id(
            Prefix.EVALUATION, [metadata.namespace, metadata.name, model, spec.task, sorted(evaluators)]
        )

    def build(execution: Execution, name: str) -> Job:
        work = EvaluateWork(
            evaluation=execution.id,
            candidate=metadata.name,
            model_uri=spec.model.uri,
            digest=spec.model.digest,
            task=spec.task,
            evaluators=evaluators,
        )
        return executions.step_job(candidate, execution, name, work)

    def advance(_: Execution, job: JobState | None) -> Outcome:
        return executions.from_job(job, lambda result: committed(result, observed.bucket))

    course = Course("evaluate", identify, [], build, advance, _describe, ends=True)
    return executions.carry_out(candidate, observed, now, course)


def committed(result: StepResult, bucket: str) -> dict[str, Any] | None:
    """The status' fields after an evaluation, from the result that committed it."""
    output = result.output
    if not isinstance(output, EvaluateOutput):
        return None
    manifest, model = output.manifest, output.model
    uri = f"s3://{bucket}/{output.prefix}"
    evaluation = EvaluationStatus(
        id=manifest.evaluation,
        uri=uri,
        digest=output.digest,
        report=uri + manifest.report.key,
        metrics=manifest.metrics,
        rows=manifest.rows,
        created_at=manifest.created_at,
    )
    return {"evaluation": evaluation, "digest": model.onnx.digest, "algorithm": model.type}


def _describe(status: RunStatus) -> str:
    assert isinstance(status, ModelCandidateStatus)
    evaluation = status.evaluation
    assert evaluation is not None
    return f"{evaluation.id}: {len(evaluation.metrics)} metrics over {evaluation.rows:,} rows"
