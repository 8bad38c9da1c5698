"""How well classes and their probabilities are predicted: ROC, precision and recall, calibration, confusion."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from levada.methods.evaluators.base import Chart, Finding, Measured, Series, Table, thinned
from levada.resources.trainingrun import Task

SHOWN_CLASSES = 12  # curves of more are not drawn
BINS = 10
CLASSIFICATION: frozenset[Task] = frozenset({"classification"})


class _Known:
    """The rows whose class the model knows, as scikit-learn's metrics want them."""

    def __init__(self, data: Measured) -> None:
        assert data.truth is not None
        assert data.probabilities is not None
        known = data.truth >= 0
        self.truth: npt.NDArray[np.int64] = data.truth[known]
        self.probabilities: npt.NDArray[np.float64] = data.probabilities[known].astype(np.float64)
        self.classes = data.classes
        self.present = np.unique(self.truth)
        self.is_binary = len(data.classes) == 2
        share = np.bincount(self.truth, minlength=len(data.classes)) / max(len(self.truth), 1)
        learnt = [data.train.get(f"labelShare:{c}") for c in data.classes]
        # what is known without a model: the shares of the training part
        self.prior = np.array([s if s is not None else share[i] for i, s in enumerate(learnt)])

    @property
    def positive(self) -> str:
        return str(self.classes[-1])

    def one_against_rest(self) -> list[tuple[str, npt.NDArray[np.bool_], npt.NDArray[np.float64]]]:
        """Name, truth and probability of the positive class, or of each class if there are more than two."""
        places = [len(self.classes) - 1] if self.is_binary else range(len(self.classes))
        return [(str(self.classes[i]), self.truth == i, self.probabilities[:, i]) for i in places if i in self.present]

    def lacks(self, what: str) -> Finding | None:
        """What to say where there is but one class to tell apart, else None."""
        if len(self.present) > 1:
            return None
        which = f"only the class '{self.classes[self.present[0]]}'" if len(self.present) else "no class of the model"
        return Finding(warnings=[f"{what} cannot be measured: the measured rows hold {which}"])


def _average(values: list[float], weights: list[int]) -> float:
    """The one value, or the mean of all classes' by their rows."""
    return float(np.average(values, weights=weights))


class Roc:
    """Area under the curve of true against false positives; with more than two classes the mean of each against the
    rest, weighted by rows."""

    tasks = CLASSIFICATION

    def measure(self, data: Measured) -> Finding:
        from sklearn.metrics import roc_auc_score, roc_curve

        known = _Known(data)
        if (nothing := known.lacks("rocAuc")) is not None:
            return nothing
        areas: list[float] = []
        rows: list[int] = []
        series: list[Series] = []
        for name, truth, probability in known.one_against_rest():
            areas.append(float(roc_auc_score(truth, probability)))
            rows.append(int(truth.sum()))
            if len(series) < SHOWN_CLASSES:
                false, true, _ = roc_curve(truth, probability)
                series.append(Series(name=f"{name} ({areas[-1]:.3f})", points=thinned(false, true)))
        chart = Chart(
            kind="lines",
            title="ROC curve",
            x="False positive rate",
            y="True positive rate",
            series=[*series, Series(name="Chance", points=[(0, 0), (1, 1)], style="reference")],
            x_range=(0, 1),
            y_range=(0, 1),
            note="The nearer to the upper left corner, the better the classes are told apart at some threshold.",
        )
        return Finding(metrics={"rocAuc": _average(areas, rows)}, baselines={"rocAuc": 0.5}, charts=[chart])


class PrecisionRecall:
    """Average precision, and precision, recall and F1 of the predicted classes: of the positive (last) class, with more
    than two classes the mean over classes by rows."""

    tasks = CLASSIFICATION

    def measure(self, data: Measured) -> Finding:
        from sklearn.metrics import average_precision_score, precision_recall_curve

        known = _Known(data)
        if (nothing := known.lacks("prAuc")) is not None:
            return nothing
        areas: list[float] = []
        shares: list[float] = []
        rows: list[int] = []
        series: list[Series] = []
        for name, truth, probability in known.one_against_rest():
            areas.append(float(average_precision_score(truth, probability)))
            shares.append(float(truth.mean()))
            rows.append(int(truth.sum()))
            if len(series) < SHOWN_CLASSES:
                precision, recall, _ = precision_recall_curve(truth, probability)
                series.append(Series(name=f"{name} ({areas[-1]:.3f})", points=thinned(recall[::-1], precision[::-1])))
        if known.is_binary:
            prevalence = shares[0]
            chance = Series(name="Chance", points=[(0, prevalence), (1, prevalence)], style="reference")
            series.append(chance)
        chart = Chart(
            kind="lines",
            title="Precision and recall",
            x="Recall",
            y="Precision",
            series=series,
            x_range=(0, 1),
            y_range=(0, 1),
            note="Which share of the predicted positives is right, for each share of the positives that is found.",
        )
        metrics = {"prAuc": _average(areas, rows)} | _decisions(data)
        return Finding(metrics=metrics, baselines={"prAuc": _average(shares, rows)}, charts=[chart])


