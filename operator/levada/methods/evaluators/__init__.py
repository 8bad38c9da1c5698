"""Evaluators: what is measured of a model's predictions (EVAL-1). They combine freely."""

from __future__ import annotations

from levada.methods.evaluators.base import Chart, Evaluator, Finding, Measured, Series, Table
from levada.methods.evaluators.classification import Calibration, Confusion, PrecisionRecall, Roc
from levada.methods.evaluators.clustering import Clustering
from levada.methods.evaluators.regression import RegressionErrors
from levada.methods.registry import Registry

EVALUATORS: Registry[Evaluator] = Registry(
    "evaluators",
    {
        "roc": Roc(),
        "precisionRecall": PrecisionRecall(),
        "calibration": Calibration(),
        "confusion": Confusion(),
        "regressionErrors": RegressionErrors(),
        "clustering": Clustering(),
    },
)

__all__ = ["EVALUATORS", "Chart", "Evaluator", "Finding", "Measured", "Series", "Table"]
