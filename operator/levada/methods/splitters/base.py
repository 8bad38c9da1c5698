"""What a splitter is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from levada.resources.trainingrun import Split

PartName = Literal["train", "validation", "test"]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")
Parts = dict[PartName, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Rows:
    """What is to be divided. `numbers`: row numbers of the feature set version, ascending, in the order of time.
    `values`: the value of the column that the splitter asks for (None for a null), aligned with `numbers`."""

    numbers: npt.NDArray[np.int64]
    values: npt.NDArray[np.object_] | None = None


class Splitter(Protocol):
    """Divides rows. The same rows and spec always give the same parts; each part is ascending and no row is in two.
    Raises Stalled if the rows cannot be divided so."""

    def __call__(self, rows: Rows, split: Split) -> Parts: ...
