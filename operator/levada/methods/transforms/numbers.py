"""Transforms of numbers: impute (texts too), clip, scale, bin."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from levada.errors import Stalled
from levada.features.types import NULL_STRING
from levada.methods.graph import DOUBLE, FLOAT, ML, Graph
from levada.methods.transforms.base import Block, Recipe
from levada.methods.transforms.categories import frequencies
from levada.resources.conditions import Reason
from levada.resources.featureset import Clip, Impute


def demand_numbers(block: Block, transform: str, hint: str) -> None:
    """Raise Stalled where a transform of numbers meets a text."""
    if block.is_text:
        raise Stalled(
            Reason.INVALID_SPEC, f"the transform {transform} takes numbers, and '{block.names[0]}' is a text: {hint}"
        )


def _refuse_infinite(block: Block, values: npt.NDArray[Any], transform: str) -> None:
    """Raise Stalled where a transform would learn from what is infinite; `values` [..., k]."""
    infinite = np.isinf(values).reshape(-1, len(block.names)).any(axis=0)
    if infinite.any():
        raise Stalled(
            Reason.INVALID_DATA,
            f"the feature '{block.names[int(np.argmax(infinite))]}' is infinite in rows of the training part, from "
            f"which {transform} cannot learn: clip it before, bound its source by quality checks, or divide by "
            "nullif(..., 0) where it is derived",
        )


def _row(values: npt.ArrayLike, block: Block) -> npt.NDArray[np.floating]:
    """One value per column as [1, k] in the block's precision."""
    return np.asarray(values, dtype=block.values.dtype).reshape(1, -1)


def _named(block: Block, values: npt.ArrayLike) -> dict[str, float]:
    return {name: float(value) for name, value in zip(block.names, np.ravel(values), strict=True)}


def most_frequent(values: npt.NDArray[Any]) -> Any:
    """The value that is there most often; of several the smallest."""
    found, counts = np.unique(values, return_counts=True)
    return found[np.argmax(counts)]


class ImputeTransform:
    """Fills gaps. With `indicator`, columns `<name>_missing` (1 where the value was missing) come after the others."""

    elementwise = True

    def fit(self, block: Block, config: Impute) -> Recipe:
        if block.is_text:
            return self._fit_text(block, config)
        fills = _row([self._fill(column, config) for column in block.values.T], block)
        _refuse_infinite(block, fills, "impute")
        element = block.element

        def write(graph: Graph, x: str) -> str:
            missing = graph.op("IsNaN", x)
            filled = graph.op("Where", missing, graph.constant(fills), x)
            if not config.indicator:
                return filled
            return graph.op("Concat", filled, graph.op("Cast", missing, to=element), axis=1)

        names = block.names + tuple(f"{name}_missing" for name in block.names if config.indicator)
        return Recipe(names, element, write, {"fill": _named(block, fills)})

    @staticmethod
    def _fill(column: npt.NDArray[np.floating], config: Impute) -> float:
        if config.strategy == "constant":
            return config.value or 0.0
        present = column[~np.isnan(column)].astype(np.float64)
        if config.strategy == "mean":
            return float(np.mean(present))
        return float(np.median(present) if config.strategy == "median" else most_frequent(present))

    @staticmethod
    def _fit_text(block: Block, config: Impute) -> Recipe:
        if config.strategy != "mostFrequent" or config.indicator:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"'{block.names[0]}' is a text, whose gaps impute can only fill with strategy mostFrequent and without "
                "indicator (encode makes a category of a missing text)",
            )
        values = block.values.ravel()
        fill = frequencies(values[values != NULL_STRING])[0][0]

        def write(graph: Graph, x: str) -> str:
            missing = graph.op("Equal", x, graph.constant(np.array([[NULL_STRING]], dtype=object)))
            return graph.op("Where", missing, graph.constant(np.array([[fill]], dtype=object)), x)

        return Recipe(block.names, block.element, write, {"fill": {block.names[0]: fill}})


class ClipTransform:
    """Bounds the values; gaps stay."""

    elementwise = True

    def fit(self, block: Block, config: Clip) -> Recipe:
        demand_numbers(block, "clip", "take it out of the columns")
        low, high = self._bounds(block, config)

        def write(graph: Graph, x: str) -> str:
            # comparisons with NaN are false, so gaps pass
            if low is not None:
                bound = graph.constant(low)
                x = graph.op("Where", graph.op("Less", x, bound), bound, x)
            if high is not None:
                bound = graph.constant(high)
                x = graph.op("Where", graph.op("Greater", x, bound), bound, x)
            return x

        bounds = {"min": low, "max": high}
        return Recipe(
            block.names, block.element, write, {k: _named(block, v) for k, v in bounds.items() if v is not None}
        )

    @staticmethod
    def _bounds(block: Block, config: Clip) -> tuple[npt.NDArray[np.floating] | None, npt.NDArray[np.floating] | None]:
        if config.quantiles is not None:
            low, high = np.nanquantile(block.values.astype(np.float64), sorted(config.quantiles), axis=0)
            return _row(low, block), _row(high, block)
        width = len(block.names)
        return (
            None if config.min is None else _row([config.min] * width, block),
            None if config.max is None else _row([config.max] * width, block),
        )


class ScaleTransform:
    """Brings columns to a common scale: (x - offset) * factor. A constant column becomes 0.

    standard: by mean and standard deviation; minMax: to 0..1; robust: by median and interquartile range.
    """

    elementwise = True

    def fit(self, block: Block, config: str) -> Recipe:
        from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

        demand_numbers(block, "scale", "encode it")
        _refuse_infinite(block, block.values, "scale")
        values = block.values.astype(np.float64)
        if config == "standard":
            standard = StandardScaler().fit(values)
            offset, factor = standard.mean_, 1 / standard.scale_
        elif config == "minMax":
            bounded = MinMaxScaler().fit(values)
            offset, factor = bounded.data_min_, bounded.scale_
        else:
            robust = RobustScaler().fit(values)
            offset, factor = robust.center_, 1 / robust.scale_
        is_double = block.values.dtype == np.float64

        def write(graph: Graph, x: str) -> str:
            if is_double:
                x = graph.op("Cast", x, to=FLOAT)
            y = graph.op("Scaler", x, domain=ML, offset=offset.tolist(), scale=factor.tolist())
            return graph.op("Cast", y, to=DOUBLE) if is_double else y

        return Recipe(
            block.names, block.element, write, {"offset": _named(block, offset), "factor": _named(block, factor)}
        )


class BinTransform:
    """The number of the quantile bin of the training part that a value falls in, 0 for the lowest; gaps stay."""

    elementwise = False

    def fit(self, block: Block, config: int) -> Recipe:
        demand_numbers(block, "bin", "encode it")
        values = block.values.astype(np.float64)
        edges = np.unique(np.nanquantile(values, np.linspace(0, 1, config + 1)[1:-1])).astype(block.values.dtype)
        element = block.element

        def write(graph: Graph, x: str) -> str:
            above = graph.op("Cast", graph.op("GreaterOrEqual", x, graph.constant(edges.reshape(1, -1))), to=element)
            count = graph.op("ReduceSum", above, graph.constant(np.array([1], dtype=np.int64)), keepdims=1)
            return graph.op("Where", graph.op("IsNaN", x), x, count)

        return Recipe(block.names, block.element, write, {"edges": {block.names[0]: [float(edge) for edge in edges]}})
