"""Algorithms that models are fitted by (TRAIN-2)."""

from __future__ import annotations

from levada.methods.algorithms.base import Algorithm, FittedModel, Predictions, Training
from levada.methods.algorithms.builtin import (
    BoostedTrees,
    DecisionTree,
    KMeans,
    LinearRegression,
    LogisticRegression,
    RandomForest,
)
from levada.methods.registry import Registry

ALGORITHMS: Registry[Algorithm] = Registry(
    "algorithms",
    {
        "logisticRegression": LogisticRegression(),
        "linearRegression": LinearRegression(),
        "decisionTree": DecisionTree(),
        "randomForest": RandomForest(),
        "boostedTrees": BoostedTrees(),
        "kMeans": KMeans(),
    },
)

__all__ = ["ALGORITHMS", "Algorithm", "FittedModel", "Predictions", "Training"]
