"""Demands that each row meets or breaks by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from levada.features.types import ColumnType
from levada.methods.formats.base import Rows
from levada.methods.quality.demands import Demand


@dataclass
class Tally:
    """How often a demand was broken in a file, and where first."""

    violations: int = 0
    line: int | None = None
    value: str = ""


def check_rows(rows: Rows, demands: Sequence[Demand], tallies: Sequence[Tally]) -> Rows:
    """Rows after some demands, one after the other: rectified, or set aside; what broke them is added to `tallies`.

    A row that a demand sets aside is not seen by the next. A value with no remedy (null where it must not be) costs
    the row under `rectify` too.
    """
    for demand, tally in zip(demands, tallies, strict=True):
        array = _array(rows.table[demand.column])
        wrong = violations(demand, array)
        count = pc.sum(wrong).as_py() or 0
        if not count:
            continue
        if not tally.violations:
            first = pc.index(wrong, True).as_py()
            tally.line, tally.value = rows.places([first])[0][0], str(array[first].as_py())
        tally.violations += count
        gone = wrong
        if demand.action == "rectify":
            better = rectified(demand, array, wrong)
            rows = _with_column(rows, demand.column, better)
            gone = pc.and_(wrong, better.is_null())
        if demand.action == "quarantine" or (demand.action == "rectify" and not demand.may_be_null):
            rows = rows.without(gone, demand.column, partial(_why, demand, array))
    return rows


def violations(demand: Demand, array: pa.Array) -> pa.Array:
    """Which values (length N) break a demand; nulls break only notNull."""
    if demand.kind == "notNull":
        return array.is_null()
    if demand.kind == "matches":
        wrong = pc.invert(pc.match_substring_regex(array, rf"\A(?:{demand.value})\z"))
    elif demand.kind == "oneOf":
        wrong = pc.and_(pc.invert(pc.is_in(array, demand.value)), array.is_valid())
    else:
        compare = pc.less if demand.kind == "min" else pc.greater
        wrong = compare(array, pa.scalar(demand.value, array.type))
        if demand.type is ColumnType.FLOAT64:
            wrong = pc.or_(wrong, pc.is_nan(array))
    return wrong.fill_null(False)


def rectified(demand: Demand, array: pa.Array, wrong: pa.Array) -> pa.Array:
    """The values with those that break a demand at the nearest bound, or null where there is none."""
    nothing = pa.scalar(None, array.type)
    if demand.kind not in ("min", "max"):
        return pc.if_else(wrong, nothing, array)
    bounded = pc.if_else(wrong, pa.scalar(demand.value, array.type), array)
    return pc.if_else(pc.is_nan(array), nothing, bounded) if demand.type is ColumnType.FLOAT64 else bounded


def broken(demand: Demand, value: object | None) -> str:
    """Why a row with a value that breaks a demand is set aside, for a person."""
    return f"breaks {demand.text}: {'no value' if value is None else value}"


def _why(demand: Demand, array: pa.Array, position: int) -> str:
    return broken(demand, array[position].as_py())


def without_nulls(rows: Rows, columns: Sequence[str]) -> Rows:
    """Rows without those that have no value in a column that must have one."""
    for column in columns:
        array = rows.table[column]
        if array.null_count:
            rows = rows.without(_array(array.is_null()), column, lambda _: "has no value, and may not be null")
    return rows


def _with_column(rows: Rows, column: str, array: pa.Array) -> Rows:
    i = rows.table.schema.get_field_index(column)
    return replace(rows, table=rows.table.set_column(i, rows.table.schema.field(i), array))


def _array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if column.num_chunks else pa.nulls(0, column.type)
