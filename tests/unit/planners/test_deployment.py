"""Deployment: versions, their states, and what scorers should hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from levada.names import Kind
from levada.planners.plan import Action, Plan, ServingState
from levada.resources import Deployment, ModelCandidate, TrainingRun
from levada.resources.conditions import ConditionType, Reason
from levada.resources.trainingrun import BestCandidate
from levada.steps.io import StepError
from tests.unit.planners.worlds import World, candidate, deployment, kstatus, ref, says, training_run

SERVED, RUN = ref(Kind.DEPLOYMENT, "late"), ref(Kind.TRAINING_RUN, "late")


def world(best: str = "a", **spec: Any) -> World:
    """Evaluated candidates a, b, c, d, and a TrainingRun whose best is one of them."""
    made = World()
    for index, name in enumerate("abcd"):
        made.metrics[name] = {"rocAuc": 0.6 + index / 100}
        made.add(candidate(name))
    made.settle()
    made.add(training_run())
    choose(made, best)
    made.add(deployment(**spec))
    return made


def choose(made: World, name: str) -> None:
    """Make a candidate the best one."""
    run = made.resources[RUN]
    assert isinstance(run, TrainingRun)
    best = BestCandidate(name=name, metric="rocAuc", value=0.7, since=made.now)
    made.add(run.model_copy(update={"status": run.status.model_copy(update={"best": best})}))


def served(made: World) -> Deployment:
    found = made.resources[SERVED]
    assert isinstance(found, Deployment)
    return found


def versions(made: World) -> list[tuple[int, str, str]]:
    return [(v.version, v.candidate, v.state) for v in served(made).status.versions]


def ready(made: World, planned: Plan, **state: Any) -> Plan:
    """Let the scorers hold all that is planned; the plan after that."""
    assert planned.serving is not None
    held = frozenset(v.version for v in planned.serving.versions)
    made.serving[SERVED] = ServingState(held, url="http://127.0.0.1:8080/v2/models/late", **state)
    made.now += timedelta(minutes=1)
    return made.reconcile(SERVED)


def weights(planned: Plan) -> dict[int, int]:
    assert planned.serving is not None
    return {v.version: v.weight for v in planned.serving.versions}


def serve(made: World, *names: str) -> Plan:
    """Make one candidate after the other the best, and let each become ready."""
    for name in names:
        choose(made, name)
        planned = ready(made, made.reconcile(SERVED))
    return planned


def test_dep1_the_best_candidate_becomes_version_one() -> None:
    made = world()
    planned = made.reconcile(SERVED)
    assert versions(made) == [(1, "a", "Pending")]
    assert [d.action for d in planned.decisions] == [Action.VERSION_CREATED]
    assert planned.serving is not None
    (version,) = planned.serving.versions
    stored = made.resources[ref(Kind.MODEL_CANDIDATE, "a")]
    assert isinstance(stored, ModelCandidate)
    assert (version.candidate, version.model_prefix, version.weight) == ("a", "models/default/a/", 100)
    assert version.onnx_digest == stored.status.digest
    assert kstatus(served(made)) == "InProgress"
    planned = ready(made, planned)
    assert versions(made) == [(1, "a", "Serving")]
    assert [d.action for d in planned.decisions] == [Action.VERSION_SERVING]
    assert says(served(made)) == ("True", Reason.SERVING, "version 1 (a) serves")
    assert (served(made).status.url, served(made).status.serving_version) == (
        "http://127.0.0.1:8080/v2/models/late",
        1,
    )


def test_dep3_the_old_version_serves_until_the_new_one_is_ready() -> None:
    made = world()
    serve(made, "a")
    choose(made, "b")
    planned = made.reconcile(SERVED)
    assert versions(made) == [(2, "b", "Pending"), (1, "a", "Serving")]
    assert weights(planned) == {1: 100, 2: 0}
    assert says(served(made)) == ("True", Reason.SERVING, "version 1 (a) serves")
    assert served(made).status.serving_version == 1
    planned = ready(made, planned)
    assert versions(made) == [(2, "b", "Serving"), (1, "a", "Previous")]
    assert weights(planned) == {1: 0, 2: 100}


@pytest.mark.parametrize(("keep", "held"), [(1, {2: 100}), (2, {1: 0, 2: 100})])
def test_dep3_scorers_that_take_over_hold_from_the_start_what_they_will_hold_once_they_have(
    keep: int, held: dict[int, int]
) -> None:
    made = world(keepVersions=keep)
    made.rolling = True
    serve(made, "a")
    choose(made, "b")
    planned = made.reconcile(SERVED)
    assert weights(planned) == held
    assert versions(made) == [(2, "b", "Pending"), (1, "a", "Serving")]
    assert says(served(made)) == ("True", Reason.SERVING, "version 1 (a) serves")
    promoted = ready(made, planned)
    assert versions(made) == [(2, "b", "Serving"), (1, "a", "Previous")]
    assert promoted.serving == planned.serving


def test_dep3_scorers_of_a_rejected_version_make_way_for_those_that_served() -> None:
    made = world()
    made.rolling = True
    before = serve(made, "a")
    choose(made, "b")
    made.reconcile(SERVED)
    made.serving[SERVED] = ServingState(frozenset({1}), failed={2: StepError(reason=Reason.NOT_READY, message="no")})
    planned = made.reconcile(SERVED)
    assert versions(made) == [(2, "b", "Rejected"), (1, "a", "Serving")]
    assert planned.serving == before.serving


def test_dep3_only_the_newest_previous_versions_stay_warm() -> None:
    made = world(keepVersions=2)
    planned = serve(made, "a", "b", "c")
    assert weights(planned) == {2: 0, 3: 100}
    assert versions(made) == [(3, "c", "Serving"), (2, "b", "Previous"), (1, "a", "Previous")]


def test_dep3_a_version_on_its_way_is_held_beside_those_that_stay_warm() -> None:
    made = world(keepVersions=2)
    serve(made, "a", "b")
    choose(made, "c")
    assert weights(made.reconcile(SERVED)) == {1: 0, 2: 100, 3: 0}


def test_dep4_naming_an_earlier_candidate_makes_its_version_serve_again() -> None:
    made = world()
    serve(made, "a", "b")
    made.edit(SERVED, model={"candidate": "a"})
    planned = made.reconcile(SERVED)  # version 1 is still warm
    assert versions(made) == [(2, "b", "Previous"), (1, "a", "Serving")]
    assert weights(planned) == {1: 100, 2: 0}
    assert served(made).status.last_version == 2
    assert [d.action for d in planned.decisions] == [Action.VERSION_SERVING]


def test_dep4_version_numbers_are_never_given_twice() -> None:
    made = world()
    serve(made, "a", "b", "c")
    status = served(made).status
    made.add(served(made).model_copy(update={"status": status.model_copy(update={"versions": status.versions[:1]})}))
    serve(made, "a")
    assert versions(made)[0] == (4, "a", "Serving")


def test_dep1_a_candidate_can_be_pinned() -> None:
    made = world(model={"candidate": "c"})
    ready(made, made.reconcile(SERVED))
    assert versions(made) == [(1, "c", "Serving")]


def test_dep1_a_changed_pin_is_not_ready_before_it_serves() -> None:
    made = world(model={"candidate": "a"})
    ready(made, made.reconcile(SERVED))
    made.edit(SERVED, model={"candidate": "b"})
    made.reconcile(SERVED)
    said = says(served(made))
    assert said is not None
    assert said[:2] == ("Unknown", Reason.PROGRESSING)


def test_x8_a_deployment_waits_for_an_evaluated_candidate_by_name() -> None:
    made = world(model={"candidate": "new"})
    made.reconcile(SERVED)
    assert says(served(made)) == (
        "False",
        Reason.WAITING_FOR_REFERENCE,
        "waits for ModelCandidate default/new, which does not exist",
    )
    made.add(candidate("new"))
    made.reconcile(SERVED)
    assert says(served(made)) == (
        "False",
        Reason.WAITING_FOR_INPUT,
        "waits for ModelCandidate default/new, which has not been evaluated yet",
    )


def test_x5_what_serves_goes_on_when_its_training_run_is_deleted() -> None:
    made = world()
    serve(made, "a")
    del made.resources[RUN]
    planned = made.reconcile(SERVED)
    assert weights(planned) == {1: 100}
    assert kstatus(served(made)) == "Current"
    assert served(made).status.warnings == ["waits for TrainingRun default/late, which does not exist"]


def test_x5_what_serves_goes_on_when_the_spec_cannot_be_carried_out() -> None:
    made = world()
    serve(made, "a")
    made.edit(SERVED, cache={})
    planned = made.reconcile(SERVED)
    assert weights(planned) == {1: 100}
    assert says(served(made)) == ("False", Reason.NOT_SUPPORTED, "spec.cache is not supported yet; leave it out")
    assert served(made).status.serving_version == 1


# --- approval -------------------------------------------------------------------------------------------------------


def test_dep4_by_hand_the_best_waits_until_it_is_approved() -> None:
    made = world(promotion="manual")
    planned = made.reconcile(SERVED)
    assert planned.serving is None
    assert [d.action for d in planned.decisions] == [Action.APPROVAL_NEEDED]
    assert says(served(made)) == (
        "False",
        Reason.WAITING_FOR_APPROVAL,
        "a waits for approval; name it in spec.approved",
    )
    made.edit(SERVED, approved="a")
    ready(made, made.reconcile(SERVED))
    assert versions(made) == [(1, "a", "Serving")]


def test_dep4_by_hand_a_new_best_is_asked_for_once_while_the_approved_one_serves() -> None:
    made = world(promotion="manual", approved="a")
    ready(made, made.reconcile(SERVED))
    choose(made, "b")
    assert [d.action for d in made.reconcile(SERVED).decisions] == [Action.APPROVAL_NEEDED]
    assert made.reconcile(SERVED).decisions == ()
    assert versions(made) == [(1, "a", "Serving")]
    assert kstatus(served(made)) == "Current"
    assert served(made).status.warnings == ["b waits for approval; name it in spec.approved"]


# --- tests and rejection --------------------------------------------------------------------------------------------


QUALITY = [{"type": "smoke"}, {"type": "quality", "metric": "rocAuc", "minimum": 0.605}]


def test_dep2_a_candidate_that_misses_a_quality_test_is_rejected_with_the_value() -> None:
    made = world(tests=QUALITY)
    planned = made.reconcile(SERVED)
    assert planned.serving is None
    assert versions(made) == [(1, "a", "Rejected")]
    assert [d.action for d in planned.decisions] == [
        Action.VERSION_CREATED,
        Action.VERSION_REJECTED,
        Action.STALLED,
    ]
    assert says(served(made)) == (
        "False",
        Reason.GATE_NOT_PASSED,
        "version 1 (a) was rejected: spec.tests[1]: rocAuc is 0.6, less than 0.605",
    )


def test_dep2_a_rejected_best_leaves_the_previous_version_serving_and_ready() -> None:
    made = world(tests=[{"type": "quality", "metric": "rocAuc", "maximum": 0.605}])
    serve(made, "a")
    choose(made, "b")
    planned = made.reconcile(SERVED)
    assert versions(made) == [(2, "b", "Rejected"), (1, "a", "Serving")]
    assert weights(planned) == {1: 100}
    assert kstatus(served(made)) == "Current"
    assert served(made).status.warnings == [
        "version 2 (b) was rejected: spec.tests[0]: rocAuc is 0.61, more than 0.605"
    ]


def test_dep2_a_test_of_a_metric_that_was_not_measured_names_those_that_were() -> None:
    made = world(tests=[{"type": "quality", "metric": "f1", "minimum": 0.5}])
    made.reconcile(SERVED)
    said = says(served(made))
    assert said is not None
    assert said[2].endswith("spec.tests[0]: it has no metric 'f1' (it has: rocAuc)")


def test_dep2_a_candidate_that_passes_changed_tests_is_tried_again() -> None:
    made = world(tests=QUALITY)
    made.reconcile(SERVED)
    made.edit(SERVED, tests=[])
    ready(made, made.reconcile(SERVED))
    assert versions(made) == [(1, "a", "Serving")]


def test_mon4_a_version_that_cannot_be_served_is_rejected_and_not_tried_again() -> None:
    made = world()
    serve(made, "a")
    choose(made, "b")
    made.reconcile(SERVED)
    error = StepError(reason=Reason.INVALID_DATA, message="the model needs an operator that is not there")
    made.serving[SERVED] = replace(made.serving[SERVED], failed={2: error})
    planned = made.reconcile(SERVED)
    assert versions(made) == [(2, "b", "Rejected"), (1, "a", "Serving")]
    assert [d.action for d in planned.decisions] == [Action.VERSION_REJECTED]
    assert weights(planned) == {1: 100}
    assert kstatus(served(made)) == "Current"
    made.serving[SERVED] = replace(made.serving[SERVED], failed={})
    made.edit(SERVED, replicas=2)
    made.now += timedelta(days=30)
    assert weights(made.reconcile(SERVED)) == {1: 100}
    assert versions(made) == [(2, "b", "Rejected"), (1, "a", "Serving")]


def test_mon4_the_error_of_a_rejected_version_does_not_reject_the_next_one() -> None:
    made = world()
    serve(made, "a")
    choose(made, "b")
    made.reconcile(SERVED)
    error = StepError(reason=Reason.INVALID_DATA, message="it does not load")
    made.serving[SERVED] = replace(made.serving[SERVED], failed={2: error})
    made.reconcile(SERVED)
    choose(made, "c")  # the scorers have not heard of it yet, and still show the error
    made.reconcile(SERVED)
    assert versions(made) == [(3, "c", "Pending"), (2, "b", "Rejected"), (1, "a", "Serving")]


def test_mon4_a_pinned_candidate_that_was_rejected_needs_a_person() -> None:
    made = world(model={"candidate": "a"})
    ready(made, made.reconcile(SERVED))
    made.edit(SERVED, model={"candidate": "b"})
    made.reconcile(SERVED)
    error = StepError(reason=Reason.INVALID_DATA, message="it does not load")
    made.serving[SERVED] = replace(made.serving[SERVED], failed={2: error})
    planned = made.reconcile(SERVED)
    assert weights(planned) == {1: 100}
    assert says(served(made), ConditionType.STALLED) == (
        "True",
        Reason.INVALID_DATA,
        "version 2 (b) was rejected: it does not load",
    )


def test_dep3_an_earlier_version_that_cannot_stay_warm_rejects_no_other_and_is_a_warning() -> None:
    made = world(keepVersions=2)
    serve(made, "a", "b")
    choose(made, "c")
    made.reconcile(SERVED)
    error = StepError(reason=Reason.NOT_READY, message="there is no object s3://levada/models/default/a/model.onnx")
    made.serving[SERVED] = ServingState(frozenset({2}), failed={1: error})
    made.reconcile(SERVED)
    assert versions(made) == [(3, "c", "Pending"), (2, "b", "Serving"), (1, "a", "Previous")]
    assert says(served(made)) == ("True", Reason.SERVING, "version 2 (b) serves")
    assert says(served(made), ConditionType.STALLED) is None
    assert served(made).status.warnings == [f"version 1 (a) does not stay warm: {error.message}"]


def test_dep3_a_serving_version_that_is_lost_needs_a_person_and_does_not_hold_up_the_next() -> None:
    made = world()
    serve(made, "a")
    error = StepError(reason=Reason.NOT_READY, message="there is no object s3://levada/models/default/a/model.onnx")
    made.serving[SERVED] = ServingState(failed={1: error})
    made.reconcile(SERVED)
    assert says(served(made), ConditionType.STALLED) == (
        "True",
        Reason.NOT_READY,
        f"version 1 (a) cannot be served: {error.message}",
    )
    choose(made, "b")
    assert weights(made.reconcile(SERVED)) == {1: 0, 2: 100}
    made.serving[SERVED] = ServingState(frozenset({2}), failed={1: error})
    assert weights(made.reconcile(SERVED)) == {1: 0, 2: 100}
    assert versions(made) == [(2, "b", "Serving"), (1, "a", "Previous")]


def test_x5_a_scorer_that_ended_is_not_the_fault_of_the_version_that_it_was_to_load() -> None:
    made = world()
    made.reconcile(SERVED)
    made.serving[SERVED] = ServingState(message="the scorer ended with exit code 1 while it started; see log.txt")
    planned = made.reconcile(SERVED)
    assert versions(made) == [(1, "a", "Pending")]
    assert weights(planned) == {1: 100}
    said = says(served(made))
    assert said is not None
    assert said[0] == "Unknown"
    assert said[2].endswith("the scorer ended with exit code 1 while it started; see log.txt")


def test_mon4_rejected_versions_are_remembered_longest() -> None:
    made = world(tests=[{"type": "quality", "metric": "rocAuc", "maximum": 0.605}])
    serve(made, "a")
    choose(made, "b")
    made.reconcile(SERVED)
    made.edit(SERVED, tests=[])
    for index in range(30):
        name = f"n{index}"
        made.add(candidate(name))
        child = ref(Kind.MODEL_CANDIDATE, name)
        made.reconcile(child)
        made.succeed(child)
        made.reconcile(child)
        serve(made, name)
    shown = versions(made)
    assert len(shown) == 20
    assert shown[0][2] == "Serving"
    assert (2, "b", "Rejected") in shown


def test_dep3_a_candidate_that_is_no_longer_wanted_before_it_was_ready_never_serves() -> None:
    made = world()
    serve(made, "a")
    choose(made, "b")
    made.reconcile(SERVED)
    choose(made, "c")
    planned = ready(made, made.reconcile(SERVED))
    assert versions(made) == [(3, "c", "Serving"), (2, "b", "Previous"), (1, "a", "Previous")]
    assert weights(planned)[3] == 100


def test_x6_a_suspended_deployment_takes_over_no_new_version() -> None:
    made = world()
    serve(made, "a")
    made.edit(SERVED, suspend=True)
    choose(made, "b")
    assert weights(made.reconcile(SERVED)) == {1: 100}
    assert kstatus(served(made)) == "Current"


def test_k8s1_a_version_that_stops_answering_is_not_ready() -> None:
    made = world()
    serve(made, "a")
    made.serving[SERVED] = ServingState(message="the process ended with code 137")
    planned = made.reconcile(SERVED)
    assert says(served(made)) == (
        "False",
        Reason.NOT_READY,
        "version 1 (a) does not answer: the process ended with code 137",
    )
    assert weights(planned) == {1: 100}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, (1, None, None, None)),
        ({"replicas": 0}, (0, None, None, None)),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 5}}, (1, 2, 5, 80)),
    ],
)
def test_dep6_replicas_and_autoscaling_are_handed_on(spec: dict[str, Any], expected: tuple[int | None, ...]) -> None:
    made = world(**spec, recording={"requests": False})
    serving = made.reconcile(SERVED).serving
    assert serving is not None
    assert (serving.replicas, serving.min_replicas, serving.max_replicas, serving.target_cpu_percent) == expected
    assert (serving.recording, serving.record_requests) == (True, False)


@pytest.mark.parametrize(
    ("spec", "field", "instead"),
    [
        (
            {"rollout": {"strategy": "canary", "steps": [{"weight": 10}]}},
            "spec.rollout.strategy: canary",
            "use replace, without steps",
        ),
        ({"rollout": {"strategy": "shadow"}}, "spec.rollout.strategy: shadow", "use replace"),
        ({"fallback": {"deadline": "20ms"}}, "spec.fallback", "leave it out"),
        ({"revert": {"signals": ["quality"]}}, "spec.revert", "leave it out"),
        ({"features": {"byEntityKey": True}}, "spec.features.byEntityKey", "leave it out"),
        ({"cache": {}}, "spec.cache", "leave it out"),
        ({"async": {"subject": "late.requests"}}, "spec.async", "leave it out"),
        ({"monitoring": {"drift": True}}, "spec.monitoring.drift", "leave it out"),
        ({"monitoring": {"outcomes": "arrivals"}}, "spec.monitoring.outcomes", "leave it out"),
        (
            {"tests": [{"type": "latency", "maximum": 1}]},
            "spec.tests[0].type: latency",
            "use smoke or quality, or leave the test out",
        ),
    ],
)
def test_x5_what_is_not_honoured_yet_is_refused_by_name(spec: dict[str, Any], field: str, instead: str) -> None:
    made = world(**spec)
    planned = made.reconcile(SERVED)
    assert planned.serving is None
    assert says(served(made)) == ("False", Reason.NOT_SUPPORTED, f"{field} is not supported yet; {instead}")
