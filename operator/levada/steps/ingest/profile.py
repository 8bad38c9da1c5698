"""Columns in figures, gathered while rows pass by and put together over files and parts.

Mean and variance are merged pairwise (Chan, Golub, LeVeque: Updating Formulae and a Pairwise Algorithm for Computing
Sample Variances, 1979), distinct values are estimated by HyperLogLog (Flajolet et al., 2007) with linear counting for
few; with 4,096 registers the standard error is 1.6 %.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from levada.artifacts import ColumnProfile
from levada.features.types import ColumnType
from levada.resources.dataset import Column
from levada.steps.ingest.receipt import Moments

_BITS = 12
_REGISTERS = 1 << _BITS
_NARROW = 1 << 16  # a range of integers within which each is counted
_LONGEST = 256  # characters of a text that is shown
Numbers = npt.NDArray[np.float64]
_NUMBERS = (ColumnType.INT64, ColumnType.FLOAT64, ColumnType.BOOLEAN)


class Sketch:
    """An estimate of how many different values a column has."""

    def __init__(self, registers: npt.NDArray[np.uint8] | None = None) -> None:
        self.registers = np.zeros(_REGISTERS, np.uint8) if registers is None else registers

    def add(self, values: pa.Array) -> None:
        """Count values (no nulls)."""
        if len(values) == 0:
            return
        hashes = _hashes(values)
        rest = (hashes << np.uint64(_BITS)) | np.uint64(1 << (_BITS - 1))
        ranks = 65 - np.frexp(rest.astype(np.float64))[1]
        np.maximum.at(self.registers, hashes >> np.uint64(64 - _BITS), ranks.astype(np.uint8))

    def merge(self, other: Sketch) -> None:
        """Count what the other has counted too."""
        np.maximum(self.registers, other.registers, out=self.registers)

    def estimate(self) -> int:
        """How many different values there were."""
        zeros = int(np.count_nonzero(self.registers == 0))
        raw = (
            0.7213 / (1 + 1.079 / _REGISTERS) * _REGISTERS**2 / float(np.sum(2.0 ** -self.registers.astype(np.float64)))
        )
        if raw <= 2.5 * _REGISTERS and zeros:
            return round(_REGISTERS * math.log(_REGISTERS / zeros))
        return round(raw)

    def to_text(self) -> str:
        return base64.b64encode(zlib.compress(self.registers.tobytes())).decode()

    @classmethod
    def from_text(cls, text: str) -> Sketch:
        return cls(np.frombuffer(bytearray(zlib.decompress(base64.b64decode(text))), np.uint8))


def _hashes(values: pa.Array) -> npt.NDArray[np.uint64]:
    if pa.types.is_string(values.type):
        texts = values.cast(pa.binary()).to_pylist()
        keys = np.fromiter((zlib.crc32(text) | len(text) << 32 for text in texts), np.uint64, len(texts))
    elif pa.types.is_floating(values.type):
        keys = (values.to_numpy(zero_copy_only=False) + 0.0).view(np.uint64)  # -0.0 is 0.0
    else:
        whole = pa.int32() if pa.types.is_date(values.type) else pa.int64()
        keys = values.cast(whole).cast(pa.int64()).to_numpy(zero_copy_only=False).view(np.uint64)
    # The finalizer of SplitMix64 (Steele, Lea, Flood, 2014).
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


class Profiler:
    """Gathers the figures of the columns of a part; `start` begins another file."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self.sketches = [Sketch() for _ in columns]
        self.start()

    def start(self) -> None:
        """Begin a new file."""
        self.moments = [Moments() for _ in self._columns]

    def add(self, table: pa.Table) -> None:
        """Count rows."""
        for i, column in enumerate(self._columns):
            distinct, moments = _figures(table[column.name], column.type)
            self.sketches[i].add(distinct)
            self.moments[i] = merge([self.moments[i], moments])


def _figures(array: pa.ChunkedArray, type: ColumnType) -> tuple[pa.Array, Moments]:
    """The different values of a column, without null, and its figures."""
    if type not in _NUMBERS:
        distinct = pc.drop_null(pc.unique(array))
        bounds = pc.min_max(distinct).as_py()
        return distinct, Moments(nulls=array.null_count, min=_shown(bounds["min"]), max=_shown(bounds["max"]))
    values = array.drop_null()
    if type is ColumnType.INT64 and len(values):
        least, most = pc.min_max(values).as_py().values()
        if most - least < _NARROW:  # counting each number is several times as fast as hashing
            counts = np.bincount(values.to_numpy() - least)
            numbers = np.flatnonzero(counts)
            return pa.array(numbers + least), _moments(
                numbers.astype(np.float64) + least, array.null_count, counts[numbers]
            )
    # Figures are doubles: of a number beyond 2**53, such as an id or a hash, the nearest one.
    numbers = values.cast(pa.float64(), safe=False).to_numpy()
    return pc.unique(values), _moments(numbers[np.isfinite(numbers)], array.null_count)


def _moments(numbers: Numbers, nulls: int, counts: npt.NDArray[np.intp] | None = None) -> Moments:
    """The figures of some numbers, each as often as `counts` says, or once."""
    if not len(numbers):
        return Moments(nulls=nulls)
    count = len(numbers) if counts is None else int(counts.sum())
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(numbers, weights=counts)
        squares = np.average(np.square(numbers - mean), weights=counts) * count
    return Moments(
        nulls=nulls,
        count=count,
        mean=_finite(mean),
        squares=_finite(squares),
        min=float(numbers.min()),
        max=float(numbers.max()),
    )


def _finite(figure: Any) -> float | None:
    """A figure, if a double can hold it: of numbers near the largest double, sums and squares are beyond it."""
    return float(figure) if math.isfinite(figure) else None


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    return value[:_LONGEST] if isinstance(value, str) else str(value.isoformat())


def merge(parts: Iterable[Moments]) -> Moments:
    """The figures of several parts together."""
    total = Moments()
    for part in parts:
        mean, squares = _together(total, part)
        total = Moments(
            nulls=total.nulls + part.nulls,
            count=total.count + part.count,
            mean=mean,
            squares=squares,
            min=_least(min, total.min, part.min),
            max=_least(max, total.max, part.max),
        )
    return total


def _together(a: Moments, b: Moments) -> tuple[float | None, float | None]:
    """Mean and squares of two parts; what one of them cannot tell, both together cannot."""
    if not a.count or not b.count:
        told = a if a.count else b
        return told.mean, told.squares
    if a.mean is None or b.mean is None:
        return None, None
    share = b.count / (a.count + b.count)
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.float64(b.mean) - a.mean
        mean = _finite(a.mean + distance * share)
        if a.squares is None or b.squares is None:
            return mean, None
        return mean, _finite(a.squares + b.squares + np.square(distance) * a.count * share)


def _least(choose: Any, a: float | str | None, b: float | str | None) -> Any:
    return b if a is None else a if b is None else choose(a, b)


def column_profile(column: Column, moments: Moments, sketch: Sketch) -> ColumnProfile:
    """A column in figures, for the manifest; `std` is that of a sample. Figures that no double can hold are absent."""
    std = None
    if moments.count > 1 and moments.squares is not None:
        std = math.sqrt(moments.squares / (moments.count - 1))
    return ColumnProfile(
        name=column.name,
        type=column.type,
        nulls=moments.nulls,
        distinct=sketch.estimate(),
        min=moments.min,
        max=moments.max,
        mean=moments.mean,
        std=std,
    )
