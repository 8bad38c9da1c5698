"""Whatever happens in whatever order: plans are fixed points, invariants hold, and in the end everything is done.

That planning twice is planning once is checked by `World.plan` on every single plan.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from levada.names import Kind
from levada.planners.plan import Action, JobState, Plan, ServingState
from levada.resources import Dataset, Deployment, Ref
from levada.resources.conditions import ConditionType, Reason, is_true
from levada.steps.io import ProgressRecord, StepError
from tests.unit.planners.test_pipeline import pipeline
from tests.unit.planners.worlds import FIXED, World, dataset, kstatus, ref

FLIGHTS, SERVED = ref(Kind.DATASET, "flights"), ref(Kind.DEPLOYMENT, "late")

FORMATS = st.sampled_from(["csv", "jsonl"]).map(lambda type: ("edit", {"format": {"type": type}}))
SCHEDULES = st.sampled_from(["Forbid", "Allow", "Replace"]).map(
    lambda policy: ("edit", {"schedule": {"cron": "0 * * * *", "concurrencyPolicy": policy}})
)
EVENTS = st.one_of(
    FORMATS,
    SCHEDULES,
    st.sampled_from(
        [
            ("edit", {"schedule": None}),
            ("edit", {"schedule": {"cron": "broken"}}),
            ("edit", {"suspend": True}),
            ("edit", {"suspend": False}),
            ("edit", {"retries": 5}),
            ("succeed", None),
            ("fail", None),
            ("progress", None),
            ("lose", None),
            ("forget", None),
        ]
    ),
    st.tuples(st.just("source"), st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("message"), st.none()),
    st.tuples(st.just("request"), st.sampled_from(["x", "y"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 50, 4000])),
)


def repeated(world: World) -> dict[tuple[Ref, Action, str], int]:
    """Decisions that were taken for another, and so announced and audited once only."""
    return {decision: times for decision, times in Counter(world.decided).items() if times > 1}


def happen(world: World, event: str, value: Any, number: int) -> None:
    """Let something happen to the Dataset, if it can."""
    active = world.active(FLIGHTS)
    match event:
        case "edit":
            world.edit(FLIGHTS, **value)
        case "succeed" if active:
            world.succeed(FLIGHTS, active[-1])
        case "fail" if active:
            world.jobs[FLIGHTS][active[-1]] = JobState(active[-1], "failed", finished_at=world.now)
        case "progress" if active:
            seen = ProgressRecord(phase="copy", done=number)
            world.jobs[FLIGHTS][active[-1]] = JobState(active[-1], "active", progress=seen, retries=number % 3)
        case "lose" if active:
            del world.jobs[FLIGHTS][active[-1]]
        case "forget":
            world.jobs[FLIGHTS] = {n: j for n, j in world.jobs.get(FLIGHTS, {}).items() if j.phase == "active"}
        case "source":
            world.sources[FLIGHTS] = value
        case "message":
            world.triggers[FLIGHTS] = (*world.triggers.get(FLIGHTS, ()), f"m{number}")
        case "request":
            world.annotate(FLIGHTS, value)
        case "wait":
            world.now += timedelta(minutes=value)


def check(world: World, before: Dataset, planned: Plan) -> None:
    """What holds after every plan."""
    resource = world.resources[FLIGHTS]
    assert isinstance(resource, Dataset)
    spec, status = resource.spec, resource.status
    execution = status.execution
    stalled = is_true(status.conditions, ConditionType.STALLED)
    assert status.observed_generation == resource.metadata.generation
    assert {c.observed_generation for c in status.conditions} == {resource.metadata.generation}
    assert (kstatus(resource) == "Failed") == stalled
    assert len(set(status.batches)) == len(status.batches) <= status.batch_count
    if is_true(status.conditions, ConditionType.READY):
        assert status.latest_batch is not None
        assert not stalled
    running = execution is not None and execution.state == "Running"
    if running and not stalled:
        assert is_true(status.conditions, ConditionType.RECONCILING)
        assert len(planned.jobs) == 1
    else:
        assert planned.jobs == ()
    if spec.schedule is None or spec.schedule.concurrency_policy != "Allow":
        assert len(world.active(FLIGHTS)) <= 1
    started = [d for d in planned.decisions if d.action == Action.EXECUTION_STARTED]
    if spec.suspend:
        assert started == []
    assert len(started) <= 1
    assert (execution != before.status.execution) or not started


@FIXED
@given(st.booleans(), st.lists(EVENTS, max_size=25))
def test_x5_whatever_happens_to_a_dataset_its_plans_are_sound_and_it_ends_well(
    local: bool, events: list[tuple[str, Any]]
) -> None:
    world = World(local=local)
    world.add(dataset(triggers=[] if local else [{"subject": "landing.flights"}]))
    for number, (event, value) in enumerate(events):
        world.now += timedelta(seconds=1)
        before = world.resources[FLIGHTS]
        assert isinstance(before, Dataset)
        happen(world, event, value, number)
        planned = world.reconcile(FLIGHTS)
        check(world, before, planned)
    world.edit(FLIGHTS, suspend=False, schedule=None, triggers=None)
    world.annotate(FLIGHTS, "at last")
    world.settle()
    resource = world.resources[FLIGHTS]
    assert kstatus(resource) == "Current"
    assert world.active(FLIGHTS) == []
    assert repeated(world) == {}


PIPELINE = st.one_of(
    st.sampled_from(
        [
            ("source", None),
            ("linear", None),
            ("trees", None),
            ("gate", 0.9),
            ("gate", 0.1),
            ("evaluators", ["roc"]),
            ("evaluators", []),
            ("fail", None),
            ("succeed", None),
            ("ready", None),
            ("broken", 0),
            ("broken", 1),
            ("approve", None),
            ("transform", "standard"),
            ("transform", "robust"),
            ("tests", 0.65),
            ("tests", None),
        ]
    ),
    st.tuples(st.just("reconcile"), st.integers(0, 20)),
)


def happen_to_pipeline(world: World, event: str, value: Any, number: int) -> None:
    run, features = ref(Kind.TRAINING_RUN, "late"), ref(Kind.FEATURE_SET, "flights")
    refs = list(world.resources)
    match event:
        case "source":
            world.sources[FLIGHTS] = f"content {number}"
        case "linear" | "trees":
            world.metrics[event] = {"rocAuc": 0.6 + number / 100}
        case "gate":
            world.edit(run, gate={"minimum": {"rocAuc": value}})
        case "evaluators":
            world.edit(run, evaluators=value)
        case "transform":
            world.edit(features, transform=[{"columns": ["id"], "steps": [{"scale": value}]}])
        case "tests":
            tests = [{"type": "quality", "metric": "rocAuc", "minimum": value}] if value else None
            world.edit(SERVED, tests=tests)
        case "reconcile":
            world.reconcile(refs[value % len(refs)])
        case "succeed" | "fail":
            for each in refs:
                for name in world.active(each)[:1]:
                    if event == "succeed":
                        world.succeed(each, name)
                    else:
                        world.fail(each, Reason.STEP_FAILED, f"broken {number}")
        case "ready" | "broken":
            planned = world.reconcile(SERVED)
            held = [v.version for v in planned.serving.versions] if planned.serving is not None else []
            error = StepError(reason=Reason.INVALID_DATA, message=f"broken {number}")
            broken = {held[value % len(held)]: error} if event == "broken" and held else {}
            world.serving[SERVED] = ServingState(frozenset(held) - broken.keys(), failed=broken)


@FIXED
@given(st.lists(PIPELINE, max_size=25))
def test_x5_whatever_happens_to_a_pipeline_versions_stay_sound_and_it_comes_to_rest(
    events: list[tuple[str, Any]],
) -> None:
    world = pipeline()
    for number, (event, value) in enumerate(events):
        world.now += timedelta(seconds=1)
        happen_to_pipeline(world, event, value, number)
        for each in list(world.resources):
            world.reconcile(each)
        served = world.resources[SERVED]
        assert isinstance(served, Deployment)
        versions = served.status.versions
        assert [v.version for v in versions] == sorted({v.version for v in versions}, reverse=True)
        assert sum(v.state == "Serving" for v in versions) <= 1
        assert sum(v.state == "Pending" for v in versions) <= 1
        assert sum(v.weight for v in versions) in (0, 100)
        assert {v.weight for v in versions if v.state != "Serving"} <= {0}
        planned = world.plan(SERVED)
        if planned.serving is not None:
            held = planned.serving.versions
            assert sum(v.weight for v in held) == 100
            rejected = {v.version for v in versions if v.state == "Rejected"}
            assert not rejected & {v.version for v in held}
            assert served.status.serving_version is None or served.status.serving_version in {v.version for v in held}
    world.serving.pop(SERVED, None)
    world.settle()
    for each in list(world.resources):
        assert world.plan(each).jobs == ()
    assert repeated(world) == {}
