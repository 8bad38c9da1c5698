"""What evaluators measure (EVAL-1), against scikit-learn's own figures and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from levada.methods.evaluators import EVALUATORS, Finding, Measured
from levada.methods.evaluators.base import histogram
from levada.planners import strategies


def binary(rows: int = 500, seed: int = 0) -> Measured:
    generator = np.random.default_rng(seed)
    positive = generator.random(rows)
    truth = (generator.random(rows) < positive).astype(np.int64)
    return Measured(
        task="classification",
        seed=1,
        classes=[False, True],
        truth=truth,
        predicted=(positive > 0.5).astype(np.int64),
        probabilities=np.stack([1 - positive, positive], axis=1),
        train={"labelShare:False": 0.7, "labelShare:True": 0.3},
    )


def several(rows: int = 600) -> Measured:
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet([1, 1, 2], rows)
    truth = np.array([generator.choice(3, p=p) for p in probabilities])
    return Measured(
        task="classification",
        seed=1,
        classes=["a", "b", "c"],
        truth=truth,
        predicted=probabilities.argmax(axis=1),
        probabilities=probabilities,
    )


def measure(name: str, data: Measured) -> Finding:
    return EVALUATORS[name].measure(data)


def changed(data: Measured, **fields: Any) -> Measured:
    return Measured(**{**vars(data), **fields})


def test_eval1_binary_metrics_agree_with_scikit_learn() -> None:
    data = binary()
    assert data.truth is not None
    assert data.probabilities is not None
    positive = data.probabilities[:, 1]
    found = {
        name: value
        for evaluator in ("roc", "precisionRecall", "calibration", "confusion")
        for name, value in measure(evaluator, data).metrics.items()
    }
    expected = {
        "rocAuc": metrics.roc_auc_score(data.truth, positive),
        "prAuc": metrics.average_precision_score(data.truth, positive),
        "precision": metrics.precision_score(data.truth, data.predicted),
        "recall": metrics.recall_score(data.truth, data.predicted),
        "f1": metrics.f1_score(data.truth, data.predicted),
        "logLoss": metrics.log_loss(data.truth, data.probabilities),
        "brier": metrics.brier_score_loss(data.truth, positive),
        "accuracy": metrics.accuracy_score(data.truth, data.predicted),
        "balancedAccuracy": metrics.balanced_accuracy_score(data.truth, data.predicted),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["calibrationError"] < 0.1


def test_eval1_metrics_of_several_classes_agree_with_scikit_learn() -> None:
    data = several()
    assert data.truth is not None
    roc = measure("roc", data).metrics["rocAuc"]
    assert roc == pytest.approx(
        metrics.roc_auc_score(data.truth, data.probabilities, multi_class="ovr", average="weighted")
    )
    found = measure("calibration", data).metrics
    assert found["logLoss"] == pytest.approx(metrics.log_loss(data.truth, data.probabilities))
    assert measure("precisionRecall", data).metrics["f1"] == pytest.approx(
        metrics.f1_score(data.truth, data.predicted, average="weighted")
    )


def test_eval1_baselines_are_those_of_the_training_part() -> None:
    data = binary()
    assert data.truth is not None
    share = float(np.mean(data.truth))
    assert measure("roc", data).baselines == {"rocAuc": 0.5}
    assert measure("precisionRecall", data).baselines["prAuc"] == pytest.approx(share)
    prior = np.where(data.truth == 1, 0.3, 0.7)
    assert measure("calibration", data).baselines["logLoss"] == pytest.approx(-np.mean(np.log(prior)))
    assert measure("confusion", data).baselines["accuracy"] == pytest.approx(1 - share)


def test_eval1_confusion_counts_every_row_once() -> None:
    finding = measure("confusion", several())
    (chart,) = finding.charts
    assert sum(map(sum, chart.cells)) == 600
    (table,) = finding.tables
    assert [row[0] for row in table.rows] == ["a", "b", "c"]


def test_eval1_a_class_that_the_model_does_not_know_counts_as_wrong() -> None:
    data = binary(100)
    assert data.truth is not None
    known = measure("confusion", data).metrics["accuracy"]
    truth = data.truth.copy()
    right = np.flatnonzero(truth == data.predicted)[:10]
    truth[right] = -1
    finding = measure("confusion", changed(data, truth=truth))
    assert finding.metrics["accuracy"] == pytest.approx(known - 0.1)
    assert finding.warnings == ["10 measured rows have a class that the model does not know; they count as wrong"]
    assert "rocAuc" in measure("roc", changed(data, truth=truth)).metrics


@pytest.mark.parametrize("name", ["roc", "precisionRecall"])
def test_eval1_what_cannot_be_measured_is_left_out_and_said(name: str) -> None:
    data = binary(50)
    finding = measure(name, changed(data, truth=np.ones(50, dtype=np.int64)))
    assert finding.metrics == {}
    assert "the measured rows hold only the class 'True'" in finding.warnings[0]


def test_eval1_regression_errors_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    truth = generator.normal(50, 10, 1000)
    prediction = truth + generator.normal(1, 3, 1000)
    data = Measured(task="regression", seed=0, truth=truth, prediction=prediction, train={"labelMean": 48.0})
    finding = measure("regressionErrors", data)
    assert finding.metrics["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, prediction))
    assert finding.metrics["mae"] == pytest.approx(metrics.mean_absolute_error(truth, prediction))
    assert finding.metrics["medianAe"] == pytest.approx(metrics.median_absolute_error(truth, prediction))
    assert finding.metrics["r2"] == pytest.approx(metrics.r2_score(truth, prediction))
    assert finding.metrics["bias"] == pytest.approx(1, abs=0.3)
    assert finding.baselines["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, np.full(1000, 48.0)))


def test_eval1_regression_on_a_constant_has_no_r2() -> None:
    data = Measured(task="regression", seed=0, truth=np.full(5, 2.0), prediction=np.full(5, 2.5))
    finding = measure("regressionErrors", data)
    assert "r2" not in finding.metrics
    assert finding.warnings == ["r2 cannot be measured: the label is the same in all measured rows"]


@pytest.mark.parametrize("wrong", [0.0, 0.1 + 0.2, 1e17, 1e-300])
def test_eval1_errors_that_are_all_but_equal_have_their_chart(wrong: float) -> None:
    prediction = np.array([wrong, np.nextafter(wrong, 1)])
    data = Measured(task="regression", seed=0, truth=np.zeros(2), prediction=prediction)
    chart = measure("regressionErrors", data).charts[1]
    assert sum(chart.values) == 2


def test_eval3_the_bars_of_a_histogram_of_large_values_have_names_of_their_own() -> None:
    names, _ = histogram(np.linspace(1_000_000.1, 1_000_001.0, 50), 20)
    assert names[0] == "1000000.1 to 1000000.15"
    assert len(set(names)) == len(names)


def test_eval3_a_histogram_has_round_ends_and_every_value() -> None:
    values = np.array([-0.5116, -0.04, 0.0, 0.4361])
    names, counts = histogram(values, 5)
    assert list(zip(names, counts, strict=True)) == [
        ("-0.6 to -0.4", 1),
        ("-0.4 to -0.2", 0),
        ("-0.2 to 0", 1),
        ("0 to 0.2", 1),
        ("0.2 to 0.4", 0),
        ("0.4 to 0.6", 1),
    ]


def clusters(rows: int = 900, with_features: bool = True) -> Measured:
    generator = np.random.default_rng(4)
    cluster = generator.integers(0, 3, rows)
    features = generator.normal(size=(rows, 2)).astype(np.float32) + 10 * cluster[:, None]
    distance = np.linalg.norm(features - 10 * cluster[:, None], axis=1)
    return Measured(
        task="clustering",
        seed=0,
        cluster=cluster,
        distance=distance,
        features=features.astype(np.float32) if with_features else None,
    )


def test_eval1_clusters_that_are_far_apart_have_a_high_silhouette() -> None:
    data = clusters()
    finding = measure("clustering", data)
    assert finding.metrics["silhouette"] == pytest.approx(metrics.silhouette_score(data.features, data.cluster))
    assert data.distance is not None
    assert finding.metrics["inertia"] == pytest.approx(float(np.sum(data.distance**2)))
    assert finding.metrics["clusters"] == 3


def test_eval1_silhouette_of_many_rows_is_of_a_sample_and_always_the_same() -> None:
    one, other = (measure("clustering", clusters(5000)).metrics["silhouette"] for _ in range(2))
    assert one == other


def test_eval1_without_features_there_is_no_silhouette() -> None:
    finding = measure("clustering", clusters(with_features=False))
    assert "silhouette" not in finding.metrics
    assert "does not show the features" in finding.warnings[0]


CASES = {"classification": binary(), "regression": None, "clustering": clusters()}


@pytest.mark.parametrize("name", list(EVALUATORS))
def test_conformance_findings_are_plain_data_and_finite(name: str) -> None:
    task = next(iter(EVALUATORS[name].tasks))
    data = CASES[task] or Measured(task="regression", seed=0, truth=np.arange(9.0), prediction=np.arange(9.0) + 1)
    finding = measure(name, data)
    assert finding.metrics
    assert all(np.isfinite(value) for value in (finding.metrics | finding.baselines).values())
    assert set(finding.baselines) <= set(finding.metrics)
    for chart in finding.charts:
        assert type(chart).model_validate(chart.document()) == chart
        assert chart.note


def test_planners_know_the_same_evaluators() -> None:
    assert {name: EVALUATORS[name].tasks for name in EVALUATORS} == {
        name: frozenset(tasks) for name, tasks in strategies.EVALUATORS.items()
    }


def test_eval3_planners_know_of_each_metric_which_way_is_better() -> None:
    rows = np.arange(20.0)
    regression = Measured(task="regression", seed=1, truth=rows, prediction=rows[::-1])
    clusters = Measured(
        task="clustering",
        seed=1,
        cluster=(rows // 10).astype(np.int64),
        distance=rows,
        features=np.stack([rows // 10, rows % 2], axis=1, dtype=np.float32),
    )
    data = {"classification": binary(), "regression": regression, "clustering": clusters}
    measured = {m for name, tasks in strategies.EVALUATORS.items() for m in measure(name, data[tasks[0]]).metrics}
    neither = {"bias", "clusters", "largestShare"}  # best at 0, or as the data want it
    assert measured == strategies.DIRECTIONS.keys() | neither
