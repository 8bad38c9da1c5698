"""Decisions as events: what every engine records before it carries them out."""

from __future__ import annotations

from datetime import datetime

from levada import names
from levada.events import Event, EventType
from levada.planners.plan import Decision
from levada.resources import AnyResource


def event_of(resource: AnyResource, decision: Decision, now: datetime) -> Event:
    """The event that announces a decision about a resource; the same decision has the same id."""
    ref = resource.ref
    return Event(
        id=names.event_id(resource.metadata.uid, decision.action.value, decision.key),
        type=EventType(decision.action.value),
        kind=ref.kind,
        namespace=ref.namespace,
        name=ref.name,
        time=now,
        data={**decision.data, "reason": decision.reason.value, "message": decision.message},
    )
