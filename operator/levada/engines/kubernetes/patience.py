"""How a status says what a resource is waiting for, while what it needs does not answer. Pure."""

from __future__ import annotations

from datetime import datetime

from levada.planners.conditions import MESSAGE_LIMIT, clipped
from levada.resources import AnyResource
from levada.resources.conditions import Condition, ConditionType, Reason, condition_of, is_true, merge_conditions
from levada.resources.status import Status


def held_up(resource: AnyResource, status: Status, reason: Reason, message: str, now: datetime) -> Status:
    """A status that says, beside what it says, that something is in the way: kstatus takes it as in progress.

    Not of a resource that has come to a standstill: there a person must act first.
    """
    if is_true(status.conditions, ConditionType.STALLED):
        return status
    working = condition_of(status.conditions, ConditionType.RECONCILING)
    if working is not None and working.status == "True" and working.reason != reason:
        message = f"{working.message}; {message}"
    condition = Condition(
        type=ConditionType.RECONCILING,
        status="True",
        reason=reason,
        message=clipped(message, MESSAGE_LIMIT),
        observed_generation=resource.metadata.generation,
        last_transition_time=now,
    )
    others = [other for other in status.conditions if other.type != ConditionType.RECONCILING]
    conditions = merge_conditions(resource.status.conditions, [*others, condition])
    return status.model_copy(update={"conditions": conditions})


def says_held_up(status: Status, reason: Reason) -> bool:
    """Whether a status says that already."""
    found = condition_of(status.conditions, ConditionType.RECONCILING)
    return found is not None and found.status == "True" and found.reason == reason
