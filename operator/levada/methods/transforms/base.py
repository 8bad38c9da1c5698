"""What a fitted transform is (PREP-2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from levada.features.model import OnnxModel
from levada.methods.graph import DOUBLE, FLOAT, STRING, Graph

ELEMENTS = {np.dtype(np.float32): FLOAT, np.dtype(np.float64): DOUBLE, np.dtype(np.object_): STRING}


@dataclass(frozen=True)
class Block:
    """Columns that are transformed together, over the rows of the training part.

    `values`: [N, k], k = len(names): float32 or float64 with NaN for null, or (then k = 1) texts with NULL_STRING for
    null. They are what the graph so far made of the rows, so that what is fitted on them is fitted on what it will see.
    """

    names: tuple[str, ...]
    values: npt.NDArray[Any]

    @property
    def is_text(self) -> bool:
        return self.values.dtype == np.object_

    @property
    def element(self) -> int:
        """Element type, as methods/graph.py names it."""
        return ELEMENTS[self.values.dtype]


class Fitted(Protocol):
    """What fitting made."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that come out."""

    @property
    def element(self) -> int:
        """Element type of what comes out, as methods/graph.py names it."""

    @property
    def learned(self) -> dict[str, Any]:
        """What a person wants to see of it, small."""

    def emit(self, graph: Graph, x: str) -> str:
        """Write the transform into a graph: tensor `x` [N, k] in, the result [N, len(names)] out."""


class Transform(Protocol):
    """A transform of a FeatureSet, built in or a plug-in.

    An `elementwise` one may get several columns at once and gives as many for each, first one for all of them in their
    order, then a second, and so on; others get their columns one at a time.
    """

    elementwise: bool

    def fit(self, block: Block, config: Any) -> Fitted:
        """Learn from the training part. `config`: the block of the manifest, for a plug-in its params (a dict).
        Raises Stalled if these columns cannot be transformed so."""


@dataclass(frozen=True)
class Recipe:
    """A fitted transform as data."""

    names: tuple[str, ...]
    element: int
    write: Callable[[Graph, str], str]
    learned: dict[str, Any] = field(default_factory=dict)

    def emit(self, graph: Graph, x: str) -> str:
        return self.write(graph, x)


def apply(fitted: Fitted, block: Block) -> Block:
    """What the converted transform makes of a block."""
    graph = Graph()
    x = graph.input("x", block.element, block.values.shape[1])
    graph.output("y", fitted.emit(graph, x), fitted.element, len(fitted.names))
    model = OnnxModel(graph.model("transform").SerializeToString())
    return Block(fitted.names, model.run_all({"x": block.values})["y"])
