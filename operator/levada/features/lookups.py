"""Look-ups of another feature set's rows, defined once and carried out twice: as SQL over many rows, and from memory.

Both find the same row of the version that is looked up:

- by key: its newest row, or its only one where the version has no time;
- by key and time: the newest row that is not after `as_of`, and not before `as_of` less the tolerance.

A key with a null in it finds nothing, nor does a null time; rows whose key or time is null are never found. Of rows
with the same key and time the last in the version's order is taken. What is not found is null in every column. The rows
of a version are ordered by time, so of the rows of a key the last one is the newest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from levada.artifacts import LookupSpec
from levada.features.tensors import to_tensor
from levada.features.types import DAY, NULL_STRING, NULL_TIME, ColumnType

ROW = "levada_row"  # column of a looked-up relation with the row's number in its version

Cell = float | int | str
Key = tuple[Cell, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)


def tolerance_microseconds(spec: LookupSpec) -> int | None:
    """How old a row may be that is found."""
    return None if spec.tolerance_seconds is None else round(spec.tolerance_seconds * 1_000_000)


# --- as SQL ---------------------------------------------------------------------------------------------------------


def lookup_sql(rows: str, lookups: Sequence[tuple[LookupSpec, str]]) -> str:
    """A SELECT of each row of the relation `rows` once, with the columns of all lookups behind its own.

    Each lookup comes with the relation that holds the rows of its version: their columns, and `ROW`. Relations are
    written as SQL names them. Without lookups it is a SELECT of `rows` as they are. The order of rows is not kept.
    """
    # As-of lookups are made once for each key and time that occurs: there are often far fewer of them than rows, and
    # the join that sorts them then carries no other columns.
    once = "MATERIALIZED" if any(spec.as_of is not None for spec, _ in lookups) else ""
    steps = [f"rows_in AS {once} (SELECT * FROM {rows})"]
    columns, joins = ["rows_in.*"], []
    for number, (spec, relation) in enumerate(lookups):
        found = f"found_{number}"
        steps += [f"index_{number} AS ({_index(spec, relation)})"]
        if spec.as_of is not None:
            steps += [f"asked_{number} AS ({_asked(spec)})"]
        steps += [f"{found} AS ({_found(spec, relation, number)})"]
        columns += [f"{found}.{quote(column.name)}" for column in spec.columns]
        matches = [f"rows_in.{quote(name)} = {found}.key_{i}" for i, name in enumerate(spec.on)]
        if spec.as_of is not None:
            matches.append(f"rows_in.{quote(spec.as_of)} = {found}.as_of")
        joins.append(f"LEFT JOIN {found} ON {' AND '.join(matches)}")
    return f"WITH {', '.join(steps)} SELECT {', '.join(columns)} FROM rows_in {' '.join(joins)}"


def repeated_keys_sql(spec: LookupSpec, relation: str) -> str:
    """A SELECT of the keys that stand in more than one row of a version without a time: the keys, and in how many rows
    each is; most frequent first."""
    keys = ", ".join(map(quote, spec.keys))
    return (
        f"SELECT {keys}, count(*) AS {ROW} FROM {relation} WHERE {_present(spec.keys)} "
        f"GROUP BY ALL HAVING count(*) > 1 ORDER BY {ROW} DESC, {keys}"
    )


def quote(name: str) -> str:
    """A name as SQL writes it whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _index(spec: LookupSpec, relation: str) -> str:
    """The rows that can be found: key_0 …, time (for as-of lookups) and row."""
    keys = ", ".join(f"{quote(name)} AS key_{i}" for i, name in enumerate(spec.keys))
    needed = [*spec.keys, *([spec.timestamp] if spec.timestamp is not None else [])]
    time = f", {quote(spec.timestamp)}::TIMESTAMP AS time" if spec.as_of is not None and spec.timestamp else ""
    return f"SELECT {keys}{time}, max({ROW}) AS row FROM {relation} WHERE {_present(needed)} GROUP BY ALL"


def _asked(spec: LookupSpec) -> str:
    """The keys and times that occur: key_0 …, as_of."""
    assert spec.as_of is not None
    keys = ", ".join(f"{quote(name)} AS key_{i}" for i, name in enumerate(spec.on))
    return (
        f"SELECT DISTINCT {keys}, {quote(spec.as_of)}::TIMESTAMP AS as_of FROM rows_in "
        f"WHERE {_present([*spec.on, spec.as_of])}"
    )


def _found(spec: LookupSpec, relation: str, number: int) -> str:
    """What is found: key_0 …, as_of (for as-of lookups) and the columns."""
    values = ", ".join(f"version.{quote(column.source)} AS {quote(column.name)}" for column in spec.columns)
    keys = ", ".join(f"{'found' if spec.as_of is None else 'asked'}.key_{i}" for i in range(len(spec.keys)))
    if spec.as_of is None:
        version = f"JOIN {relation} AS version ON version.{ROW} = found.row"
        return f"SELECT {keys}, {values} FROM index_{number} AS found {version}"
    matches = " AND ".join(f"asked.key_{i} = found.key_{i}" for i in range(len(spec.keys)))
    limit = tolerance_microseconds(spec)
    recent = "" if limit is None else f" WHERE found.time >= asked.as_of - to_microseconds({limit})"
    return (
        f"SELECT {keys}, asked.as_of, {values} FROM asked_{number} AS asked "
        f"ASOF JOIN index_{number} AS found ON {matches} AND asked.as_of >= found.time "
        f"JOIN {relation} AS version ON version.{ROW} = found.row{recent}"
    )


