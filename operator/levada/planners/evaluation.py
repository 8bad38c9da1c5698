"""The second half of a TrainingRun: a ModelCandidate for each model that was fitted, and the best of the evaluated."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from levada import names
from levada.errors import Stalled
from levada.planners import executions, strategies
from levada.planners.conditions import clipped
from levada.planners.course import Outcome
from levada.planners.plan import Action, Decision, Observed
from levada.resources import ModelCandidate, TrainingRun
from levada.resources.base import Metadata
from levada.resources.conditions import ConditionType, Reason, condition_of, is_true
from levada.resources.modelcandidate import ModelCandidateSpec, ModelRef, Provenance
from levada.resources.status import Execution
from levada.resources.trainingrun import BestCandidate, CandidateStatus, Gate, Objective, TrainingRunStatus
from levada.steps.io import StepError


def follow(run: TrainingRun, status: TrainingRunStatus, observed: Observed, now: datetime) -> Outcome:
    """What follows a finished training, whenever it is looked at: evaluators, objective and gate may change later."""
    execution = status.execution
    assert execution is not None
    candidates: list[CandidateStatus] = []
    children: list[ModelCandidate] = []
    decisions: list[Decision] = []
    warnings: list[str] = []
    known = {c.name for c in run.status.candidates if c.digest}
    for candidate in status.candidates:
        if not candidate.digest:  # training itself refused it
            candidates.append(candidate)
            continue
        wanted = _child(run, status, candidate, observed.bucket)
        child = observed.resources.get(wanted.ref)
        if isinstance(child, ModelCandidate) and child.spec == wanted.spec:
            seen = _seen(candidate, child)
            if seen.state == "Refused" and candidate.state != "Refused":
                decisions.append(_refused(seen, execution, child))
            candidates.append(seen)
            warnings += [f"{candidate.name}: {warning}" for warning in child.status.warnings]
        else:
            children.append(wanted)
            candidates.append(candidate.model_copy(update={"state": "Evaluating", "message": ""}))
            if candidate.name not in known and child is None:
                decisions.append(_created(candidate, execution))
    update: dict[str, Any] = {"candidates": candidates, "warnings": _with_lifted(status, warnings)}
    evaluated = sum(c.state != "Evaluating" for c in candidates)
    if evaluated < len(candidates):
        work = f"{evaluated} of {len(candidates)} candidates are evaluated"
        return Outcome(needs_job=False, update=update, children=tuple(children), decisions=tuple(decisions), work=work)
    try:
        best, value = choose(candidates, strategies.objective_of(run.spec), run.spec.gate)
    except Stalled as error:
        # The best of an earlier training stays; one of these that does not pass any more goes.
        if status.best is not None and status.best.name in {c.name for c in candidates}:
            update["best"] = None
        failed = StepError(reason=error.reason, message=error.message)
        return Outcome(needs_job=False, failed=failed, update=update, decisions=tuple(decisions))
    metric = strategies.objective_of(run.spec).metric
    same = status.best is not None and (status.best.name, status.best.metric) == (best.name, metric)
    if not same:
        decisions.append(_chosen(best, metric, value, execution, run.status))
    since = status.best.since if status.best is not None and same else now
    update["best"] = BestCandidate(name=best.name, metric=metric, value=value, since=since)
    return Outcome(needs_job=False, done=True, update=update, decisions=tuple(decisions))


def choose(candidates: list[CandidateStatus], objective: Objective, gate: Gate | None) -> tuple[CandidateStatus, float]:
    """The best evaluated candidate that passes the gate, the first among equals, with the objective's value.

    Raises Stalled if there is none, and says of each candidate why.
    """
    why: list[str] = []
    passed: list[tuple[CandidateStatus, float]] = []
    for candidate in candidates:
        value = candidate.metrics.get(objective.metric, math.nan)
        if candidate.state != "Evaluated":
            why.append(f"{candidate.algorithm}: {candidate.message}")
        elif math.isnan(value):
            why.append(f"{candidate.algorithm} {_lacks(candidate, objective.metric)}")
        elif missed := _missed(candidate, gate):
            why.append(f"{candidate.algorithm} {missed}")
        else:
            passed.append((candidate, value))
    if passed:
        sign = 1 if objective.direction == "maximize" else -1
        return max(passed, key=lambda found: sign * found[1])
    if any(c.state == "Evaluated" and objective.metric in c.metrics for c in candidates):
        raise Stalled(Reason.GATE_NOT_PASSED, f"no candidate passes spec.gate: {'; '.join(why)}")
    raise Stalled(Reason.STEP_FAILED, f"no candidate can be the best: {'; '.join(why)}")


def _missed(candidate: CandidateStatus, gate: Gate | None) -> str:
    """What a candidate misses of the gate, or an empty text."""
    if gate is None:
        return ""
    for metric in (*gate.minimum, *gate.maximum):
        value = candidate.metrics.get(metric, math.nan)
        if math.isnan(value):
            return _lacks(candidate, metric)
        if (least := gate.minimum.get(metric)) is not None and value < least:
            return f"has {metric} {value:.4g}, less than {least:g}"
        if (most := gate.maximum.get(metric)) is not None and value > most:
            return f"has {metric} {value:.4g}, more than {most:g}"
    return ""


def _lacks(candidate: CandidateStatus, metric: str) -> str:
    return f"has no metric '{metric}' (it has: {', '.join(sorted(candidate.metrics)) or 'none'})"


def _child(run: TrainingRun, status: TrainingRunStatus, candidate: CandidateStatus, bucket: str) -> ModelCandidate:
    metadata, spec, execution = run.metadata, run.spec, status.execution
    assert execution is not None
    return ModelCandidate(
        metadata=Metadata(
            name=candidate.name,
            namespace=metadata.namespace,
            labels={
                names.LABEL_KIND: run.kind.value,
                names.LABEL_NAME: metadata.name,
                names.LABEL_EXECUTION: execution.id,
            },
        ),
        spec=ModelCandidateSpec(
            model=ModelRef(
                uri=f"s3://{bucket}/{names.model_prefix(metadata.namespace, candidate.name)}",
                digest=candidate.digest,
            ),
            task=spec.task,
            provenance=Provenance(
                training_run=metadata.name,
                execution=execution.id,
                algorithm=candidate.algorithm,
                feature_set=spec.feature_set.name,
                feature_set_version=status.feature_set_version,
                split=status.split.id if status.split is not None else None,
            ),
            evaluators=strategies.evaluators_of(spec.task, spec.evaluators),
            retries=spec.retries,
            resources=spec.resources,
            pod_template=spec.pod_template,
        ),
    )


def _seen(candidate: CandidateStatus, child: ModelCandidate) -> CandidateStatus:
    """A candidate as its ModelCandidate shows it."""
    status = child.status
    if status.observed_generation == child.metadata.generation:
        if is_true(status.conditions, ConditionType.STALLED):
            ready = condition_of(status.conditions, ConditionType.READY)
            message = clipped(ready.message if ready is not None else "", 4096)
            return candidate.model_copy(update={"state": "Refused", "metrics": {}, "message": message})
        if is_true(status.conditions, ConditionType.READY) and status.evaluation is not None:
            update = {"state": "Evaluated", "metrics": status.evaluation.metrics, "message": ""}
            return candidate.model_copy(update=update)
    return candidate.model_copy(update={"state": "Evaluating", "message": ""})


def _with_lifted(status: TrainingRunStatus, lifted: list[str]) -> list[str]:
    """The training's own warnings, and behind them those of its candidates as far as there is room."""
    prefixes = tuple(f"{candidate.name}: " for candidate in status.candidates)
    own = [warning for warning in status.warnings if not warning.startswith(prefixes)]
    return [*own, *(clipped(warning, executions.WARNING_LENGTH) for warning in lifted)][: executions.WARNINGS]


