"""Values of a request as tensors: one converter per column, chosen once when a model is loaded.

features/types.py says how values stand in tensors, features/cells.py what JSON may bring. Of the datatypes of the Open
Inference Protocol a column takes:

| column type | datatype                                                     |
| ----------- | ------------------------------------------------------------ |
| float64     | FP64; any other FP, INT or UINT                              |
| int64       | INT64; any other INT or UINT; FP with whole values           |
| boolean     | BOOL                                                         |
| string      | BYTES (UTF-8)                                                |
| timestamp   | BYTES (ISO 8601); INT64 or FP64 (seconds since 1970 UTC)     |
| date        | BYTES (YYYY-MM-DD)                                           |

null, or a column that is left out, is a null where the column is nullable; so is NaN in a binary tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from levada.features.cells import DTYPES, Cell, Converter, converter
from levada.features.types import MAX_INTEGER, NULL_STRING, ColumnType
from levada.resources.dataset import Column
from levada.serving import binary
from levada.serving.accepted import Accepted
from levada.serving.errors import RequestError, bad
from levada.serving.session import Array

_INTEGERS = ("INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")
_FLOATS = ("FP64", "FP32", "FP16")
DATATYPES: dict[ColumnType, tuple[str, ...]] = {  # the first is the one that metadata shows
    ColumnType.FLOAT64: (*_FLOATS, *_INTEGERS),
    ColumnType.INT64: (*_INTEGERS, *_FLOATS),
    ColumnType.BOOLEAN: ("BOOL",),
    ColumnType.STRING: ("BYTES",),
    ColumnType.TIMESTAMP: ("BYTES", "INT64", "FP64"),
    ColumnType.DATE: ("BYTES",),
}
_BINARY = {
    "BOOL": np.dtype(np.bool_),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
# Python types of JSON values of which a whole column converts in one call; a parser of JSON makes no infinite floats.
_PLAIN: dict[ColumnType, frozenset[type]] = {
    ColumnType.FLOAT64: frozenset({float}),
    ColumnType.INT64: frozenset({int}),
    ColumnType.BOOLEAN: frozenset({bool}),
    ColumnType.STRING: frozenset({str}),
    ColumnType.TIMESTAMP: frozenset(),
    ColumnType.DATE: frozenset(),
}
_EXAMPLES: dict[ColumnType, Any] = {
    ColumnType.FLOAT64: 1.0,
    ColumnType.INT64: 1,
    ColumnType.STRING: "a",
    ColumnType.BOOLEAN: True,
    ColumnType.TIMESTAMP: "2020-01-01T00:00:00Z",
    ColumnType.DATE: "2020-01-01",
}


class RequestColumn:
    """A column that requests bring. `dtype` is that of its tensor and `null` the null there."""

    def __init__(self, column: Column, accepted: Sequence[str | int | None] | None = None) -> None:
        """`accepted`: the only values that the model scores."""
        self.name = column.name
        self.type = column.type
        self.is_number = column.type in (ColumnType.FLOAT64, ColumnType.INT64)
        self.nullable = column.nullable
        self.datatypes = DATATYPES[column.type]
        self.dtype = DTYPES[column.type]
        self._convert = converter(column.type, column.name)
        self.null = self._convert(None)
        # What makes a cell of a value in the fewest steps; where it raises ValueError, `scalar` says what is wrong.
        self.convert = self._convert if column.nullable else _required(self._convert)
        self.example = None if column.nullable else _EXAMPLES[column.type]
        """A value of JSON that the model scores."""
        self._plain = _PLAIN[column.type]
        self._accepted: Accepted | None = None
        if accepted is not None:
            self._accepted = Accepted(column.name, column.type, accepted)
            self.convert = _accepting(self.convert, self._accepted)
            first = next(iter(accepted), None)
            self.example = bool(first) if column.type == ColumnType.BOOLEAN and first is not None else first

    def scalar(self, value: object, row: int = 0) -> Cell:
        """A value as it stands in the tensor; raises RequestError naming row and column."""
        if value is None or value == NULL_STRING:
            if not self.nullable:
                raise bad(
                    f"row {row}: column '{self.name}' needs a value, but it is null or left out; send one in every row"
                )
            if self._accepted is not None and self.null not in self._accepted:
                raise self._accepted.refusal(None, row)
            return self.null
        try:
            cell = self._convert(value)
        except ValueError as error:
            raise bad(f"row {row}: {error}") from None
        if self._accepted is not None and cell not in self._accepted:
            raise self._accepted.refusal(value, row)
        return cell

    def vector(self, values: Sequence[object] | Array | None, rows: int) -> Array:
        """Values of JSON, or an array that `from_binary` made, as an array [rows]; raises RequestError naming a row."""
        if isinstance(values, np.ndarray):
            return values
        if values is None:
            values = [None] * rows
        if (at_once := self._at_once(values)) is not None:
            return at_once
        with suppress(ValueError):  # some value does not fit, or is a null in another form: each needs a look
            return np.array(list(map(self.convert, values)), self.dtype)
        return np.array([self.scalar(value, row) for row, value in enumerate(values)], self.dtype)

    def from_binary(self, datatype: str, data: memoryview, rows: int) -> Array:
        """A binary tensor of the Open Inference Protocol as an array [rows] as `vector` gives it."""
        if datatype == "BYTES":
            return self._from_texts(bytes(data), rows)
        kind = _BINARY[datatype]
        expected = rows * kind.itemsize
        if len(data) != expected:
            raise bad(
                f"column '{self.name}': {rows} rows of {datatype} take {expected} bytes, but binary_data_size is "
                f"{len(data)}; make shape, datatype and binary_data_size agree"
            )
        array = np.frombuffer(data, kind)
        if self.is_number and self._accepted is None:
            return self._checked(array)
        return self.vector([None if value != value else value for value in array.tolist()], rows)

    def _from_texts(self, raw: bytes, rows: int) -> Array:
        if self.type in (ColumnType.TIMESTAMP, ColumnType.DATE) and self._accepted is None:
            at_once = binary.times(raw, rows, self.type == ColumnType.DATE)
            if at_once is not None:
                return at_once
        return self.vector(binary.texts(self.name, raw, rows), rows)

    def plain(self, array: Array) -> list[object]:
        """An array as `vector` gives it of what is no number, as values of JSON; of times, microseconds."""
        values: list[Any] = array.tolist()
        if self.type == ColumnType.BOOLEAN:
            return [bool(value) if value == value else None for value in values]
        return [None if value == self.null else value for value in values]

    def _at_once(self, values: Sequence[Any]) -> Array | None:
        """The whole column in a few calls, where all values are of an ordinary type; None where each needs a look."""
        if self._accepted is not None or not set(map(type, values)) <= self._plain:
            return None
        if self.type == ColumnType.STRING:
            return None if NULL_STRING in values else np.array(values, np.object_)
        if self.type == ColumnType.INT64 and not -MAX_INTEGER <= min(values) <= max(values) <= MAX_INTEGER:
            return None
        return np.array(values, np.float64)

    def _checked(self, array: Array) -> Array:
        """A binary tensor of numbers, each value checked as JSON's are."""
        numbers = array.astype(np.float64)
        nulls = np.isnan(numbers)
        wrong = np.isinf(numbers)
        if not self.nullable:
            wrong |= nulls
        if array.dtype.kind in "iu" or self.type == ColumnType.INT64:
            # compared as they came: as doubles, some beyond the limit would round to it
            wrong |= (array > MAX_INTEGER) | (array < -MAX_INTEGER)
        if self.type == ColumnType.INT64:
            wrong |= (np.floor(numbers) != numbers) & ~nulls
        if wrong.any():
            row = int(wrong.argmax())
            value = array[row].item()
            self.scalar(None if value != value else value, row)
        return numbers


def _required(convert: Converter) -> Converter:
    def convert_required(value: object) -> Cell:
        if value is None or value == NULL_STRING:
            raise ValueError
        return convert(value)

    return convert_required


def _accepting(convert: Converter, accepted: Accepted) -> Converter:
    def convert_accepted(value: object) -> Cell:
        cell = convert(value)
        if cell not in accepted:
            raise ValueError
        return cell

    return convert_accepted


def too_many(rows: int, limit: int) -> RequestError:
    """A request with more rows than are taken at once."""
    return RequestError(413, f"the request has {rows} rows, but at most {limit} are taken at once; send them in parts")
