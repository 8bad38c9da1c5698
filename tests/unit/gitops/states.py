"""Resources of all six kinds in every state that planners write, with how tools ought to read each of them.

The states come from the planners themselves: a small pipeline is brought to the point where they say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from levada.names import Kind
from levada.planners.plan import ServingState
from levada.resources import AnyResource, Ref
from levada.resources.conditions import Reason
from levada.steps.io import StepError
from tests.unit.planners.test_pipeline import pipeline
from tests.unit.planners.worlds import World, candidate, ref

NAMES = {
    Kind.DATASET: "flights",
    Kind.FEATURE_SET: "flights",
    Kind.TRAINING_RUN: "late",
    Kind.MODEL_CANDIDATE: "late-linear",
    Kind.DEPLOYMENT: "late",
    Kind.SCORING_RUN: "late",
}
FAILURE = StepError(reason=Reason.SOURCE_NOT_FOUND, message="there is no bucket 'b'")
# What may be edited, by kind: carried out by a new execution, or at once.
EDITS: dict[Kind, dict[str, Any]] = {
    Kind.DATASET: {"format": {"type": "jsonl"}},
    Kind.FEATURE_SET: {"features": ["id"]},
    Kind.TRAINING_RUN: {"split": {"type": "random", "seed": 8}},
    Kind.MODEL_CANDIDATE: {"evaluators": ["roc"]},
    Kind.DEPLOYMENT: {"keepVersions": 3},
    Kind.SCORING_RUN: {"model": {"trainingRun": "late"}},
}
NEEDED = {  # what each waits for
    Kind.FEATURE_SET: ref(Kind.DATASET, "flights"),
    Kind.TRAINING_RUN: ref(Kind.FEATURE_SET, "flights"),
    Kind.DEPLOYMENT: ref(Kind.TRAINING_RUN, "late"),
    Kind.SCORING_RUN: ref(Kind.DEPLOYMENT, "late"),
}
SUSPENDED = [kind for kind in Kind if kind is not Kind.MODEL_CANDIDATE]  # those that can be


@dataclass(frozen=True)
class State:
    """A resource in a state, and how kstatus and Argo CD ought to read it; `message`: part of what both show."""

    name: str
    resource: AnyResource
    kstatus: str
    argo: str
    message: str = ""


@cache
def states_of(kind: Kind) -> tuple[State, ...]:
    """Every state of a kind."""
    return tuple(_states(kind))


def _states(kind: Kind) -> Iterator[State]:
    def state(name: str, make: Callable[[Ref], World], kstatus: str, argo: str, message: str = "") -> State:
        target = ref(kind, NAMES[kind])
        return State(name, make(target).resources[target], kstatus, argo, message)

    yield state("new", _new, "InProgress", "Progressing")
    if kind in NEEDED:
        missing = f"waits for {NEEDED[kind]}, which does not exist"
        yield state("waiting", _waiting, "InProgress", "Progressing", missing)
    yield state("running", _running, "InProgress", "Progressing")
    yield state("failed", _failed, "Failed", "Degraded", FAILURE.message)
    yield state("ready", _ready, "Current", "Healthy")
    yield state("edited", _edited, "InProgress", "Progressing")
    if kind is not Kind.DEPLOYMENT:  # that an edit takes a while
        yield state("running-an-edit", _running_an_edit, "InProgress", "Progressing")
        yield state("failed-after-an-edit", _failed_after_an_edit, "Failed", "Degraded", FAILURE.message)
    if kind in (Kind.DATASET, Kind.FEATURE_SET, Kind.TRAINING_RUN, Kind.SCORING_RUN):
        yield state("running-again", _running_again, "InProgress", "Healthy")
    if kind in SUSPENDED:
        yield state("suspended-at-once", _suspended_at_once, "InProgress", "Suspended", "suspended before")
        yield state("suspended", _suspended, "Current", "Suspended")
    if kind is Kind.DEPLOYMENT:
        yield state("taking-over", _taking_over, "InProgress", "Healthy", "is being brought into service")
        yield state("waiting-for-approval", _waiting_for_approval, "InProgress", "Suspended", "waits for approval")
        yield state("silent", _silent, "InProgress", "Progressing", "does not answer")
        yield state("not-supported", _not_supported, "Failed", "Degraded", "spec.cache is not supported yet")
    if kind is Kind.TRAINING_RUN:
        yield state("gate-not-passed", _gate_not_passed, "Failed", "Degraded", "rocAuc")


def _pipeline(target: Ref) -> World:
    """The pipeline, with the candidate if that is asked for: one that somebody has registered."""
    world = pipeline()
    if target.kind is Kind.MODEL_CANDIDATE:
        world.add(candidate(target.name))
    return world


def _new(target: Ref) -> World:
    return _pipeline(target)


def _waiting(target: Ref) -> World:
    world = _pipeline(target)
    del world.resources[NEEDED[target.kind]]
    world.reconcile(target)
    return world


def _running(target: Ref) -> World:
    world = _pipeline(target)
    _run(world, target)
    return world


def _run(world: World, target: Ref) -> None:
    """Let all others do their work until the target has begun with its own."""
    for _ in range(100):
        for each in list(world.resources):
            planned = world.reconcile(each)
            if each == target and (world.active(target) or planned.serving is not None):
                return
            if planned.serving is not None:
                versions = frozenset(v.version for v in planned.serving.versions)
                world.serving[each] = ServingState(versions, url="http://127.0.0.1:1")
            for name in world.active(each):
                world.succeed(each, name)
    raise AssertionError(f"{target} does not begin")


def _fail(world: World, target: Ref) -> None:
    if target.kind is Kind.DEPLOYMENT:
        world.serving[target] = ServingState(failed={1: FAILURE})
    else:
        world.fail(target, FAILURE.reason, FAILURE.message)
    for _ in range(3):  # until it says so: a training goes by what its candidates say
        world.reconcile(target)


def _failed(target: Ref) -> World:
    world = _running(target)
    _fail(world, target)
    return world


def _ready(target: Ref) -> World:
    world = _pipeline(target)
    world.settle()
    return world


def _edited(target: Ref) -> World:
    world = _ready(target)
    world.edit(target, **EDITS[target.kind])
    return world


def _running_an_edit(target: Ref) -> World:
    world = _edited(target)
    _run(world, target)
    return world


def _failed_after_an_edit(target: Ref) -> World:
    world = _running_an_edit(target)
    _fail(world, target)
    return world


def _running_again(target: Ref) -> World:
    world = _ready(target)
    world.sources[ref(Kind.DATASET, "flights")] = "new files"
    world.now += timedelta(hours=1)
    _run(world, target)
    return world


def _suspended_at_once(target: Ref) -> World:
    world = _pipeline(target)
    world.edit(target, suspend=True)
    world.settle()
    return world


def _suspended(target: Ref) -> World:
    world = _ready(target)
    world.edit(target, suspend=True)
    world.settle()
    return world


def _taking_over(target: Ref) -> World:
    world = _ready(target)
    world.metrics = {"linear": {"rocAuc": 0.9}, "trees": {"rocAuc": 0.5}}
    world.sources[ref(Kind.DATASET, "flights")] = "new files"
    _run_until_pending(world, target)
    return world


def _run_until_pending(world: World, target: Ref) -> None:
    for _ in range(100):
        for each in list(world.resources):
            world.reconcile(each)
            for name in world.active(each):
                world.succeed(each, name)
        served: Any = world.resources[target]
        if any(v.state == "Pending" for v in served.status.versions):
            return
    raise AssertionError("no other version takes over")


def _waiting_for_approval(target: Ref) -> World:
    world = _pipeline(target)
    world.edit(target, promotion="manual")
    world.settle()
    return world


def _silent(target: Ref) -> World:
    world = _ready(target)
    world.serving[target] = ServingState()
    world.reconcile(target)
    return world


def _not_supported(target: Ref) -> World:
    world = _pipeline(target)
    world.edit(target, cache={})
    world.reconcile(target)
    return world


def _gate_not_passed(target: Ref) -> World:
    world = _pipeline(target)
    world.edit(target, gate={"minimum": {"rocAuc": 0.99}})
    world.settle()
    return world
