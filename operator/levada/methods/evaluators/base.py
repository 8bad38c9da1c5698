"""What an evaluator is, and the charts that it draws with (EVAL-1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from levada.resources.base import Model
from levada.resources.trainingrun import Task

CURVE_POINTS = 200  # a curve that is kept and drawn has at most so many


@dataclass(frozen=True)
class Measured:
    """What the ONNX artefact said of rows whose truth is known.

    classification: `truth` [N] places in `classes`, -1 for a class that the model does not know; `predicted` [N]
    places; `probabilities` [N, C]. regression: `truth` and `prediction` [N] float64. clustering: `cluster` [N] int64,
    `distance` [N], and where the graph shows them the `features` [N, F] that clusters are made in.
    `train`: figures of the training part to compare with, as a split's statistics name them (may be empty).
    """

    task: Task
    seed: int
    classes: Sequence[int | str | bool] = ()
    truth: npt.NDArray[Any] | None = None
    predicted: npt.NDArray[np.int64] | None = None
    probabilities: npt.NDArray[np.float64] | None = None
    prediction: npt.NDArray[np.float64] | None = None
    cluster: npt.NDArray[np.int64] | None = None
    distance: npt.NDArray[np.float64] | None = None
    features: npt.NDArray[np.float32] | None = None
    train: dict[str, float] = field(default_factory=dict)


class Series(Model):
    """A line, or points, of a chart."""

    name: str
    points: list[tuple[float, float]]
    style: Literal["line", "steps", "points", "reference"] = "line"


class Chart(Model):
    """A picture as data: `lines` has series, `bars` has values by name, `matrix` a table of counts."""

    kind: Literal["lines", "bars", "matrix"]
    title: str
    x: str = ""
    y: str = ""
    series: list[Series] = []
    names: list[str] = []  # bars: of the values; matrix: of rows and columns
    values: list[float] = []
    cells: list[list[int]] = []  # matrix: rows are the truth, columns what was predicted
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    note: str = ""  # one sentence on how to read it


class Table(Model):
    """A table of a report."""

    title: str
    columns: list[str]
    rows: list[list[str | float | int | None]]


@dataclass(frozen=True)
class Finding:
    """What an evaluator found. A metric that could not be measured is left out, and `warnings` say why. `baselines`:
    what the metrics of the same names would be without a model, by chance or by what the training part is like."""

    metrics: dict[str, float] = field(default_factory=dict)
    baselines: dict[str, float] = field(default_factory=dict)
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Evaluator(Protocol):
    """Measures predictions; built in or a plug-in. Metrics are named in camelCase; equal names mean equal measures."""

    tasks: frozenset[Task]

    def measure(self, data: Measured) -> Finding:
        """What it finds; the same rows and seed always give the same."""


def thinned(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> list[tuple[float, float]]:
    """Points of a curve, at most CURVE_POINTS of them, first and last included."""
    places = np.unique(np.linspace(0, len(x) - 1, min(len(x), CURVE_POINTS)).round().astype(int))
    return [(float(x[i]), float(y[i])) for i in places]


def round_step(step: float) -> float:
    """The least number of the form 1, 2 or 5 times a power of ten that is not less."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def histogram(values: npt.NDArray[Any], most: int) -> tuple[list[str], list[float]]:
    """How many of the values [N] are in each of about `most` stretches with round ends: their names, the counts."""
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    if size < 1e-290:
        low, high = -0.5, 0.5
    elif high - low <= 1e-12 * most * size:  # so near to one another that doubles could not tell the ends apart
        low, high = low - size / 2, high + size / 2
    step = round_step((high - low) / most)
    first = math.floor(low / step)
    count = max(math.ceil(high / step) - first, 1)
    places = np.clip(np.floor(values.astype(np.float64) / step) - first, 0, count - 1).astype(np.int64)
    digits = max(6, len(str(max(abs(first), abs(first + count)))) + 1)  # that tell one end from the next
    ends = [f"{(first + number) * step:.{digits}g}" for number in range(count + 1)]
    return [f"{a} to {b}" for a, b in pairwise(ends)], np.bincount(places, minlength=count).astype(float).tolist()
