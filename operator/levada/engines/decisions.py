"""Decisions as events: what every engine records before it carries them out."""

from __future__ import annotations

from datetime import datetime

from levada import names
from levada.events import Event, EventType
from levada.planners.plan import Decision
from levada.resources import AnyResource
from levada.stores.ports import Catalogue


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


def record(catalogue: Catalogue, resource: AnyResource, decision: Decision, event: Event, actor: str) -> None:
    """Put a decision and its event, which `event_of` made, into audit log and outbox, once; raises StoreUnavailable."""
    action, reason = decision.action.value, decision.reason.value
    catalogue.record_decision(resource.ref, actor, action, reason, decision.message, event)
