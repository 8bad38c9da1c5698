"""How far predicted numbers are from the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from levada.methods.evaluators.base import Chart, Finding, Measured, Series, histogram
from levada.resources.trainingrun import Task

POINTS = 400
BARS = 25


class RegressionErrors:
    """Root mean squared, mean absolute, median absolute and largest error, bias and R². The baselines are those of
    predicting the training part's mean for every row."""

    tasks: frozenset[Task] = frozenset({"regression"})

    def measure(self, data: Measured) -> Finding:
        assert data.truth is not None
        assert data.prediction is not None
        truth, prediction = data.truth, data.prediction
        errors = prediction - truth
        mean = data.train.get("labelMean", float(np.mean(truth)))
        spread = float(np.sum((truth - np.mean(truth)) ** 2))
        metrics = {
            "rmse": float(np.sqrt(np.mean(errors**2))),
            "mae": float(np.mean(np.abs(errors))),
            "medianAe": float(np.median(np.abs(errors))),
            "maxError": float(np.max(np.abs(errors))),
            "bias": float(np.mean(errors)),
        }
        baselines = {
            "rmse": float(np.sqrt(np.mean((truth - mean) ** 2))),
            "mae": float(np.mean(np.abs(truth - mean))),
        }
        warnings = []
        if spread > 0:
            metrics["r2"] = 1 - float(np.sum(errors**2)) / spread
            baselines["r2"] = 1 - float(np.sum((truth - mean) ** 2)) / spread
        else:
            warnings.append("r2 cannot be measured: the label is the same in all measured rows")
        charts = [self._scatter(data), self._histogram(errors)]
        return Finding(metrics, baselines, charts, warnings=warnings)

    @staticmethod
    def _scatter(data: Measured) -> Chart:
        assert data.truth is not None
        assert data.prediction is not None
        rows = np.arange(len(data.truth))
        if len(rows) > POINTS:
            rows = np.sort(np.random.default_rng(data.seed).choice(rows, POINTS, replace=False))
        points = [(float(data.truth[i]), float(data.prediction[i])) for i in rows]
        low = min(float(data.truth.min()), float(data.prediction.min()))
        high = max(float(data.truth.max()), float(data.prediction.max()))
        return Chart(
            kind="lines",
            title="Predicted and true",
            x="Truth",
            y="Prediction",
            series=[
                Series(
                    name="Rows" if len(rows) == len(data.truth) else f"{len(rows)} rows of {len(data.truth)}",
                    points=points,
                    style="points",
                ),
                Series(name="Ideal", points=[(low, low), (high, high)], style="reference"),
            ],
            note="The nearer to the diagonal, the better.",
        )

    @staticmethod
    def _histogram(errors: npt.NDArray[Any]) -> Chart:
        names, counts = histogram(errors, BARS)
        return Chart(
            kind="bars",
            title="Errors",
            x="Prediction less truth",
            y="Rows",
            names=names,
            values=counts,
            note="A model without bias has its errors evenly around 0.",
        )
