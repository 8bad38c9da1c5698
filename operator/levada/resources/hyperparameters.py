"""Hyperparameters of the built-in algorithms: names in camelCase, defaults that are quick and sane.

No scikit-learn here: planners judge them before anything runs.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from levada.errors import Stalled
from levada.resources.base import Model
from levada.resources.conditions import Reason


class LogisticRegressionParams(Model):
    """A linear model of the log odds; several classes by softmax."""

    c: float = Field(default=1.0, gt=0, description="Inverse strength of the regularisation.")
    l1_ratio: float = Field(default=0.0, ge=0, le=1, description="0: ridge (L2), 1: lasso (L1), between: elastic net.")
    max_iterations: int = Field(default=200, ge=1, le=100_000, description="Iterations at most.")
    tolerance: float = Field(default=1e-4, gt=0, description="Ends when the gradient is smaller.")
    class_weight: Literal["balanced"] | None = Field(
        default=None, description="balanced: rare classes count more, in inverse proportion to their frequency."
    )


class LinearRegressionParams(Model):
    """Least squares, with a penalty if wanted."""

    alpha: float = Field(default=0.0, ge=0, description="Strength of the penalty; 0: none.")
    l1_ratio: float = Field(default=0.0, ge=0, le=1, description="0: ridge (L2), 1: lasso (L1), between: elastic net.")
    max_iterations: int = Field(default=1000, ge=1, le=100_000, description="With l1Ratio: iterations at most.")
    tolerance: float = Field(default=1e-4, gt=0, description="With l1Ratio: ends when steps are smaller.")


class TreeParams(Model):
    """What single trees and forests share."""

    max_depth: int | None = Field(default=10, ge=1, le=64, description="Levels of a tree; null: no limit.")
    max_leaf_nodes: int | None = Field(default=None, ge=2, le=1_000_000, description="Leaves of a tree.")
    min_samples_leaf: int = Field(default=10, ge=1, description="Rows that a leaf has at least.")
    max_features: Literal["sqrt", "log2"] | Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Features that a split chooses from: sqrt, log2, a share, or null for all."
    )
    class_weight: Literal["balanced"] | None = Field(
        default=None, description="classification: balanced: rare classes count more."
    )


class DecisionTreeParams(TreeParams):
    """One tree."""


class RandomForestParams(TreeParams):
    """Many trees, each on its own sample of rows and features."""

    trees: int = Field(default=100, ge=1, le=10_000, description="How many.")
    max_samples: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Share of the rows that a tree sees; null: as many as there are, drawn with repeats."
    )
    max_features: Literal["sqrt", "log2"] | Annotated[float, Field(gt=0, le=1)] | None = Field(
        default="sqrt", description="Features that a split chooses from: sqrt, log2, a share, or null for all."
    )


class BoostedTreesParams(Model):
    """Trees that each correct those before, on binned features."""

    max_iterations: int = Field(default=100, ge=1, le=10_000, description="Trees (for each class, if more than two).")
    learning_rate: float = Field(default=0.1, gt=0, le=1, description="How much each tree corrects.")
    max_leaf_nodes: int | None = Field(default=31, ge=2, le=4096, description="Leaves of a tree.")
    max_depth: int | None = Field(default=None, ge=1, le=64, description="Levels of a tree.")
    min_samples_leaf: int = Field(default=20, ge=1, description="Rows that a leaf has at least.")
    l2_regularization: float = Field(default=0.0, ge=0, description="Penalty on the leaves' values.")
    max_bins: int = Field(default=255, ge=2, le=255, description="Bins of a feature.")
    max_features: float = Field(default=1.0, gt=0, le=1, description="Share of the features a split chooses from.")
    class_weight: Literal["balanced"] | None = Field(
        default=None, description="classification: balanced: rare classes count more."
    )
    loss: Literal["squaredError", "absoluteError"] = Field(default="squaredError", description="regression: loss.")
    early_stopping: bool = Field(
        default=False, description="End when the validation part (a tenth of the train part if none) stops improving."
    )
    patience: int = Field(default=10, ge=1, description="earlyStopping: trees without improvement before the end.")


class KMeansParams(Model):
    """Clusters around means."""

    clusters: int = Field(default=8, ge=2, le=4096, description="How many.")
    max_iterations: int = Field(default=300, ge=1, le=100_000, description="Iterations at most.")
    initializations: int = Field(default=3, ge=1, le=100, description="Starts, of which the best is kept.")
    tolerance: float = Field(default=1e-4, gt=0, description="Ends when the means move less.")


BUILT_IN: dict[str, type[Model]] = {
    "logisticRegression": LogisticRegressionParams,
    "linearRegression": LinearRegressionParams,
    "decisionTree": DecisionTreeParams,
    "randomForest": RandomForestParams,
    "boostedTrees": BoostedTreesParams,
    "kMeans": KMeansParams,
}
"""Parameters by the algorithm's type."""


def check(model: type[Model], params: Mapping[str, Any], algorithm: str, field: str = "") -> None:
    """Judge parameters of a manifest; raises Stalled with one sentence that names the parameter, and the `field` of the
    manifest that has them."""
    where = f"{field}: " if field else ""
    names = {field.alias or name for name, field in model.model_fields.items()}
    for name in params:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            known = ", ".join(sorted(names))
            raise Stalled(
                Reason.INVALID_SPEC,
                f"{where}the algorithm {algorithm} has no parameter '{name}'{hint} (there are: {known})",
            )
    try:
        model.model_validate(dict(params))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "params"
        what = f"the parameter '{name}' of the algorithm {algorithm} cannot be {params.get(name)!r}"
        raise Stalled(Reason.INVALID_SPEC, f"{where}{what}: {first['msg']}") from error
