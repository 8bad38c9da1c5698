"""A whole pipeline of plans: in any order of manifests it ends the same, and then nothing more is done."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import pytest

from levada.names import Kind
from levada.resources import Deployment, Ref, ScoringRun, TrainingRun
from levada.resources.conditions import ConditionType, Reason, is_true
from tests.unit.planners.worlds import (
    World,
    dataset,
    deployment,
    feature_set,
    kstatus,
    ref,
    says,
    scoring_run,
    training_run,
)


def pipeline() -> World:
    world = World(metrics={"linear": {"rocAuc": 0.66}, "trees": {"rocAuc": 0.69}})
    world.add(dataset("flights"), dataset("planes"))
    world.add(feature_set("planes", inputs=[{"dataset": "planes"}]))
    world.add(feature_set("flights", lookups=[{"featureSet": "planes", "keys": ["tailnum"]}]))
    world.add(training_run(), deployment(), scoring_run())
    return world


@pytest.mark.parametrize("order", [0, 100, 1000, 5039])
def test_x8_a_pipeline_ends_the_same_in_any_order_of_manifests(order: int) -> None:
    first, second = pipeline(), pipeline()
    ways = permutations(second.resources)
    second.resources = {r: second.resources[r] for r in next(w for i, w in enumerate(ways) if i == order)}
    first.settle()
    second.settle()
    assert {r: x.status.document() for r, x in first.resources.items()} == {
        r: x.status.document() for r, x in second.resources.items()
    }


def test_k8s3_everything_is_current_once_the_pipeline_is_done() -> None:
    world = pipeline()
    world.settle()
    assert {kstatus(resource) for resource in world.resources.values()} == {"Current"}


def test_eval3_the_best_candidate_is_served_and_scores() -> None:
    world = pipeline()
    world.settle()
    run, served = world.resources[ref(Kind.TRAINING_RUN, "late")], world.resources[ref(Kind.DEPLOYMENT, "late")]
    scored = world.resources[ref(Kind.SCORING_RUN, "late")]
    assert isinstance(run, TrainingRun)
    assert isinstance(served, Deployment)
    assert isinstance(scored, ScoringRun)
    assert run.status.best is not None
    assert run.status.best.name.startswith("late-trees-")
    assert served.status.versions[0].candidate == run.status.best.name == scored.status.candidate
    assert is_true(run.status.conditions, ConditionType.COMPLETE)
    assert is_true(scored.status.conditions, ConditionType.COMPLETE)


def test_x5_a_finished_pipeline_asks_for_nothing_more() -> None:
    world = pipeline()
    world.settle()
    world.now += timedelta(days=1)
    for each in list(world.resources):
        planned = world.plan(each)
        assert (planned.jobs, planned.children, planned.decisions) == ((), (), ())
        assert planned.status == world.resources[each].status


def test_prep5_a_new_batch_runs_through_to_a_new_version() -> None:
    world = pipeline()
    world.settle()
    world.sources[ref(Kind.DATASET, "flights")] = "new files"
    world.settle()
    served = world.resources[ref(Kind.DEPLOYMENT, "late")]
    assert isinstance(served, Deployment)
    assert [(v.version, v.state) for v in served.status.versions] == [(2, "Serving"), (1, "Previous")]
    scored = world.resources[ref(Kind.SCORING_RUN, "late")]
    assert isinstance(scored, ScoringRun)
    assert scored.status.candidate == served.status.versions[0].candidate


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (Kind.DATASET, {"retries": 9, "deadline": "1h", "resources": {"limits": {"cpu": "1"}}, "suspend": True}),
        (Kind.DATASET, {"partitions": {"parallelism": 8}, "schedule": {"cron": "@daily"}}),
        (Kind.FEATURE_SET, {"retries": 9, "engine": {"memory": "1Gi"}, "suspend": True, "trigger": {"when": "all"}}),
        (Kind.TRAINING_RUN, {"retries": 9, "parallelism": {"workers": 1}, "schedule": {"cron": "@daily"}}),
        (Kind.SCORING_RUN, {"retries": 9, "partitions": 8, "suspend": True}),
    ],
)
def test_x5_changing_how_something_is_run_does_no_work_twice(kind: Kind, spec: dict[str, object]) -> None:
    world = pipeline()
    world.settle()
    target: Ref = next(r for r in world.resources if r.kind == kind)
    world.edit(target, **spec)
    for each in list(world.resources):
        # Candidates take over how they are run; that is no work either.
        assert world.reconcile(each).jobs == ()
    world.settle()
    assert says(world.resources[target]) is not None
    assert kstatus(world.resources[target]) == "Current"


def test_x8_a_missing_manifest_is_waited_for_by_name() -> None:
    world = pipeline()
    del world.resources[ref(Kind.DATASET, "planes")]
    world.settle()
    planes = world.resources[ref(Kind.FEATURE_SET, "planes")]
    flights = world.resources[ref(Kind.FEATURE_SET, "flights")]
    assert says(planes) == (
        "False",
        Reason.WAITING_FOR_REFERENCE,
        "waits for Dataset default/planes, which does not exist",
    )
    assert says(flights) == (
        "False",
        Reason.WAITING_FOR_INPUT,
        "waits for FeatureSet default/planes, which has no version yet",
    )
    world.add(dataset("planes"))
    world.settle()
    assert {kstatus(resource) for resource in world.resources.values()} == {"Current"}
