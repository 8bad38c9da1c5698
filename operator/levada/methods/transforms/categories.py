"""Encoding of categories: one-hot, ordinal, by frequency. Texts, and numbers that are whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from levada.errors import Stalled
from levada.features.types import MAX_INTEGER, NULL_STRING, NULL_TIME
from levada.methods.graph import FLOAT, INT64, ML, Graph
from levada.methods.transforms.base import Block, Recipe
from levada.resources.conditions import Reason
from levada.resources.featureset import Encode

UNSEEN = -1.0


@dataclass(frozen=True)
class Categories:
    """What was seen in a column: keys as the graph compares them, most frequent first."""

    name: str
    keys: list[Any]  # str or int; a null is NULL_STRING or NULL_TIME
    counts: npt.NDArray[np.int64]

    @property
    def is_text(self) -> bool:
        return isinstance(self.keys[0], str)


def is_null(key: str | int) -> bool:
    return key in (NULL_STRING, NULL_TIME)


def seen(block: Block) -> Categories:
    """The categories of a block of one column; raises Stalled for numbers with fractions."""
    name, values = block.names[0], block.values.ravel()
    if not block.is_text:
        present = values[~np.isnan(values)]
        if np.any((present != np.floor(present)) | (np.abs(present) > MAX_INTEGER)):
            raise Stalled(
                Reason.INVALID_SPEC,
                f"encode takes texts and whole numbers, and '{name}' has fractions: use bin or scale for it",
            )
        values = np.where(np.isnan(values), float(NULL_TIME), values).astype(np.int64)
    keys, counts = frequencies(values)
    return Categories(name, keys, counts)


def frequencies(values: npt.NDArray[Any]) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """The different values (texts as objects, or whole numbers) and how often each is there, most frequent first; of
    equally frequent ones the smaller first."""
    # Not by numpy, whose texts are all as wide as the longest.
    counted = pc.value_counts(pa.array(values, pa.string() if values.dtype == np.object_ else None))
    pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    ordered = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return [value for value, _ in ordered], np.array([count for _, count in ordered], dtype=np.int64)


class EncodeTransform:
    """Makes numbers of categories. A missing value is a category of its own where training saw one.

    Beyond `maxCategories` the rarest become one category, "other". A value that training never saw becomes all zeros
    (oneHot), -1 (ordinal) or 0 (frequency). With `unknown: refuse` the graph does the same, but whoever scores refuses
    such a row beforehand: the model's manifest lists what is accepted.
    """

    elementwise = False

    def fit(self, block: Block, config: Encode) -> Recipe:
        categories = seen(block)
        count = len(categories.keys)
        kept = count if count <= config.max_categories else config.max_categories - 1  # one place is "other"
        learned: dict[str, Any] = {"categories": {categories.name: count}}
        if config.unknown == "refuse":
            learned["accepted"] = {categories.name: [None if is_null(key) else key for key in categories.keys]}
        if config.type == "oneHot":
            return _one_hot(categories, kept, learned)
        if config.type == "ordinal":
            ordered = sorted(categories.keys[:kept], key=lambda key: (is_null(key), key))
            numbers = {key: number for number, key in enumerate(ordered)}
            values = np.array([numbers.get(key, kept) for key in categories.keys], dtype=np.float64)
            unseen = UNSEEN
        else:
            values = categories.counts / categories.counts.sum()
            values[kept:] = values[kept:].sum()
            unseen = 0.0

        def write(graph: Graph, x: str) -> str:
            return _look_up(graph, x, categories, values, unseen)

        return Recipe((categories.name,), FLOAT, write, learned)


def _one_hot(categories: Categories, kept: int, learned: dict[str, Any]) -> Recipe:
    has_other = kept < len(categories.keys)
    labels = ["null" if is_null(key) else str(key) for key in categories.keys[:kept]] + ["other"] * has_other
    places = np.minimum(np.arange(len(categories.keys)), kept)
    row = np.arange(len(labels), dtype=np.float32).reshape(1, -1)

    def write(graph: Graph, x: str) -> str:
        index = _look_up(graph, x, categories, places, UNSEEN)
        return graph.op("Cast", graph.op("Equal", index, graph.constant(row)), to=FLOAT)

    return Recipe(tuple(f"{categories.name}={label}" for label in labels), FLOAT, write, learned)


def _look_up(graph: Graph, x: str, categories: Categories, values: npt.NDArray[Any], unseen: float) -> str:
    """The value of each category, float32 [N, 1]."""
    floats = [float(value) for value in values]
    if categories.is_text:
        keys: dict[str, Any] = {"keys_strings": categories.keys}
    else:
        # what a cast makes of NaN differs between processors, so nulls are set afterwards
        null = graph.constant(np.array([[NULL_TIME]], dtype=np.int64))
        x = graph.op("Where", graph.op("IsNaN", x), null, graph.op("Cast", x, to=INT64))
        keys = {"keys_int64s": categories.keys}
    return graph.op("LabelEncoder", x, domain=ML, values_floats=floats, default_float=float(unseen), **keys)
