"""What a candidate must reach (EVAL-4)."""

from __future__ import annotations

import math

import pytest

from levada.methods.gates import failures, gain, objective_of
from levada.resources.trainingrun import Gate, Objective

AUC = Objective(metric="rocAuc", direction="maximize")
RMSE = Objective(metric="rmse", direction="minimize")
BEAT = Gate.model_validate({"incumbent": {"deployment": "late", "minImprovement": 0.01}})


def test_eval4_without_a_gate_everything_passes() -> None:
    assert failures(None, {}, AUC) == []


def test_eval4_a_metric_below_its_minimum_is_named_with_both_values() -> None:
    (sentence,) = failures(Gate(minimum={"rocAuc": 0.68}), {"rocAuc": 0.6512}, AUC)
    assert sentence == "rocAuc is 0.6512, but the gate asks for at least 0.68"
    assert failures(Gate(minimum={"rocAuc": 0.68}), {"rocAuc": 0.68}, AUC) == []


def test_eval4_a_metric_above_its_maximum_is_named() -> None:
    assert failures(Gate(maximum={"rmse": 2}), {"rmse": 2.5}, RMSE) == ["rmse is 2.5, but the gate allows at most 2"]


@pytest.mark.parametrize("metrics", [{}, {"rocAuc": math.nan}])
def test_eval4_a_metric_that_was_not_measured_does_not_pass(metrics: dict[str, float]) -> None:
    assert len(failures(Gate(minimum={"rocAuc": 0}), metrics, AUC)) == 1


def test_eval4_the_incumbent_is_to_be_beaten_by_the_margin() -> None:
    assert failures(BEAT, {"rocAuc": 0.72}, AUC, {"rocAuc": 0.70}) == []
    (sentence,) = failures(BEAT, {"rocAuc": 0.705}, AUC, {"rocAuc": 0.70})
    assert "deployment 'late' serves has 0.7 on the same rows" in sentence


def test_eval4_less_is_better_where_the_objective_says_so() -> None:
    assert failures(BEAT, {"rmse": 1.0}, RMSE, {"rmse": 2.0}) == []
    assert failures(BEAT, {"rmse": 2.0}, RMSE, {"rmse": 1.0}) != []
    assert gain(RMSE, 1.0, 3.0) == 2.0


def test_eval4_where_nothing_serves_there_is_nothing_to_beat() -> None:
    assert failures(BEAT, {"rocAuc": 0.1}, AUC, None) == []


def test_objectives_by_task() -> None:
    assert objective_of("regression", None).metric == "rmse"
    assert objective_of("classification", RMSE) is RMSE
