"""Rankings of features (PREP-3)."""

from __future__ import annotations

import numpy as np
import pytest

from levada.methods.selectors import MUTUAL_INFORMATION_ROWS, SELECTORS, Ranked
from levada.resources.trainingrun import Task


def data(task: Task, rows: int = 2000) -> Ranked:
    """Feature 0 tells most, 1 less, 2 nothing, 3 is constant."""
    generator = np.random.default_rng(2)
    features = generator.normal(size=(rows, 4)).astype(np.float32)
    features[:, 3] = 5
    signal = 3 * features[:, 0] + features[:, 1] + generator.normal(scale=0.5, size=rows)
    return Ranked(features, signal if task == "regression" else (signal > 0).astype(np.int64), task, seed=1)


@pytest.mark.parametrize("method", ["chi2", "anova", "mutualInformation"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_prep3_features_that_tell_more_rank_higher(method: str, task: Task) -> None:
    scores = SELECTORS[method].scores(data(task))
    assert scores[0] > scores[1] > scores[2]
    assert scores[3] <= scores[1]


def test_prep3_a_constant_feature_scores_nothing() -> None:
    for method in ("chi2", "anova", "variance"):
        assert SELECTORS[method].scores(data("classification"))[3] == 0


def test_prep3_variance_needs_no_label() -> None:
    ranked = data("classification")
    scores = SELECTORS["variance"].scores(
        Ranked(ranked.features * np.array([1, 2, 3, 1], np.float32), None, "clustering", 0)
    )
    assert scores.argmax() == 2
    assert not SELECTORS["variance"].needs_label


def test_prep3_mutual_information_looks_at_a_sample_of_many_rows_and_always_the_same() -> None:
    ranked = data("classification", MUTUAL_INFORMATION_ROWS + 500)
    one, other = (SELECTORS["mutualInformation"].scores(ranked) for _ in range(2))
    assert one.tolist() == other.tolist()


def test_the_registry_names_all_selectors() -> None:
    assert set(SELECTORS) == {"chi2", "anova", "mutualInformation", "variance"}
