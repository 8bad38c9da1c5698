"""Fitted scikit-learn estimators as models: what they predict, and how skl2onnx writes them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.version_converter

from levada.artifacts import Output
from levada.features.graph import Stage, merge
from levada.features.types import ML_OPSET, OPSET
from levada.methods.algorithms.base import Predictions
from levada.methods.graph import DOUBLE, FLOAT, Graph

SHOWN_FEATURES = 256  # beyond it only the strongest are kept as `learned`
SHOWN_MEANS = 4096


def convert(estimator: Any, width: int, double: bool = False) -> onnx.ModelProto:
    """An estimator as ONNX, by skl2onnx: input `features` [N, width] float32, or float64 if `double`."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if double else FloatTensorType
    with warnings.catch_warnings():
        # skl2onnx hands numpy's integers to protobuf, which will not take them for ever
        warnings.simplefilter("ignore", DeprecationWarning)
        model: onnx.ModelProto = convert_sklearn(
            estimator,
            initial_types=[("features", kind([None, width]))],
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
            options={id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None,
        )
    if {opset.version for opset in model.opset_import if opset.domain == ""} != {OPSET}:
        # it names the oldest operator set that will do
        model = onnx.version_converter.convert_version(model, OPSET)
    return model


class _Estimator:
    """What all have in common; `double`: whether the model computes in float64 up to its results."""

    def __init__(self, estimator: Any, double: bool = False) -> None:
        self.estimator = estimator
        self.double = double

    @cached_property
    def converted(self) -> onnx.ModelProto:
        return convert(self.estimator, self.estimator.n_features_in_, self.double)

    def stages(self, *outputs: str) -> list[Stage]:
        """The stages up to the estimator's outputs, which are given these names in skl2onnx's order."""
        names = [output.name for output in self.converted.graph.output]
        model = Stage(self.converted, "model/", outputs=dict(zip(names, outputs, strict=True)))
        if not self.double:
            return [model]
        graph = Graph()
        wide = graph.op("Cast", graph.input("features", FLOAT, self.estimator.n_features_in_), to=DOUBLE)
        graph.output("wide", wide, DOUBLE, self.estimator.n_features_in_)
        return [Stage(graph.model("wide"), "wide/"), replace(model, inputs={"features": "wide"})]

    def learned(self, names: Sequence[str]) -> dict[str, Any]:
        """Coefficients, importances, or how often trees split by a feature: whichever there is."""
        if hasattr(self.estimator, "coef_"):
            return _coefficients(self.estimator, names)
        if hasattr(self.estimator, "feature_importances_"):
            return {"importances": _strongest(names, self.estimator.feature_importances_)}
        counts = split_counts(self.converted, len(names))
        return {"splits": {name: int(n) for name, n in _strongest(names, counts).items() if n}}


class Classifier(_Estimator):
    """A fitted classifier."""

    @property
    def classes(self) -> list[int | str]:
        return list(self.estimator.classes_.tolist())

    def predict(self, features: npt.NDArray[np.float32]) -> Predictions:
        probabilities = self.estimator.predict_proba(features)
        return {"label": self.estimator.classes_[np.argmax(probabilities, axis=1)], "probabilities": probabilities}

    def graph(self) -> onnx.ModelProto:
        return merge(self.stages("label", "probabilities"))

    def outputs(self) -> list[Output]:
        text = isinstance(self.classes[0], str)
        return [
            Output(name="label", kind="label", type="string" if text else "int64"),
            Output(name="probabilities", kind="probabilities", type="float", width=len(self.classes)),
        ]


class Regressor(_Estimator):
    """A fitted regressor."""

    @property
    def classes(self) -> list[int | str]:
        return []

    def predict(self, features: npt.NDArray[np.float32]) -> Predictions:
        values = features.astype(np.float64) if self.double else features
        return {"prediction": np.reshape(self.estimator.predict(values), (-1, 1))}

    def graph(self) -> onnx.ModelProto:
        if not self.double:
            return merge(self.stages("prediction"))
        narrow = Graph()
        narrow.output("prediction", narrow.op("Cast", narrow.input("wide prediction", DOUBLE), to=FLOAT), FLOAT, 1)
        return merge([*self.stages("wide prediction"), Stage(narrow.model("narrow"), "narrow/")])

    def outputs(self) -> list[Output]:
        return [Output(name="prediction", kind="prediction", type="float", width=1)]


class Clusterer(_Estimator):
    """Fitted k-means. Distances are computed in float64: as a difference of squares they would lose most digits of
    float32."""

    def __init__(self, estimator: Any) -> None:
        super().__init__(estimator, double=True)

    @property
    def classes(self) -> list[int | str]:
        return []

    def predict(self, features: npt.NDArray[np.float32]) -> Predictions:
        distances = self.estimator.transform(features.astype(np.float64))
        nearest = distances.min(axis=1, keepdims=True)
        return {"cluster": np.argmin(distances, axis=1), "distance": nearest, "distances": distances}

    def graph(self) -> onnx.ModelProto:
        least = Graph()
        distances = least.input("distances", DOUBLE, len(self.estimator.cluster_centers_))
        nearest = least.op("ReduceMin", distances, least.constant(np.array([1], dtype=np.int64)), keepdims=1)
        least.output("distance", least.op("Cast", nearest, to=FLOAT), FLOAT, 1)
        stages = [*self.stages("cluster", "distances"), Stage(least.model("least"), "least/")]
        return merge(stages, outputs=["cluster", "distance"])

    def outputs(self) -> list[Output]:
        return [
            Output(name="cluster", kind="cluster", type="int64"),
            Output(name="distance", kind="distance", type="float", width=1),
        ]

    def learned(self, names: Sequence[str]) -> dict[str, Any]:
        centers = self.estimator.cluster_centers_
        sizes = np.bincount(self.estimator.labels_, minlength=len(centers))
        found: dict[str, Any] = {"sizes": sizes.tolist(), "inertia": float(self.estimator.inertia_)}
        if centers.size <= SHOWN_MEANS:
            found["means"] = [_named(names, center) for center in centers]
        return found


def _coefficients(estimator: Any, names: Sequence[str]) -> dict[str, Any]:
    rows = np.atleast_2d(estimator.coef_)
    intercepts = np.ravel(estimator.intercept_).tolist()
    if len(rows) == 1:
        return {"coefficients": _strongest(names, rows[0]), "intercept": intercepts[0]}
    classes = [str(c) for c in estimator.classes_]
    return {
        "coefficients": {c: _strongest(names, row) for c, row in zip(classes, rows, strict=True)},
        "intercept": dict(zip(classes, intercepts, strict=True)),
    }


def split_counts(model: onnx.ModelProto, width: int) -> npt.NDArray[np.int64]:
    """How many nodes of the trees of a converted model split by each feature, [width]."""
    counts = np.zeros(width, dtype=np.int64)
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if "nodes_featureids" in attributes:
            branches = np.array(attributes["nodes_modes"].strings) != b"LEAF"
            counts += np.bincount(np.array(attributes["nodes_featureids"].ints)[branches], minlength=width)
    return counts


def _strongest(names: Sequence[str], values: npt.NDArray[Any]) -> dict[str, float]:
    order = np.argsort(-np.abs(values), kind="stable")[:SHOWN_FEATURES]
    return {names[i]: float(values[i]) for i in order}


def _named(names: Sequence[str], values: npt.NDArray[Any]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}
