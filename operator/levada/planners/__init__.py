"""Planners: pure functions from a resource and what has been observed to what should exist. One file per kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from levada import names
from levada.errors import Stalled
from levada.names import Kind
from levada.planners import dataset, deployment, featureset, modelcandidate, scoringrun, trainingrun
from levada.planners.conditions import Verdict, conditions_of
from levada.planners.occurrences import cancelled
from levada.planners.plan import Action, Decision, Observed, Plan
from levada.planners.references import references_of
from levada.resources import AnyResource, Ref
from levada.resources.conditions import Condition, ConditionType, condition_of
from levada.resources.sentences import nearest
from levada.resources.status import RunStatus, execution_of

__all__ = ["absences", "plan", "references_of", "refusals", "stalled"]

_PLANNERS: dict[Kind, Callable[[Any, Observed, datetime], Plan]] = {
    Kind.DATASET: dataset.plan,
    Kind.FEATURE_SET: featureset.plan,
    Kind.TRAINING_RUN: trainingrun.plan,
    Kind.MODEL_CANDIDATE: modelcandidate.plan,
    Kind.DEPLOYMENT: deployment.plan,
    Kind.SCORING_RUN: scoringrun.plan,
}


def plan(resource: AnyResource, observed: Observed, now: datetime) -> Plan:
    """What should exist for a resource at `now` (with a time zone). Raises nothing: what a person must do is status."""
    planned = _plan(resource, observed, now)
    before = resource
    while _has_ended(before, planned):
        # Something else may have waited for the end: then it begins in the same plan, so that a plan is whole.
        before = resource.model_copy(update={"status": planned.status})
        after = _plan(before, observed, now)
        decisions, answered = planned.decisions + after.decisions, planned.answered + after.answered
        planned = replace(after, decisions=decisions, answered=tuple(dict.fromkeys(answered)))
    return _with_stall(resource, planned)


def refusals(resources: Iterable[AnyResource], now: datetime, *, local: bool) -> dict[Ref, str]:
    """What planners would refuse of new resources before anything runs: a sentence for each that needs a person."""
    known = {resource.ref: resource for resource in resources}
    planned = {ref: plan(resource, Observed(known, local=local), now) for ref, resource in known.items()}
    stalled = {ref: condition_of(p.status.conditions, ConditionType.STALLED) for ref, p in planned.items()}
    return {ref: condition.message for ref, condition in stalled.items() if condition is not None}


def absences(resources: Iterable[AnyResource], elsewhere: Collection[Ref] = ()) -> list[str]:
    """A sentence for each reference to what is neither among these resources nor `elsewhere`: it is misspelt, or in a
    place that is not known here. Candidates are made by runs and stand in no manifest."""
    given = {resource.ref: resource for resource in resources}
    known = {*given, *elsewhere}
    found = []
    for ref, resource in given.items():
        wanted = {other for other in references_of(resource) if other.kind is not Kind.MODEL_CANDIDATE}
        for other in sorted(wanted - known, key=str):
            near = nearest(
                other.name, [k.name for k in known if (k.kind, k.namespace) == (other.kind, other.namespace)]
            )
            hint = f"; did you mean {near}?" if near else ""
            found.append(f"{ref} refers to {other}, which is not among these manifests{hint}")
    return found


def _plan(resource: AnyResource, observed: Observed, now: datetime) -> Plan:
    try:
        return _PLANNERS[resource.kind](resource, observed, now)
    except Stalled as error:
        return _stalled(resource, error, now)


def _has_ended(resource: AnyResource, planned: Plan) -> bool:
    """Whether an execution ended by this plan."""
    before, after = resource.status, planned.status
    if not isinstance(before, RunStatus) or not isinstance(after, RunStatus) or after.execution is None:
        return False
    return after.execution != before.execution and after.execution.state in ("Succeeded", "Failed")


def stalled(resource: AnyResource, error: Stalled, now: datetime) -> Plan:
    """The plan for a spec that an engine cannot carry out: nothing runs, what there is stays."""
    return _with_stall(resource, _stalled(resource, error, now))


def _stalled(resource: AnyResource, error: Stalled, now: datetime) -> Plan:
    verdict = Verdict("False", error.reason, error.message, stalled=True)
    update = {
        "observed_generation": resource.metadata.generation,
        "conditions": conditions_of(resource, verdict, now),
    }
    if isinstance(resource.status, RunStatus):
        update["execution"] = cancelled(resource.status.execution)  # its job ends
    return Plan(status=resource.status.model_copy(update=update))


def _with_stall(resource: AnyResource, planned: Plan) -> Plan:
    """With the decision that it stands still, if it did not before, or not for this."""
    old = condition_of(resource.status.conditions, ConditionType.STALLED)
    new = condition_of(planned.status.conditions, ConditionType.STALLED)
    if new is None or (old is not None and (old.reason, old.message) == (new.reason, new.message)):
        return planned
    return replace(planned, decisions=(*planned.decisions, _stall(resource, new)))


def _stall(resource: AnyResource, stalled: Condition) -> Decision:
    # How the resource stood before tells this stall from the same one earlier.
    status = resource.status
    ready = condition_of(status.conditions, ConditionType.READY)
    execution = execution_of(status)
    before = [ready and ready.last_transition_time, execution and execution.started_at]
    key = names.short_hash([stalled.observed_generation, stalled.reason, stalled.message, before])
    return Decision(Action.STALLED, stalled.reason, stalled.message, key)