def _decisions(data: Measured) -> dict[str, float]:
    from sklearn.metrics import precision_recall_fscore_support

    places = [len(data.classes) - 1] if len(data.classes) == 2 else list(range(len(data.classes)))
    found = precision_recall_fscore_support(
        data.truth, data.predicted, labels=places, average="weighted", zero_division=0
    )
    return {name: float(value) for name, value in zip(("precision", "recall", "f1"), found[:3], strict=True)}


class Calibration:
    """Whether probabilities mean what they say: log loss, Brier score, and the calibration error (the mean gap between
    predicted and observed share over ten bins of equal size)."""

    tasks = CLASSIFICATION

    def measure(self, data: Measured) -> Finding:
        known = _Known(data)
        if not len(known.truth):
            return Finding(warnings=["logLoss and brier cannot be measured: no row has a class that the model knows"])
        rows = np.arange(len(known.truth))
        target = np.zeros_like(known.probabilities)
        target[rows, known.truth] = 1
        metrics = {
            "logLoss": _log_loss(known.probabilities[rows, known.truth]),
            "brier": self._brier(known.probabilities, target, known.is_binary),
        }
        baselines = {
            "logLoss": _log_loss(known.prior[known.truth]),
            "brier": self._brier(np.broadcast_to(known.prior, target.shape), target, known.is_binary),
        }
        series: list[Series] = []
        errors: list[float] = []
        weights: list[int] = []
        for name, truth, probability in known.one_against_rest():
            predicted, observed, counts = _bins(truth, probability)
            errors.append(float(np.average(np.abs(predicted - observed), weights=counts)))
            weights.append(int(truth.sum()))
            if len(series) < SHOWN_CLASSES:
                series.append(Series(name=name, points=thinned(predicted, observed)))
        if errors:
            metrics["calibrationError"] = _average(errors, weights)
        chart = Chart(
            kind="lines",
            title="Calibration",
            x="Mean predicted probability",
            y="Observed share",
            series=[*series, Series(name="Ideal", points=[(0, 0), (1, 1)], style="reference")],
            x_range=(0, 1),
            y_range=(0, 1),
            note="Points on the diagonal: of the rows given a probability of 30 %, 30 % are indeed of the class.",
        )
        return Finding(metrics=metrics, baselines=baselines, charts=[chart])

    @staticmethod
    def _brier(probabilities: npt.NDArray[Any], target: npt.NDArray[Any], is_binary: bool) -> float:
        """Mean squared error: of the positive class's probability, of all with more than two classes."""
        squares = (probabilities - target) ** 2
        return float(np.mean(squares[:, -1] if is_binary else squares.sum(axis=1)))


def _log_loss(probability_of_truth: npt.NDArray[np.float64]) -> float:
    return float(-np.mean(np.log(np.clip(probability_of_truth, np.finfo(np.float32).eps, 1))))


def _bins(
    truth: npt.NDArray[np.bool_], probability: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Mean probability, observed share and rows of bins of equal size."""
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1]))
    places = np.searchsorted(edges, probability, side="right")
    counts = np.bincount(places, minlength=len(edges) + 1)
    filled = counts > 0
    means = np.bincount(places, weights=probability, minlength=len(counts))[filled] / counts[filled]
    shares = np.bincount(places, weights=truth, minlength=len(counts))[filled] / counts[filled]
    return means, shares, counts[filled]


class Confusion:
    """Which classes are taken for which, with accuracy and, where classes are of different size, balanced accuracy."""

    tasks = CLASSIFICATION

    def measure(self, data: Measured) -> Finding:
        from sklearn.metrics import precision_recall_fscore_support

        assert data.truth is not None
        assert data.predicted is not None
        count = len(data.classes)
        known = data.truth >= 0
        cells = np.zeros((count, count), dtype=np.int64)
        np.add.at(cells, (data.truth[known], data.predicted[known]), 1)
        sizes = cells.sum(axis=1)
        present = sizes > 0
        metrics = {"accuracy": float(np.mean(data.truth == data.predicted))}
        baselines = {"accuracy": float(np.mean(data.truth == int(np.argmax(_Known(data).prior))))}
        if present.any():
            metrics["balancedAccuracy"] = float(np.mean(np.diag(cells)[present] / sizes[present]))
            baselines["balancedAccuracy"] = float(1 / present.sum())
        names = [str(c) for c in data.classes]
        figures = precision_recall_fscore_support(
            data.truth, data.predicted, labels=list(range(count)), zero_division=0
        )
        table = Table(
            title="Classes",
            columns=["Class", "Rows", "Precision", "Recall", "F1"],
            rows=[
                [name, int(sizes[i]), *(round(float(figure[i]), 4) for figure in figures[:3])]
                for i, name in enumerate(names)
            ],
        )
        unknown = int(np.sum(~known))
        warnings = [f"{unknown} measured rows have a class that the model does not know; they count as wrong"]
        chart = Chart(
            kind="matrix",
            title="Confusion",
            x="Predicted",
            y="Truth",
            names=names,
            cells=cells.tolist(),
            note="Rows are what is true, columns what the model said.",
        )
        charts = [chart] if count <= SHOWN_CLASSES else []
        return Finding(metrics, baselines, charts, [table], warnings if unknown else [])
