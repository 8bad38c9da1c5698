"""How a model is compared with its ONNX twin (TRAIN-6)."""

from __future__ import annotations

import numpy as np
import pytest

from levada.steps.train.parity import difference

PROBABILITIES = np.array([[0.9, 0.1], [0.500002, 0.499998], [0.2, 0.8]])
LABELS = np.array(["no", "no", "yes"], dtype=object)
EXPECTED = {"label": LABELS, "probabilities": PROBABILITIES}


def test_train6_equal_predictions_do_not_differ() -> None:
    assert difference(EXPECTED, EXPECTED, ["no", "yes"]).max_abs == 0


def test_train6_the_worst_row_is_found_with_both_values() -> None:
    other = PROBABILITIES.copy()
    other[2] = [0.25, 0.7]
    worst = difference(EXPECTED, {**EXPECTED, "probabilities": other}, ["no", "yes"])
    assert worst.row == 2
    assert worst.max_abs == pytest.approx(0.1)
    assert (worst.expected, worst.found) == (0.8, 0.7)


def test_train6_another_class_counts_by_how_much_the_model_preferred_its_own() -> None:
    tie = {**EXPECTED, "label": np.array(["no", "yes", "yes"], dtype=object)}
    assert difference(EXPECTED, tie, ["no", "yes"]).max_abs == pytest.approx(4e-6)
    wrong = {**EXPECTED, "label": np.array(["yes", "no", "yes"], dtype=object)}
    worst = difference(EXPECTED, wrong, ["no", "yes"])
    assert (worst.row, worst.expected, worst.found) == (0, "no", "yes")
    assert worst.max_abs == pytest.approx(0.8)


def test_train6_a_class_that_does_not_exist_differs_wholly() -> None:
    wrong = {**EXPECTED, "label": np.array(["no", "no", "maybe"], dtype=object)}
    assert difference(EXPECTED, wrong, ["no", "yes"]).max_abs == np.inf


def test_train6_large_predictions_differ_relatively() -> None:
    expected = {"prediction": np.array([[1e6], [0.5]])}
    found = {"prediction": np.array([[1e6 + 1], [0.5]])}
    assert difference(expected, found).max_abs == pytest.approx(1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_train6_a_prediction_that_is_no_number_differs_wholly(value: float) -> None:
    assert difference({"prediction": np.array([[1.0]])}, {"prediction": np.array([[value]])}).max_abs == np.inf


def test_train6_another_cluster_counts_by_its_distance() -> None:
    distances = np.array([[1.0, 1.000001], [1.0, 3.0]])
    expected = {"cluster": np.array([0, 0]), "distance": np.array([[1.0], [1.0]]), "distances": distances}
    tie = {"cluster": np.array([1, 0]), "distance": np.array([[1.0], [1.0]])}
    assert difference(expected, tie).max_abs <= 1e-5
    wrong = {"cluster": np.array([0, 1]), "distance": np.array([[1.0], [1.0]])}
    assert difference(expected, wrong).max_abs > 0.1
