"""Which of the transformed features are kept, and how what is still missing is filled (PREP-3)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from levada.errors import Stalled
from levada.methods.graph import FLOAT, Graph
from levada.methods.selectors import SELECTORS, Ranked
from levada.resources.conditions import Reason
from levada.resources.featureset import Select
from levada.steps.train.features import FEATURES, FeatureGraph

GAPPED = "features with gaps"


def chosen(select: Select, graph: FeatureGraph) -> list[int]:
    """Places of the features of the caller's own choice: of each name the feature, or all made of that column."""
    assert select.columns is not None, "the spec's own rule"
    for name in select.columns:
        if name not in graph.names and name not in graph.sources:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"select names '{name}', which is neither a feature after the transforms nor a column that one is made "
                f"of (there are: {', '.join(graph.names[:50])})",
            )
    pairs = enumerate(zip(graph.names, graph.sources, strict=True))
    return [place for place, (name, source) in pairs if name in select.columns or source in select.columns]


def ranked(select: Select, graph: FeatureGraph, data: Ranked) -> tuple[list[int], list[tuple[str, float]]]:
    """Places of the k best features in their own order, and the ranking of all of them, best first."""
    assert select.k is not None, "the spec's own rule"
    selector = SELECTORS[select.method]
    if selector.needs_label and data.labels is None:
        raise Stalled(
            Reason.INVALID_SPEC,
            f"select by {select.method} needs a label, and a clustering has none: select by variance or columns",
        )
    scores = selector.scores(data)
    order = np.argsort(-scores, kind="stable")
    return sorted(order[: select.k].tolist()), [(graph.names[i], float(scores[i])) for i in order]


def medians(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What fills gaps that the transforms left: each feature's median, 0 if it has no value. [1, F]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of columns without a value
        found = np.nanmedian(features, axis=0, keepdims=True)
    return np.nan_to_num(found).astype(np.float32)


def filling(fills: npt.NDArray[np.float32]) -> Any:
    """The graph that fills gaps: `features with gaps` in, `features` out."""
    graph = Graph()
    x = graph.input(GAPPED, FLOAT, fills.shape[1])
    graph.output(FEATURES, graph.op("Where", graph.op("IsNaN", x), graph.constant(fills), x), FLOAT, fills.shape[1])
    return graph.model("fill")
