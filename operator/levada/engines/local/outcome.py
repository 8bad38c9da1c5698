"""What a run came to, for its exit code: what is not as it should be, and whether work was going on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from levada.engines.local.engine import succeeded
from levada.engines.local.home import Record
from levada.planners import references_of
from levada.resources import AnyResource, Ref
from levada.resources.conditions import ConditionType, Reason, condition_of, is_true

_PAUSED = (Reason.SUSPENDED, Reason.WAITING_FOR_APPROVAL)
_WAITING = (Reason.WAITING_FOR_REFERENCE, Reason.WAITING_FOR_INPUT)


def amiss(world: Mapping[Ref, AnyResource]) -> set[Ref]:
    """The resources that are neither ready nor complete, nor held up as their users want it.

    Held up is what is suspended or waits for approval, and what waits for nothing but such resources.
    """
    open = {ref for ref, resource in world.items() if not succeeded(resource)}
    fine = {ref for ref in open if _reason(world[ref]) in _PAUSED}
    waiting = {ref: _awaited(world[ref], world) for ref in open if _reason(world[ref]) in _WAITING}
    while more := {ref for ref, awaited in waiting.items() if awaited and awaited <= fine} - fine:
        fine |= more
    return open - fine


def at_work(resources: Iterable[AnyResource]) -> bool:
    """Whether something is being carried out."""
    return any(is_true(resource.status.conditions, ConditionType.RECONCILING) for resource in resources)


def with_owned(refs: Iterable[Ref], records: Mapping[Ref, Record]) -> set[Ref]:
    """Resources and all that they own."""
    found = set(refs)
    while owned := {ref for ref, record in records.items() if record.owner in found} - found:
        found |= owned
    return found


def _reason(resource: AnyResource) -> Reason | None:
    """Why a resource is not ready; None while its newest spec has not been looked at."""
    ready = condition_of(resource.status.conditions, ConditionType.READY)
    seen = resource.status.observed_generation == resource.metadata.generation
    return ready.reason if ready is not None and ready.status == "False" and seen else None


def _awaited(resource: AnyResource, world: Mapping[Ref, AnyResource]) -> set[Ref]:
    """What a waiting resource refers to that is not there or not as it should be."""
    return {ref for ref in references_of(resource) if ref not in world or not succeeded(world[ref])}
