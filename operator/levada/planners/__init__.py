"""Planners: pure functions from a resource and what has been observed to what should exist. One file per kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from levada import names
from levada.errors import Stalled
from levada.names import Kind
from levada.planners import dataset, deployment, featureset, modelcandidate, scoringrun, trainingrun
from levada.planners.conditions import Verdict, conditions_of
from levada.planners.plan import Action, Decision, Observed, Plan
from levada.planners.references import find_cycles, references_of
from levada.resources import AnyResource
from levada.resources.conditions import Condition, ConditionType, condition_of

__all__ = ["find_cycles", "plan", "references_of"]

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
    try:
        planned = _PLANNERS[resource.kind](resource, observed, now)
    except Stalled as error:
        planned = _stalled(resource, error, now)
    before = condition_of(resource.status.conditions, ConditionType.STALLED)
    after = condition_of(planned.status.conditions, ConditionType.STALLED)
    if after is not None and _differs(before, after):
        planned = _announced(planned, after)
    return planned


def _stalled(resource: AnyResource, error: Stalled, now: datetime) -> Plan:
    """The plan for a spec that cannot be carried out: nothing runs, what there is stays."""
    verdict = Verdict("False", error.reason, error.message, stalled=True)
    update = {
        "observed_generation": resource.metadata.generation,
        "conditions": conditions_of(resource, verdict, now),
    }
    return Plan(status=resource.status.model_copy(update=update))


def _differs(before: Condition | None, after: Condition) -> bool:
    return before is None or (before.reason, before.message) != (after.reason, after.message)


def _announced(planned: Plan, stalled: Condition) -> Plan:
    key = names.short_hash([stalled.observed_generation, stalled.reason, stalled.message])
    decision = Decision(Action.STALLED, stalled.reason, stalled.message, key)
    return replace(planned, decisions=(*planned.decisions, decision))
