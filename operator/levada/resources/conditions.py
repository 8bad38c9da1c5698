"""Conditions (KEP-1623) and the reasons shared by conditions, events, audit and tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from levada.resources.base import CONDITION_REASON, CONDITION_TYPE, Model


class ConditionType(StrEnum):
    """Condition types. All but Stalled, Reconciling and Failed are good news when True."""

    READY = "Ready"  # positive: the latest spec is carried out and usable
    RECONCILING = "Reconciling"  # negative while True (kstatus: in progress)
    STALLED = "Stalled"  # negative: the user must act (kstatus: failed)
    COMPLETE = "Complete"  # positive: an execution of something that ends has ended well
    FAILED = "Failed"  # negative: an execution of something that ends has failed for good


class Reason(StrEnum):
    """Why a condition is as it is, or a decision was taken."""

    # going well
    SUCCEEDED = "Succeeded"
    SERVING = "Serving"
    PROGRESSING = "Progressing"
    SUSPENDED = "Suspended"
    DELETED = "Deleted"
    # waiting
    WAITING_FOR_REFERENCE = "WaitingForReference"
    WAITING_FOR_INPUT = "WaitingForInput"
    WAITING_FOR_APPROVAL = "WaitingForApproval"
    STORE_UNAVAILABLE = "StoreUnavailable"
    RETRYING = "Retrying"
    # the user must act
    INVALID_SPEC = "InvalidSpec"
    NOT_SUPPORTED = "NotSupported"
    CYCLE = "Cycle"
    INVALID_QUERY = "InvalidQuery"
    INVALID_EXPRESSION = "InvalidExpression"
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_UNREADABLE = "SourceUnreadable"
    ACCESS_DENIED = "AccessDenied"
    INVALID_DATA = "InvalidData"
    NO_ROWS = "NoRows"
    QUALITY_REFUSED = "QualityRefused"
    CONSTANT_LABEL = "ConstantLabel"
    PARITY_BROKEN = "ParityBroken"
    GATE_NOT_PASSED = "GateNotPassed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    BACKOFF_EXCEEDED = "BackoffExceeded"
    STEP_FAILED = "StepFailed"
    NOT_READY = "NotReady"


# As metav1.Condition has them, so that a newer operator can say what an older definition does not know.
_TYPE = WithJsonSchema({"type": "string", "pattern": CONDITION_TYPE, "maxLength": 316})
REASON_SCHEMA = WithJsonSchema({"type": "string", "pattern": CONDITION_REASON, "minLength": 1, "maxLength": 1024})


class Condition(Model):
    """One aspect of a resource's state, as `metav1.Condition`."""

    type: Annotated[ConditionType, _TYPE] = Field(description="Aspect of the state.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[Reason, REASON_SCHEMA] = Field(description="Machine-readable cause.")
    message: str = Field(default="", max_length=32768, description="One sentence for a person.")
    observed_generation: int = Field(default=0, ge=0, description="Generation of the spec that this speaks of.")
    last_transition_time: datetime = Field(description="When `status` last changed.")


def condition_of(conditions: Iterable[Condition], type: ConditionType) -> Condition | None:
    """The condition of a type, or None."""
    return next((c for c in conditions if c.type == type), None)


def is_true(conditions: Iterable[Condition], type: ConditionType) -> bool:
    """Whether the condition of a type is present and True."""
    found = condition_of(conditions, type)
    return found is not None and found.status == "True"


def merge_conditions(old: Iterable[Condition], new: Iterable[Condition]) -> list[Condition]:
    """`new`, keeping an old condition's transition time where its status did not change; sorted by type."""
    before = {c.type: c for c in old}
    merged = []
    for condition in new:
        last = before.get(condition.type)
        if last is not None and last.status == condition.status:
            condition = condition.model_copy(update={"last_transition_time": last.last_transition_time})
        merged.append(condition)
    return sorted(merged, key=lambda c: c.type.value)