def _created(candidate: CandidateStatus, execution: Execution) -> Decision:
    return Decision(
        Action.CANDIDATE_CREATED,
        Reason.SUCCEEDED,
        f"{candidate.name} was trained by {candidate.algorithm}",
        key=candidate.name,
        data={"execution": execution.id, "algorithm": candidate.algorithm, "candidate": candidate.name},
    )


def _refused(candidate: CandidateStatus, execution: Execution, child: ModelCandidate) -> Decision:
    stalled = condition_of(child.status.conditions, ConditionType.STALLED)
    since = stalled.last_transition_time.isoformat() if stalled is not None else ""
    return Decision(
        Action.CANDIDATE_REFUSED,
        Reason.STEP_FAILED,
        f"{candidate.algorithm}: {candidate.message}",
        key=f"{execution.id}/{candidate.name}/evaluation/{since}",
        data={"execution": execution.id, "algorithm": candidate.algorithm, "candidate": candidate.name},
    )


def _chosen(
    best: CandidateStatus, metric: str, value: float, execution: Execution, before: TrainingRunStatus
) -> Decision:
    # What was the best before, or since when there was none, tells this choice from the same one earlier.
    ready = condition_of(before.conditions, ConditionType.READY)
    none_since = ready.last_transition_time.isoformat() if ready is not None else ""
    since = before.best.since.isoformat() if before.best is not None else none_since
    return Decision(
        Action.BEST_CHOSEN,
        Reason.SUCCEEDED,
        f"{best.name} is the best: {metric} {value:.4g}",
        key=f"{execution.id}/{best.name}/{metric}/{since}",
        data={"execution": execution.id, "candidate": best.name, "metric": metric, "value": value},
    )
