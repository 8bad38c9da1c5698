"""Whether the ONNX artefact says what the fitted model says, on every row (TRAIN-6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from levada.methods.algorithms import Predictions

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Difference:
    """The largest difference and where it is; `row` counts within what was compared."""

    max_abs: float
    row: int
    expected: Any
    found: Any


def difference(expected: Predictions, found: Predictions, classes: Sequence[int | str] = ()) -> Difference:
    """The worst difference between a fitted model's predictions and those of its ONNX twin, over all outputs.

    Of values larger than 1 the difference is relative, since a float32 has only 7 digits. A NaN differs from all but a
    NaN. Where classes or clusters differ, it is by how much the model preferred its own, which may be rounding too.
    """
    worst = Difference(0.0, 0, None, None)
    for kind in ("probabilities", "prediction", "distance"):
        if kind in expected:
            worst = max(worst, _of_numbers(expected[kind], found[kind]), key=lambda d: d.max_abs)
    if "label" in expected:
        places = {value: place for place, value in enumerate(classes)}
        chosen = np.array([places.get(value, -1) for value in found["label"].tolist()])
        preferred = _of_choices(expected["probabilities"], chosen, expected["label"], found["label"])
        worst = max(worst, preferred, key=lambda d: d.max_abs)
    if "cluster" in expected:
        preferred = _of_choices(-expected["distances"], found["cluster"], expected["cluster"], found["cluster"])
        worst = max(worst, preferred, key=lambda d: d.max_abs)
    return worst


def _of_numbers(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> Difference:
    gaps = _gaps(expected, found)
    row, column = np.unravel_index(int(np.argmax(gaps)), gaps.shape)
    return Difference(float(gaps[row, column]), int(row), float(expected[row, column]), float(found[row, column]))


def _of_choices(
    preference: npt.NDArray[Any], chosen: npt.NDArray[Any], expected: npt.NDArray[Any], found: npt.NDArray[Any]
) -> Difference:
    """By how much each row's best preference exceeds that of what was chosen; a choice of nothing differs wholly."""
    rows = np.arange(len(preference))
    gaps = _gaps(preference.max(axis=1), preference[rows, chosen])
    gaps[chosen < 0] = np.inf
    row = int(np.argmax(gaps))
    return Difference(float(gaps[row]), row, expected.tolist()[row], found.tolist()[row])


def _gaps(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    a, b = expected.astype(np.float64), found.astype(np.float64)
    gaps = np.abs(a - b) / np.maximum(1.0, np.abs(a))
    gaps[np.isnan(gaps)] = np.inf
    gaps[np.isnan(a) & np.isnan(b)] = 0.0
    gaps[a == b] = 0.0  # infinities
    return np.asarray(gaps)
