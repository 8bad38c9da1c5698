"""Kubernetes Events: what `kubectl describe` and `kubectl get events` tell of decisions.

They are for people, expire after an hour, and nothing rests on them: written behind the engine's back, given up when
refused. An Event has its name from what it says, so that the same again counts up instead of being a second one.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from levada import names
from levada.engines.kubernetes.cluster import Cluster, Conflict, Refused, Unavailable, micro_time
from levada.planners.plan import Action, Decision
from levada.resources import AnyResource, Ref
from levada.resources.conditions import Reason
from levada.resources.status import Status

log = structlog.get_logger()

Document = dict[str, Any]

CONTROLLER = f"{names.GROUP}/operator"
_LAST = f"{names.GROUP}/last-occurrence"
_BAD_NEWS = {Action.EXECUTION_FAILED, Action.CANDIDATE_REFUSED, Action.VERSION_REJECTED, Action.STALLED}
_NOTE_BYTES = 1024  # as the API bounds them
_WAITING = 1000  # so many may wait to be written; then the oldest are forgotten
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Occurrence:
    """Something that happened to a resource; `id` tells it from the same at another time."""

    ref: Ref
    uid: str
    id: str
    warning: bool
    reason: str
    action: str
    note: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def of_decision(resource: AnyResource, decision: Decision, id: str) -> Occurrence:
    """A decision that was recorded under an id."""
    uid, warning = resource.metadata.uid, decision.action in _BAD_NEWS
    action, note = _camel(decision.action), _clipped(decision.message)
    return Occurrence(resource.ref, uid, id, warning, decision.reason.value, action, note)


def of_refusal(ref: Ref, uid: str, reason: Reason, message: str) -> Occurrence:
    """A resource that cannot be read, about which nothing was decided."""
    id = names.event_id(uid, Action.STALLED.value, message)
    return Occurrence(ref, uid, id, True, reason.value, _camel(Action.STALLED), _clipped(message))


def of_warnings(resource: AnyResource, version: str, status: Status) -> Iterator[Occurrence]:
    """The warnings of a status that is written over a version (resourceVersion) of a resource, without those there."""
    ref, uid = resource.ref, resource.metadata.uid
    for warning in status.warnings:
        if warning not in resource.status.warnings:
            id = names.event_id(uid, version, warning)
            yield Occurrence(ref, uid, id, True, "Warning", "Reconcile", _clipped(warning))


def to_tell(decisions: Iterable[Decision]) -> Iterator[Decision]:
    """Decisions without the standstill that only repeats why something else was decided.

    Nor that something was started: the status says so, and the Events of its Job.
    """
    given = [decision for decision in decisions if decision.action is not Action.EXECUTION_STARTED]
    said = {decision.message for decision in given if decision.action is not Action.STALLED}
    yield from (d for d in given if d.action is not Action.STALLED or d.message not in said)


def event_document(occurrence: Occurrence, instance: str) -> Document:
    """The Event of an occurrence that is the first of its like."""
    ref, said = occurrence.ref, [occurrence.uid, occurrence.reason, occurrence.action, occurrence.note]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": names.kube_event_name(ref.name, said),
            "namespace": ref.namespace,
            "annotations": {_LAST: occurrence.id},
        },
        "type": "Warning" if occurrence.warning else "Normal",
        "reason": occurrence.reason,
        "action": occurrence.action,
        "note": occurrence.note,
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": ref.kind.value,
            "namespace": ref.namespace,
            "name": ref.name,
            "uid": occurrence.uid,
        },
        "eventTime": micro_time(occurrence.at),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
    }


def counted_up(known: Document, occurrence: Occurrence) -> Document | None:
    """What to change in an Event that is there already; None if it tells of this very occurrence."""
    metadata = known["metadata"]
    if metadata.get("annotations", {}).get(_LAST) == occurrence.id:
        return None
    count = (known.get("series") or {}).get("count", 1) + 1
    return {
        "metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": {_LAST: occurrence.id}},
        "series": {"count": count, "lastObservedTime": micro_time(occurrence.at)},
    }


class EventRecorder:
    """Writes Events one after the other. `record` belongs to the event loop that runs it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._instance = socket.gethostname()[:128]
        self._waiting: deque[Occurrence] = deque(maxlen=_WAITING)
        self._news = asyncio.Event()

    def record(self, occurrence: Occurrence) -> None:
        """Have an Event written when there is time."""
        self._waiting.append(occurrence)
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                occurrence = self._waiting.popleft()
                try:
                    await asyncio.to_thread(self._write, occurrence)
                except (Unavailable, Conflict):
                    if len(self._waiting) < _WAITING:  # else this one is the oldest, and goes
                        self._waiting.appendleft(occurrence)
                    await asyncio.sleep(_RETRY_SECONDS)
                except Refused as error:
                    log.warning("an Event is not written", resource=str(occurrence.ref), error=str(error))

    def _write(self, occurrence: Occurrence) -> None:
        known = self._cluster.make_event(event_document(occurrence, self._instance))
        if known is not None and (change := counted_up(known, occurrence)) is not None:
            self._cluster.change_event(known["metadata"]["namespace"], known["metadata"]["name"], change)


def _camel(action: Action) -> str:
    return "".join(part.capitalize() for part in action.value.split("-"))


def _clipped(note: str) -> str:
    data = note.encode()
    return note if len(data) <= _NOTE_BYTES else data[: _NOTE_BYTES - 4].decode(errors="ignore") + " …"
