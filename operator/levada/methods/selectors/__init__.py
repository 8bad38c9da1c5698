"""Ways to rank features on the training part (PREP-3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from levada.methods.registry import Registry
from levada.resources.trainingrun import Task

# Neighbours in many dimensions are slow to find; this many rows tell the order of features well.
MUTUAL_INFORMATION_ROWS = 20_000


@dataclass(frozen=True)
class Ranked:
    """What is ranked: features float32 [N, F] without gaps, labels [N] (None for clustering)."""

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[Any] | None
    task: Task
    seed: int


class Selector(Protocol):
    """Ranks features."""

    needs_label: bool

    def scores(self, data: Ranked) -> npt.NDArray[np.float64]:
        """A score for each feature, [F]; the higher, the more it tells. A constant feature has 0."""


class Chi2:
    """Chi-squared statistic between class and feature, each feature brought to 0..1 first (it counts amounts, which
    cannot be negative)."""

    needs_label = True

    def scores(self, data: Ranked) -> npt.NDArray[np.float64]:
        from sklearn.feature_selection import chi2

        features = data.features.astype(np.float64)
        low, high = features.min(axis=0), features.max(axis=0)
        features = (features - low) / np.where(high > low, high - low, 1)
        return np.asarray(np.nan_to_num(chi2(features, _classes(data))[0]))


class Anova:
    """F statistic: between classes, or of a line through a number."""

    needs_label = True

    def scores(self, data: Ranked) -> npt.NDArray[np.float64]:
        from sklearn.feature_selection import f_classif, f_regression

        features = data.features.astype(np.float64)
        varying = np.ptp(features, axis=0) > 0
        scores = np.zeros(features.shape[1])
        if varying.any():
            rank = f_regression if data.task == "regression" else f_classif
            scores[varying] = np.nan_to_num(rank(features[:, varying], data.labels)[0])
        return scores


class MutualInformation:
    """Mutual information of label and feature, estimated from neighbours in a sample of rows."""

    needs_label = True

    def scores(self, data: Ranked) -> npt.NDArray[np.float64]:
        from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

        assert data.labels is not None
        features, labels = data.features, data.labels
        if len(labels) > MUTUAL_INFORMATION_ROWS:
            rows = np.random.default_rng(data.seed).choice(len(labels), MUTUAL_INFORMATION_ROWS, replace=False)
            features, labels = features[rows], labels[rows]
        estimate = mutual_info_regression if data.task == "regression" else mutual_info_classif
        return np.asarray(estimate(features, labels, random_state=data.seed))


class Variance:
    """Variance after the transforms: compare features on a common scale only."""

    needs_label = False

    def scores(self, data: Ranked) -> npt.NDArray[np.float64]:
        return np.asarray(np.var(data.features, axis=0, dtype=np.float64))


def _classes(data: Ranked) -> npt.NDArray[Any]:
    """Labels as classes; for a number, its quarter of the training part."""
    assert data.labels is not None
    if data.task != "regression":
        return data.labels
    quarters: npt.NDArray[Any] = np.digitize(data.labels, np.unique(np.quantile(data.labels, [0.25, 0.5, 0.75])))
    return quarters


SELECTORS: Registry[Selector] = Registry(
    "selectors",
    {"chi2": Chi2(), "anova": Anova(), "mutualInformation": MutualInformation(), "variance": Variance()},
)
