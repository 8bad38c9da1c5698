"""Decisions: what happens again is a decision of its own; what is only planned again is not (World.plan checks it)."""

from __future__ import annotations

from datetime import timedelta

from levada.names import Kind
from levada.planners.plan import Action
from levada.resources import Ref
from levada.resources.conditions import Reason
from tests.unit.planners.test_deployment import SERVED, choose, ready
from tests.unit.planners.test_deployment import world as deployed
from tests.unit.planners.test_pipeline import pipeline
from tests.unit.planners.worlds import World, dataset, ref

FLIGHTS = ref(Kind.DATASET, "flights")
HIGH, LOW = ({"type": "quality", "metric": "rocAuc", "minimum": bound} for bound in (0.605, 0.5))


def keys(world: World, owner: Ref, action: Action) -> list[str]:
    """The keys of a resource's decisions of one kind, in order."""
    return [key for ref, other, key in world.decided if (ref, other) == (owner, action)]


def differ(found: list[str], number: int) -> bool:
    return len(found) == len(set(found)) == number


def test_x2_every_change_of_the_serving_version_is_announced() -> None:
    made = deployed()
    for best in "ababa":
        choose(made, best)
        made.now += timedelta(hours=1)
        ready(made, made.reconcile(SERVED))
        made.reconcile(SERVED)
    assert differ(keys(made, SERVED, Action.VERSION_SERVING), 5)


def test_x2_a_version_that_is_rejected_again_for_the_same_is_announced_again() -> None:
    made = deployed(tests=[HIGH])
    for tests in ([HIGH], [LOW], [HIGH]):
        made.edit(SERVED, tests=tests)
        made.now += timedelta(hours=1)
        made.reconcile(SERVED)
    assert differ(keys(made, SERVED, Action.VERSION_REJECTED), 2)


def test_x2_a_candidate_that_is_the_best_again_waits_for_approval_again() -> None:
    made = deployed(promotion="manual")
    for best in "aba":
        choose(made, best)
        made.now += timedelta(hours=1)
        made.reconcile(SERVED)
    assert differ(keys(made, SERVED, Action.APPROVAL_NEEDED), 3)


def test_x2_a_candidate_that_passes_the_gate_again_is_announced_again() -> None:
    made, run = pipeline(), ref(Kind.TRAINING_RUN, "late")
    for bound in (0.1, 0.9, 0.1, 0.9, 0.1):
        made.edit(run, gate={"minimum": {"rocAuc": bound}})
        made.now += timedelta(hours=1)
        made.settle()
    assert differ(keys(made, run, Action.BEST_CHOSEN), 3)
    assert differ(keys(made, run, Action.STALLED), 2)


def test_x2_of_two_candidates_that_are_the_best_in_turn_each_turn_is_announced() -> None:
    made, run = pipeline(), ref(Kind.TRAINING_RUN, "late")
    for metric in ("rocAuc", "f1", "rocAuc", "f1"):
        made.metrics = {"linear": {"rocAuc": 0.6, "f1": 0.7}, "trees": {"rocAuc": 0.7, "f1": 0.6}}
        made.edit(run, objective={"metric": metric, "direction": "maximize"})
        made.now += timedelta(hours=1)
        made.settle()
    assert differ(keys(made, run, Action.BEST_CHOSEN), 4)


def test_x2_an_ingestion_of_content_that_comes_back_is_announced_and_so_is_its_failure() -> None:
    made = World()
    made.add(dataset())
    for content in "abab":
        made.sources[FLIGHTS] = content
        made.now += timedelta(hours=1)
        made.reconcile(FLIGHTS)
        made.now += timedelta(hours=1)
        made.fail(FLIGHTS, Reason.SOURCE_NOT_FOUND, "there is no bucket 'b'")
        made.reconcile(FLIGHTS)
    for action in (Action.EXECUTION_STARTED, Action.EXECUTION_FAILED, Action.STALLED):
        assert differ(keys(made, FLIGHTS, action), 4), action
