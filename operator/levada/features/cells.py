"""JSON values as cells of ONNX input tensors, for requests that come one or a few rows at a time.

`tensors.py` does the same for whole Arrow columns; `types.py` says how values and nulls stand in tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from levada.features.types import DAY, MAX_INTEGER, MAX_TIME, MIN_TIME, NULL_STRING, NULL_TIME, ColumnType

Cell = float | int | str
Converter = Callable[[object], Cell]
Tensor = npt.NDArray[Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1).toordinal()
MICROSECOND = timedelta(microseconds=1)
INFINITY = math.inf


def scalar_to_cell(value: object, column_type: ColumnType, name: str = "value") -> Cell:
    """The cell of one JSON value (number, string, true, false or null).

    Times are ISO 8601 texts, UTC unless they say otherwise, or numbers of seconds since 1970; dates are ISO 8601 texts.

    Raises:
        ValueError: the value does not fit; one sentence names the column and what it takes.
    """
    return converter(column_type, name)(value)


def converter(column_type: ColumnType, name: str) -> Converter:
    """What `scalar_to_cell` does for one column, made once for many values."""
    return _CONVERTERS[column_type](name)


class RowEncoder:
    """Turns rows of JSON objects into the input tensors of a graph.

    Raises:
        ValueError: as `scalar_to_cell`; or a row has a column that is not known, or lacks one.
    """

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        self._names = columns.keys()
        self._blocks = []
        for dtype in (np.float64, np.int64, np.object_):
            names = [name for name, column_type in columns.items() if DTYPES[column_type] is dtype]
            if names:
                self._blocks.append((dtype, names, [(name, converter(columns[name], name)) for name in names]))

    def __call__(self, rows: Sequence[Mapping[str, object]]) -> dict[str, Tensor]:
        """A tensor of shape [N, 1] for each column."""
        for row in rows:
            if row.keys() != self._names:
                raise ValueError(self._misfit(row))
        tensors: dict[str, Tensor] = {}
        for dtype, names, converters in self._blocks:
            # One array for all columns of a dtype: making arrays is what costs time here.
            cells = [convert(row[name]) for name, convert in converters for row in rows]
            tensors.update(zip(names, np.array(cells, dtype).reshape(len(names), len(rows), 1), strict=True))
        return tensors

    def _misfit(self, row: Mapping[str, object]) -> str:
        unknown = [name for name in row if name not in self._names]
        if unknown:
            return f"there is no column '{unknown[0]}': the columns are {', '.join(self._names)}"
        return f"the column '{next(name for name in self._names if name not in row)}' is missing: send null if unknown"


def _number(name: str) -> Converter:
    def convert(value: object) -> float:
        kind = type(value)
        if kind is float:
            if -INFINITY < value < INFINITY:  # type: ignore[operator]
                return value  # type: ignore[return-value]
            raise _infinite(name, value)
        if value is None:
            return math.nan
        if kind is int:
            if -MAX_INTEGER <= value <= MAX_INTEGER:  # type: ignore[operator]
                return float(value)  # type: ignore[arg-type]
            raise _inexact(name, value)
        raise _unfit(name, value, "a number")

    return convert


def _integer(name: str) -> Converter:
    def convert(value: object) -> float:
        kind = type(value)
        if kind is int or kind is float:
            if -MAX_INTEGER <= value <= MAX_INTEGER:  # type: ignore[operator]
                cell = float(value)  # type: ignore[arg-type]
                if cell.is_integer():
                    return cell + 0.0  # an integer has no negative zero
                raise ValueError(f"column '{name}': {value} is not a whole number")
            raise _infinite(name, value) if kind is float and not math.isfinite(value) else _inexact(name, value)  # type: ignore[arg-type]
        if value is None:
            return math.nan
        raise _unfit(name, value, "a whole number")

    return convert


def _boolean(name: str) -> Converter:
    def convert(value: object) -> float:
        if value is True:
            return 1.0
        if value is False:
            return 0.0
        if value is None:
            return math.nan
        raise _unfit(name, value, "true or false")

    return convert


def _string(name: str) -> Converter:
    def convert(value: object) -> str:
        if type(value) is str:
            if not value.isascii():
                try:
                    value.encode()
                except UnicodeEncodeError as error:
                    raise ValueError(f"column '{name}': the text is not valid Unicode") from error
            return value
        if value is None:
            return NULL_STRING
        raise _unfit(name, value, "a string")

    return convert


def _timestamp(name: str) -> Converter:
    wanted = "a time such as 2024-02-29T13:14:15Z, or seconds since 1970"

    def convert(value: object) -> int:
        kind = type(value)
        if kind is str:
            try:
                moment = datetime.fromisoformat(value)  # type: ignore[arg-type]
            except ValueError as error:
                raise _unfit(name, value, wanted) from error
            cell = ((moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment) - EPOCH) // MICROSECOND
            if MIN_TIME <= cell <= MAX_TIME:
                return cell
            raise ValueError(f"column '{name}': {value!r} is not within the years 1 to 9999")
        if value is None:
            return NULL_TIME
        if kind is int or kind is float:
            scaled = value * 1_000_000  # type: ignore[operator]
            if MIN_TIME <= scaled <= MAX_TIME:
                return round(scaled)
            raise ValueError(f"column '{name}': {_shown(value)} seconds since 1970 is not within the years 1 to 9999")
        raise _unfit(name, value, wanted)

    return convert


def _date(name: str) -> Converter:
    def convert(value: object) -> int:
        if type(value) is str:
            try:
                return (date.fromisoformat(value).toordinal() - EPOCH_DAY) * DAY
            except ValueError as error:
                raise _unfit(name, value, "a date such as 2024-02-29") from error
        if value is None:
            return NULL_TIME
        raise _unfit(name, value, "a date such as 2024-02-29")

    return convert


def _unfit(name: str, value: object, wanted: str) -> ValueError:
    return ValueError(f"column '{name}' takes {wanted}, not {_shown(value)}")


def _infinite(name: str, value: object) -> ValueError:
    return ValueError(f"column '{name}': {value} is not a number, send null if it is unknown")


def _inexact(name: str, value: object) -> ValueError:
    return ValueError(f"column '{name}': {_shown(value)} is beyond 2**53, up to which integers are exact")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


_CONVERTERS: dict[ColumnType, Callable[[str], Converter]] = {
    ColumnType.INT64: _integer,
    ColumnType.FLOAT64: _number,
    ColumnType.STRING: _string,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.TIMESTAMP: _timestamp,
    ColumnType.DATE: _date,
}
DTYPES: dict[ColumnType, type[np.generic]] = {
    ColumnType.INT64: np.float64,
    ColumnType.FLOAT64: np.float64,
    ColumnType.STRING: np.object_,
    ColumnType.BOOLEAN: np.float64,
    ColumnType.TIMESTAMP: np.int64,
    ColumnType.DATE: np.int64,
}
