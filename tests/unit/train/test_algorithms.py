"""What every algorithm promises (TRAIN-2, TRAIN-6, SCORE-1), and what some do besides."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from levada.errors import Stalled
from levada.features.model import OnnxModel
from levada.methods.algorithms import ALGORITHMS, FittedModel, Training
from levada.resources.conditions import Reason
from levada.resources.trainingrun import Task
from levada.steps.train.parity import difference

QUICK: dict[str, dict[str, Any]] = {
    "logisticRegression": {"maxIterations": 200},
    "linearRegression": {},
    "decisionTree": {},
    "randomForest": {"trees": 20},
    "boostedTrees": {"maxIterations": 20},
    "kMeans": {"clusters": 4},
}
CASES = [(name, task) for name in ALGORITHMS for task in sorted(ALGORITHMS[name].tasks)]
LABELLED = [
    (name, task, labels)
    for name, task in CASES
    for labels in ("int", "two", "text")
    if task == "classification" or labels == "int"
]
ROWS, WIDTH = 600, 6


def data(task: Task, labels: str = "int") -> Training:
    generator = np.random.default_rng(5)
    features = generator.normal(size=(ROWS, WIDTH)).astype(np.float32)
    signal = features[:, 0] + features[:, 1] * features[:, 2] + generator.normal(scale=0.3, size=ROWS)
    target: npt.NDArray[Any] | None
    if task == "regression":
        target = 1e6 + 1000.0 * signal
    elif task == "clustering":
        target = None
    else:
        target = np.digitize(signal, [-0.5, 0.5]) if labels != "two" else (signal > 0).astype(np.int64)
        target = np.array(["low", "mid", "high"], dtype=object)[target] if labels == "text" else target.astype(np.int64)
    return Training(task=task, features=features, labels=target, validation=None, seed=3, threads=1)


def fitted(name: str, task: Task, labels: str = "int") -> tuple[FittedModel, Training]:
    training = data(task, labels)
    return ALGORITHMS[name].fit(training, QUICK[name]), training


def onnx_of(model: FittedModel) -> OnnxModel:
    return OnnxModel(model.graph().SerializeToString(deterministic=True))


@pytest.mark.parametrize(("name", "task", "labels"), LABELLED)
def test_train6_the_onnx_model_says_what_the_fitted_model_says(name: str, task: Task, labels: str) -> None:
    model, training = fitted(name, task, labels)
    found = onnx_of(model).run_all({"features": training.features})
    assert difference(model.predict(training.features), found, model.classes).max_abs <= 1e-5


@pytest.mark.parametrize(("name", "task"), CASES)
def test_train6_outputs_are_as_they_are_listed(name: str, task: Task) -> None:
    model, training = fitted(name, task)
    found = onnx_of(model).run({"features": training.features})
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "classification": {"label": (ROWS,), "probabilities": (ROWS, 3)},
        "regression": {"prediction": (ROWS, 1)},
        "clustering": {"cluster": (ROWS,), "distance": (ROWS, 1)},
    }
    expected = shapes[task]
    assert {output.name for output in model.outputs()} == set(expected) == set(found)
    for output in model.outputs():
        assert found[output.name].shape == expected[output.name]
        assert output.width == (expected[output.name][1] if len(expected[output.name]) == 2 else None)
        kinds = {"int64": np.int64, "float": np.float32, "string": np.object_}
        assert found[output.name].dtype == kinds[output.type]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_score1_a_row_is_scored_to_the_same_bits_in_any_batch(name: str, task: Task) -> None:
    model, training = fitted(name, task)
    session = onnx_of(model)
    whole = session.run({"features": training.features})
    for start, size in [(0, 1), (17, 1), (0, 2), (5, 3), (0, 7), (30, 63), (1, 64), (2, 257)]:
        part = session.run({"features": training.features[start : start + size]})
        for output, values in part.items():
            assert values.tobytes() == whole[output][start : start + size].tobytes(), (output, start, size)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_train4_fitting_twice_gives_the_same_bytes(name: str, task: Task) -> None:
    one, other = (fitted(name, task)[0].graph().SerializeToString(deterministic=True) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(("name", "task"), CASES)
def test_train5_what_was_learnt_can_be_kept_as_json(name: str, task: Task) -> None:
    model, _ = fitted(name, task)
    learned = model.learned([f"f{i}" for i in range(WIDTH)])
    assert learned
    json.dumps(learned, allow_nan=False)


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_train2_an_unknown_parameter_is_named_with_what_is_near(name: str) -> None:
    parameter = {"kMeans": "clusters", "linearRegression": "alpha", "logisticRegression": "tolerance"}.get(
        name, "minSamplesLeaf"
    )
    with pytest.raises(Stalled, match=f"'mine' has no parameter '{parameter}s'; did you mean '{parameter}'") as caught:
        ALGORITHMS[name].check({f"{parameter}s": 1}, "mine")
    assert caught.value.reason is Reason.INVALID_SPEC


def test_train2_a_parameter_that_cannot_be_is_named() -> None:
    with pytest.raises(Stalled, match="'learningRate' of the algorithm 'mine' cannot be 7"):
        ALGORITHMS["boostedTrees"].check({"learningRate": 7}, "mine")


def test_train2_an_unknown_algorithm_is_named_with_what_is_near() -> None:
    with pytest.raises(Stalled, match="did you mean 'boostedTrees'"):
        ALGORITHMS["boostedTree"]


def test_train2_linear_regression_with_a_penalty_shrinks() -> None:
    training = data("regression")
    sums = []
    for params in ({}, {"alpha": 1000.0}, {"alpha": 100.0, "l1Ratio": 0.5}):
        learned = ALGORITHMS["linearRegression"].fit(training, params).learned(list("abcdef"))
        sums.append(sum(abs(value) for value in learned["coefficients"].values()))
    assert sums[1] < sums[0]
    assert sums[2] < sums[0]


def test_train2_boosted_trees_stop_early_on_the_validation_part() -> None:
    training = data("classification", "two")
    noise = np.random.default_rng(0).integers(0, 2, ROWS)
    held_out = Training(**{**vars(training), "validation": (training.features, noise)})
    params = {"maxIterations": 100, "earlyStopping": True, "patience": 3}
    short = ALGORITHMS["boostedTrees"].fit(held_out, params)
    full = ALGORITHMS["boostedTrees"].fit(training, {"maxIterations": 100})
    assert len(short.graph().SerializeToString()) < len(full.graph().SerializeToString()) / 2


def test_train2_boosted_trees_take_gaps() -> None:
    training = data("classification", "two")
    training.features[::3, 0] = np.nan
    model = ALGORITHMS["boostedTrees"].fit(training, QUICK["boostedTrees"])
    found = onnx_of(model).run_all({"features": training.features})
    assert difference(model.predict(training.features), found, model.classes).max_abs <= 1e-5


def test_train5_boosted_trees_tell_how_often_they_split_by_a_feature() -> None:
    model, _ = fitted("boostedTrees", "classification", "two")
    splits = model.learned(list("abcdef"))["splits"]
    assert set(splits) <= set("abcdef")
    assert min(splits["a"], splits["b"], splits["c"]) > splits.get("e", 0)
