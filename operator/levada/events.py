"""Every event that Levada announces: CloudEvents 1.0 over NATS, documented in docs/events.md (generated from here).

Events inform; nothing's correctness depends on one arriving. They are written to the outbox in the transaction of what
they speak of and published from there at least once, with the event's id as `Nats-Msg-Id`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from levada import names
from levada.names import Kind
from levada.resources.base import Model


class EventType(StrEnum):
    """The last part of an event's subject; its CloudEvents type is `dev.levada.<kind>.<event>`."""

    # steps
    RAW_DATA_EXTRACTED = "raw-data-extracted"
    FEATURES_GENERATED = "features-generated"
    SPLIT_CREATED = "split-created"
    MODEL_TRAINED = "model-trained"
    MODEL_EVALUATED = "model-evaluated"
    SCORES_READY = "scores-ready"
    # decisions (planners/plan.py: Action)
    EXECUTION_STARTED = "execution-started"
    EXECUTION_FAILED = "execution-failed"
    CANDIDATE_CREATED = "candidate-created"
    CANDIDATE_REFUSED = "candidate-refused"
    MODEL_READY = "model-ready"
    VERSION_CREATED = "version-created"
    VERSION_SERVING = "version-serving"
    VERSION_REJECTED = "version-rejected"
    APPROVAL_NEEDED = "approval-needed"
    STALLED = "stalled"


_KINDS = {kind.value.lower(): kind for kind in Kind}


class Event(Model):
    """An event, before it takes the CloudEvents form."""

    id: str
    type: EventType
    kind: Kind
    namespace: str
    name: str
    time: datetime
    data: dict[str, Any] = {}

    @property
    def subject(self) -> str:
        """NATS subject."""
        return names.subject(self.namespace, self.kind, self.name, self.type.value)

    @classmethod
    def from_cloud_event(cls, document: dict[str, Any]) -> Self:
        """The event of a CloudEvents document as `cloud_event` makes them."""
        _, _, kind, event = document["type"].split(".")
        _, _, namespace, _, name = document["source"].split("/")
        return cls(
            id=document["id"],
            type=EventType(event),
            kind=_KINDS[kind],
            namespace=namespace,
            name=name,
            time=datetime.fromisoformat(document["time"]),
            data=document.get("data", {}),
        )

    def cloud_event(self) -> dict[str, Any]:
        """The event as CloudEvents 1.0 in JSON (structured mode)."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "type": f"dev.levada.{self.kind.value.lower()}.{self.type.value}",
            "source": f"/levada/{self.namespace}/{self.kind.value.lower()}/{self.name}",
            "subject": self.name,
            "time": self.time.isoformat(),
            "datacontenttype": "application/json",
            "data": self.data,
        }