def _present(names: Iterable[str]) -> str:
    return " AND ".join(f"{quote(name)} IS NOT NULL" for name in names)


# --- from memory ----------------------------------------------------------------------------------------------------


class LookupTable:
    """The rows of a version, and of the online store behind it, for finding one at a time.

    Cells and keys are as they stand in ONNX tensors (types.py): numbers as floats (or ints), times as microseconds,
    nulls as their marks. Threads may find rows while one thread adds some.
    """

    def __init__(self, spec: LookupSpec) -> None:
        self.nulls: tuple[Cell, ...] = tuple(null_cell(column.type) for column in spec.columns)
        """What is found where nothing is."""
        self._spec = spec
        self._by_time = spec.as_of is not None
        limit = tolerance_microseconds(spec)
        self._tolerance: float = float("inf") if limit is None else limit
        self._rows: dict[Key, tuple[list[int], list[tuple[Cell, ...]]]] = {}

    def find(self, key: Key, as_of: int | None = None) -> tuple[Cell, ...]:
        """The cells of the row that is found, in the order of the lookup's columns.

        key: cells of `on`; as_of: microseconds since 1970 (UTC), for lookups that have a time.
        """
        history = self._rows.get(key)
        if history is None:
            return self.nulls
        times, rows = history
        if not self._by_time:
            return rows[-1]
        if as_of is None:
            return self.nulls
        last = bisect_right(times, as_of) - 1
        if last < 0 or as_of - times[last] > self._tolerance:
            return self.nulls
        return rows[last]

    def load(self, batches: Iterable[pa.RecordBatch | pa.Table]) -> int:
        """Add rows of the version in its order, with the columns of keys, time and lookup; how many were added.

        Raises ValueError for a column of another type than the specification says.
        """
        spec, count = self._spec, 0
        needed = [*spec.keys, *([spec.timestamp] if spec.timestamp is not None else [])]
        for batch in batches:
            for name in needed:
                if batch.column(name).null_count:
                    batch = batch.filter(pc.is_valid(batch.column(name)))
            cells = (self._cells(batch, name, type) for name, type in zip(spec.keys, spec.key_types, strict=True))
            keys = zip(*cells, strict=True)
            times = [0] * batch.num_rows if spec.timestamp is None else self._times(batch, spec.timestamp)
            rows = zip(*(self._cells(batch, column.source, column.type) for column in spec.columns), strict=True)
            for key, time, row in zip(keys, times, rows, strict=True):
                self._add(key, time, row)
            count += batch.num_rows
        return count

    def upsert(self, key: Sequence[Any], timestamp: int | None, values: Mapping[str, Any]) -> None:
        """Add a row of the online store, or replace the one with the same key and time (microseconds; None where the
        feature set has no time). Key and values are Python's own, as `OnlineRow` has them; missing values are null."""
        cells = tuple(map(to_cell, key, self._spec.key_types))
        if any(value is None for value in key) or (timestamp is None and self._spec.timestamp is not None):
            return
        row = tuple(to_cell(values.get(column.source), column.type) for column in self._spec.columns)
        self._add(cells, timestamp or 0, row)

    def __len__(self) -> int:
        """How many keys have rows."""
        return len(self._rows)

    def _add(self, key: Key, time: int, row: tuple[Cell, ...]) -> None:
        """Every change is seen at once or not at all by a thread that is finding."""
        history = self._rows.get(key)
        if history is None:
            self._rows[key] = [time], [row]
            return
        times, rows = history
        if not self._by_time:
            if time >= times[0]:
                self._rows[key] = [time], [row]
            return
        if time > times[-1]:
            rows.append(row)  # before its time: who finds the time finds the row
            times.append(time)
            return
        place = bisect_right(times, time)
        if place and times[place - 1] == time:
            rows[place - 1] = row
        else:
            self._rows[key] = [*times[:place], time, *times[place:]], [*rows[:place], row, *rows[place:]]

    def _cells(self, batch: pa.RecordBatch | pa.Table, name: str, type: ColumnType) -> list[Cell]:
        cells: list[Cell] = to_tensor(batch.column(name), type, name).reshape(-1).tolist()
        return cells

    def _times(self, batch: pa.RecordBatch | pa.Table, name: str) -> list[int]:
        column = batch.column(name)
        type = ColumnType.DATE if pa.types.is_date(column.type) else ColumnType.TIMESTAMP
        times: list[int] = to_tensor(column, type, name).reshape(-1).tolist()
        return times


def null_cell(type: ColumnType) -> Cell:
    """How a null stands in a tensor of this type."""
    if type is ColumnType.STRING:
        return NULL_STRING
    return NULL_TIME if type.is_temporal else float("nan")


def to_cell(value: Any, type: ColumnType) -> Cell:
    """A value of Python's own (datetime, date, str, bool, int, float, None) as a cell; times without a zone are UTC."""
    if value is None:
        return null_cell(type)
    if type is ColumnType.STRING:
        return str(value)
    if isinstance(value, datetime):
        return ((value.replace(tzinfo=UTC) if value.tzinfo is None else value) - _EPOCH) // _MICROSECOND
    if isinstance(value, date):
        return (value.toordinal() - _EPOCH_DAY) * DAY
    return int(value) if type.is_temporal else float(value)
