"""How a verdict on a resource becomes its conditions: the one place that decides what kstatus and people see.

- Ready: True while the latest spec is carried out and its result can be used, also while it is carried out once more
  for new inputs or a tick of the schedule. Unknown while a new or changed spec is carried out for the first time.
  False when it waits, is suspended before it was carried out, or has failed.
- Reconciling is there (True) only while work goes on; Stalled only when a person must act.
- Complete and Failed are there (True) only for what ends, once the newest execution has ended.

So kstatus says: InProgress while Reconciling, or not Ready and not Stalled; Failed when Stalled; Current when Ready.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from levada.resources import AnyResource
from levada.resources.conditions import Condition, ConditionType, Reason, merge_conditions

MESSAGE_LIMIT = 1024  # characters of a condition's message


@dataclass(frozen=True)
class Verdict:
    """How a resource stands; `work` says (reason, message) of what is going on."""

    ready: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str
    work: tuple[Reason, str] | None = None
    stalled: bool = False
    ended: Literal["Complete", "Failed"] | None = None


def conditions_of(resource: AnyResource, verdict: Verdict, now: datetime) -> list[Condition]:
    """The verdict as conditions of the resource's generation; transition times stay where the status did not change."""

    def condition(
        type: ConditionType, status: Literal["True", "False", "Unknown"], reason: Reason, message: str
    ) -> Condition:
        return Condition(
            type=type,
            status=status,
            reason=reason,
            message=clipped(message, MESSAGE_LIMIT),
            observed_generation=resource.metadata.generation,
            last_transition_time=now,
        )

    new = [condition(ConditionType.READY, verdict.ready, verdict.reason, verdict.message)]
    if verdict.work is not None:
        new.append(condition(ConditionType.RECONCILING, "True", *verdict.work))
    if verdict.stalled:
        new.append(condition(ConditionType.STALLED, "True", verdict.reason, verdict.message))
    if verdict.ended is not None:
        new.append(condition(ConditionType(verdict.ended), "True", verdict.reason, verdict.message))
    return merge_conditions(resource.status.conditions, new)


def clipped(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
