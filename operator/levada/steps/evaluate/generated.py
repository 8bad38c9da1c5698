"""Rows made up by type, for a model that comes without data: enough to see that it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from levada.features.types import ColumnType
from levada.resources.dataset import Column

ROWS = 100


def generated_rows(columns: Sequence[Column], seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """A tensor [100, 1] for each column, as types.py says."""
    generator = np.random.default_rng(seed)
    found: dict[str, npt.NDArray[Any]] = {}
    for column in columns:
        if column.type is ColumnType.STRING:
            values: npt.NDArray[Any] = np.array([["a"]] * ROWS, dtype=object)
        elif column.type is ColumnType.FLOAT64:
            values = generator.normal(size=(ROWS, 1))
        elif column.type.is_temporal:
            values = generator.integers(0, 2**50, size=(ROWS, 1))
        else:
            values = generator.integers(0, 2, size=(ROWS, 1)).astype(np.float64)
        found[column.name] = values
    return found
