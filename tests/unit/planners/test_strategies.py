"""What planners know of algorithms and evaluators without loading them is what the registries hold."""

from __future__ import annotations

import pytest

from levada.methods.algorithms import ALGORITHMS
from levada.methods.evaluators import EVALUATORS
from levada.planners import strategies
from levada.resources.trainingrun import TrainingRunSpec


def test_train2_planners_know_the_algorithms_that_there_are() -> None:
    assert {name: set(ALGORITHMS[name].tasks) for name in ALGORITHMS} == {
        name: set(tasks) for name, tasks in strategies.ALGORITHMS.items()
    }


def test_eval1_planners_know_the_evaluators_that_there_are() -> None:
    assert {name: set(EVALUATORS[name].tasks) for name in EVALUATORS} == {
        name: set(tasks) for name, tasks in strategies.EVALUATORS.items()
    }


def test_train2_the_names_of_plug_ins_are_taken_for_any_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(strategies._PLUGINS, "algorithms", {"mine"})
    strategies.check_strategy("algorithms", "mine", "clustering", "spec.algorithms[0].type")


def test_train2_the_manifest_reference_names_every_algorithm_and_evaluator() -> None:
    fields = TrainingRunSpec.model_fields
    algorithm = fields["algorithms"].annotation.__args__[0].model_fields["type"]  # type: ignore[union-attr]
    for name in strategies.ALGORITHMS:
        assert name in algorithm.description
    for name in strategies.EVALUATORS:
        assert name in (fields["evaluators"].description or "")
