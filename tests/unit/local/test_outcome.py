"""What a run came to: what counts as amiss, and what is held up as its user wants it."""

from __future__ import annotations

import pytest

from levada.engines.local.outcome import amiss, at_work
from levada.names import Kind
from levada.resources import AnyResource
from tests.unit.planners.worlds import World, dataset, deployment, feature_set, ref, scoring_run, training_run

DATA, FEATURES = ref(Kind.DATASET, "flights"), ref(Kind.FEATURE_SET, "flights")
RUN, SERVED, SCORED = ref(Kind.TRAINING_RUN, "late"), ref(Kind.DEPLOYMENT, "late"), ref(Kind.SCORING_RUN, "late")


def carried_out(*resources: AnyResource) -> World:
    """A world in which every job succeeded and nothing is left to do."""
    world = World()
    world.add(*resources)
    world.settle()
    return world


def test_x8_what_is_suspended_and_what_waits_for_it_alone_is_not_amiss() -> None:
    world = carried_out(dataset(suspend=True), feature_set(), training_run(), deployment(), scoring_run())

    assert amiss(world.resources) == set()
    assert not at_work(world.resources.values())


def test_x8_what_waits_for_a_person_to_approve_is_not_amiss() -> None:
    world = carried_out(dataset(), feature_set(), training_run(), deployment(promotion="manual"), scoring_run())

    assert amiss(world.resources) == set()


def test_x8_what_waits_for_something_that_is_not_there_is_amiss() -> None:
    world = carried_out(feature_set(), training_run())

    assert amiss(world.resources) == {FEATURES, RUN}


@pytest.mark.parametrize("other", [dataset("weather"), dataset("weather", suspend=True)])
def test_x8_what_failed_and_what_waits_for_it_is_amiss(other: AnyResource) -> None:
    inputs = [{"dataset": "flights"}, {"dataset": "weather"}]
    world = World()
    world.add(dataset(), other, feature_set(inputs=inputs, query="SELECT 1 AS id"), training_run())
    world.reconcile(DATA)
    world.fail(DATA)
    world.settle()

    assert amiss(world.resources) == {DATA, FEATURES, RUN}


def test_x8_what_was_edited_and_not_looked_at_since_is_amiss() -> None:
    world = carried_out(dataset())
    assert amiss(world.resources) == set()
    world.edit(DATA, retries=7)

    assert amiss(world.resources) == {DATA}


def test_x8_what_runs_is_at_work() -> None:
    world = World()
    world.add(dataset())
    world.reconcile(DATA)

    assert at_work(world.resources.values())
    assert amiss(world.resources) == {DATA}
