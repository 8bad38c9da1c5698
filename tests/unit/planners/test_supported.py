"""What cannot be carried out (yet, here, or at all) is refused by name."""

from __future__ import annotations

import re

import pytest

from levada.errors import Stalled
from levada.planners import refusals, supported
from levada.planners.strategies import ALGORITHMS, EVALUATORS, OBJECTIVES, check_strategy
from levada.resources import AnyResource, hyperparameters
from levada.resources.conditions import Reason
from tests.unit.planners.worlds import NOW, candidate, dataset, feature_set, scoring_run, training_run

SOURCES: dict[str, dict[str, str]] = {
    "http": {"url": "https://example.com/a.csv"},
    "sql": {"dsn": "postgresql://db/flights", "query": "select 1"},
    "stream": {"subject": "flights"},
}


@pytest.mark.parametrize(
    ("resource", "field", "instead"),
    [
        *(
            (dataset(source={"type": t, t: block}), f"spec.source.type: {t}", "use object, with the data as files")
            for t, block in SOURCES.items()
        ),
        (
            feature_set(engine={"type": "spark", "endpoint": "sc://spark:15002"}),
            "spec.engine.type: spark",
            "use duckdb, without endpoint",
        ),
        (feature_set(lookback="24h"), "spec.lookback", "leave it out"),
        (
            training_run(
                algorithms=[{"name": "a", "type": "kMeans", "search": {"k": {"integer": {"min": 2, "max": 9}}}}]
            ),
            "spec.algorithms[0].search",
            "leave it out",
        ),
        (training_run(parallelism={"mode": "hybrid"}), "spec.parallelism.mode: hybrid", "use models"),
        (candidate(task="forecast"), "spec.task: forecast", "use classification, regression or clustering"),
        (candidate(signature={"inputs": [{"name": "x", "type": "float64"}]}), "spec.signature", "leave it out"),
    ],
)
def test_x5_fields_that_nothing_honours_yet_are_refused_by_name(
    resource: AnyResource, field: str, instead: str
) -> None:
    with pytest.raises(Stalled) as refused:
        supported.check(resource, local=True)
    assert refused.value.reason == Reason.NOT_SUPPORTED
    assert str(refused.value) == f"{field} is not supported yet; {instead}"


@pytest.mark.parametrize(
    "resource",
    [
        dataset(source={"type": "object", "object": {"uri": "file:///data/"}}),
        scoring_run(input={"type": "object", "object": {"uri": "file:///data/", "format": {"type": "csv"}}}),
        candidate(model={"uri": "file:///model.onnx"}),
    ],
)
def test_x8_files_are_read_on_one_machine_only(resource: AnyResource) -> None:
    supported.check(resource, local=True)
    with pytest.raises(Stalled, match="only the local engine reads files") as refused:
        supported.check(resource, local=False)
    assert refused.value.reason == Reason.NOT_SUPPORTED


def test_x8_a_pod_template_is_refused_where_there_are_no_pods() -> None:
    resource = dataset(podTemplate={"spec": {"nodeSelector": {"disk": "fast"}}})
    supported.check(resource, local=False)
    with pytest.raises(Stalled, match=r"spec\.podTemplate: the local engine has no pods"):
        supported.check(resource, local=True)


def test_x8_triggers_are_refused_where_nobody_listens() -> None:
    resource = dataset(triggers=[{"subject": "landing.flights"}])
    supported.check(resource, local=False)
    with pytest.raises(Stalled, match=r"spec\.triggers: the local engine does not listen to messages yet"):
        supported.check(resource, local=True)


def test_train2_every_task_that_is_supported_has_algorithms_evaluators_and_an_objective() -> None:
    for task in ("classification", "regression", "clustering"):
        assert any(task in tasks for tasks in ALGORITHMS.values())
        assert any(task in tasks for tasks in EVALUATORS.values())
        assert task in OBJECTIVES


@pytest.mark.parametrize("name", ["LogisticRegression", "logistic_regression", "logisticregresion"])
def test_train2_a_misspelt_algorithm_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(Stalled, match="did you mean 'logisticRegression'"):
        check_strategy("algorithms", name, "classification", "spec.algorithms[0].type")


def test_train2_parameters_that_an_algorithm_has_not_are_refused_before_anything_runs() -> None:
    for params, message in (
        (
            {"treees": 3},
            "spec.algorithms[0].params: the algorithm 'forest' has no parameter 'treees'; did you mean 'trees'?",
        ),
        ({"trees": -3}, "spec.algorithms[0].params: the parameter 'trees' of the algorithm 'forest' cannot be -3"),
    ):
        run = training_run(algorithms=[{"name": "forest", "type": "randomForest", "params": params}])
        with pytest.raises(Stalled, match=re.escape(message)):
            supported.check(run, local=True)


def test_train2_every_built_in_algorithm_has_its_parameters_where_planners_find_them() -> None:
    assert hyperparameters.BUILT_IN.keys() == ALGORITHMS.keys()


def test_x8_what_would_be_refused_is_told_before_anything_runs() -> None:
    fine, cyclic = dataset(), feature_set(lookups=[{"featureSet": "flights", "keys": ["id"]}])
    broken = training_run(schedule={"cron": "x"})
    told = refusals([fine, cyclic, broken, scoring_run()], NOW, local=True)
    assert set(told) == {cyclic.ref, broken.ref}
    assert told[cyclic.ref].startswith("spec.lookups: the look-ups of FeatureSets form a cycle")
    assert told[broken.ref].startswith("spec.schedule.cron: 'x' is not a cron expression")


def test_x8_a_duration_of_many_digits_is_as_good_as_no_end() -> None:
    resource = dataset(deadline="9" * 31 + "d", schedule={"cron": "@daily"})
    assert refusals([resource], NOW, local=True) == {}
