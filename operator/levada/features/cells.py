"""JSON values as cells of ONNX input tensors, for requests that come one or a few rows at a time.

`tensors.py` does the same for whole Arrow columns; `types.py` says how values and nulls stand in tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import numpy as np

from levada.features.types import DAY, MAX_INTEGER, MAX_TIME, MIN_TIME, NULL_STRING, NULL_TIME, ColumnType

Cell = float | int | str
Converter = Callable[[object], Cell]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1).toordinal()
MICROSECOND = timedelta(microseconds=1)
INFINITY = math.inf


def converter(column_type: ColumnType, name: str) -> Converter:
    """What turns JSON values (numbers, strings, true, false, null) of one column into cells.

    Times are ISO 8601 texts, UTC unless they say otherwise, or numbers of seconds since 1970; dates are ISO 8601 texts.
    It raises ValueError for a value that does not fit; one sentence names the column and what it takes.
    """
    return _CONVERTERS[column_type](name)


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
            raise ValueError(f"column '{name}': {_shown(value)} is not within the years 1 to 9999")
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
