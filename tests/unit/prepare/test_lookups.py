"""Look-ups: SQL over many rows and the table in memory find the same, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levada.artifacts import LookupColumn, LookupSpec
from levada.features.lookups import ROW, LookupTable, lookup_sql, null_cell, repeated_keys_sql, to_cell
from levada.features.tensors import ARROW_TYPES, to_tensor
from levada.features.types import NULL_STRING, NULL_TIME, ColumnType

START = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)
# Few values, so that keys meet, times tie and tolerances are met to the microsecond.
VALUES: dict[ColumnType, list[Any]] = {
    ColumnType.INT64: [0, 1, -1, 2**53],
    ColumnType.FLOAT64: [0.0, -0.0, 1.5, float("inf")],
    ColumnType.STRING: ["", "a", "b", "ü"],
    ColumnType.BOOLEAN: [False, True],
    ColumnType.DATE: [date(2024, 1, 1), date(1969, 12, 31)],
    ColumnType.TIMESTAMP: [START, START + timedelta(microseconds=1), START - timedelta(days=23_000)],
}
TIMES = [START + timedelta(microseconds=n) for n in (0, 1, 2, 999_999, 1_000_000, 1_000_001, 3_600_000_000)]


@dataclass(frozen=True)
class Case:
    spec: LookupSpec
    version: pa.Table
    rows: pa.Table


def table(columns: Mapping[str, tuple[ColumnType, Sequence[Any]]]) -> pa.Table:
    return pa.table({name: pa.array(values, ARROW_TYPES[type]) for name, (type, values) in columns.items()})


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A version in the order of its rows, a look-up of it, and rows that ask; nulls everywhere."""
    key_types = draw(st.lists(st.sampled_from(ColumnType), min_size=1, max_size=2))
    has_time = draw(st.booleans())
    by_time = has_time and draw(st.booleans())
    time_type = draw(st.sampled_from([ColumnType.TIMESTAMP, ColumnType.DATE])) if has_time else None
    tolerance = draw(st.sampled_from([None, 0.0, 1e-6, 1.0, 86_400.0])) if by_time else None
    keys = [st.one_of(st.none(), st.sampled_from(VALUES[type])) for type in key_types]
    times = st.one_of(st.none(), st.sampled_from(VALUES[ColumnType.DATE] if time_type is ColumnType.DATE else TIMES))
    rows = draw(st.lists(st.tuples(*keys, times), max_size=12))
    if has_time:
        rows.sort(key=lambda row: (row[-1] is None, row[-1] if row[-1] is not None else 0))
    else:
        rows = list({row[:-1]: row for row in rows}.values())  # such versions have a row a key
    asks = draw(st.lists(st.tuples(*keys, st.one_of(st.none(), st.sampled_from(TIMES))), min_size=1, max_size=12))
    numbers = range(len(rows))
    version: dict[str, tuple[ColumnType, Sequence[Any]]] = {
        **{f"key{i}": (type, [row[i] for row in rows]) for i, type in enumerate(key_types)},
        "number": (ColumnType.FLOAT64, [None if n % 5 == 4 else float(n) for n in numbers]),
        "text": (ColumnType.STRING, [None if n % 7 == 6 else str(n) for n in numbers]),
        "moment": (ColumnType.TIMESTAMP, [START + timedelta(days=n) for n in numbers]),
    }
    if time_type is not None:
        version["time"] = (time_type, [row[-1] for row in rows])
    asking = {f"on{i}": (type, [ask[i] for ask in asks]) for i, type in enumerate(key_types)}
    asking["at"] = (ColumnType.TIMESTAMP, [ask[-1] for ask in asks])
    spec = LookupSpec(
        feature_set="other",
        namespace="default",
        version="features-0",
        prefix="",
        on=[f"on{i}" for i in range(len(key_types))],
        keys=[f"key{i}" for i in range(len(key_types))],
        key_types=key_types,
        as_of="at" if by_time else None,
        timestamp="time" if has_time else None,
        tolerance_seconds=tolerance,
        columns=[LookupColumn(source=s, name=f"other_{s}", type=version[s][0]) for s in ("number", "text", "moment")],
    )
    return Case(spec, table(version), table(asking))


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET threads = 1")
        yield opened


def by_sql(connection: duckdb.DuckDBPyConnection, case: Case) -> list[tuple[Any, ...]]:
    """What each row finds, as cells, in the order of the rows."""
    numbered = case.rows.append_column("id", pa.array(range(case.rows.num_rows), pa.int64()))
    version = case.version.append_column(ROW, pa.array(range(case.version.num_rows), pa.int64()))
    connection.register("asking", numbered)
    connection.register("version", version)
    found = connection.sql(f"SELECT * FROM ({lookup_sql('asking', [(case.spec, 'version')])}) ORDER BY id")
    result = found.to_arrow_table()
    assert result.column_names == [*numbered.column_names, *(column.name for column in case.spec.columns)]
    assert result.select(numbered.column_names).equals(numbered), "rows are neither lost nor multiplied"
    return cells(result, [(column.name, column.type) for column in case.spec.columns])


def from_memory(lookup: LookupTable, case: Case) -> list[tuple[Any, ...]]:
    keys = cells(case.rows, list(zip(case.spec.on, case.spec.key_types, strict=True)))
    times = cells(case.rows, [("at", ColumnType.TIMESTAMP)])
    return [
        lookup.find(key, None if case.spec.as_of is None else time) for key, (time,) in zip(keys, times, strict=True)
    ]


def cells(rows: pa.Table, columns: Sequence[tuple[str, ColumnType]]) -> list[tuple[Any, ...]]:
    tensors = [to_tensor(rows.column(name), type, name).reshape(-1).tolist() for name, type in columns]
    return list(zip(*tensors, strict=True))


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases(), pieces=st.integers(1, 3))
def test_prep7_sql_and_memory_find_the_same_row_by_row(
    connection: duckdb.DuckDBPyConnection, case: Case, pieces: int
) -> None:
    expected = by_sql(connection, case)
    loaded, streamed = LookupTable(case.spec), LookupTable(case.spec)
    size = case.version.num_rows // pieces + 1
    loaded.load(case.version.slice(start, size) for start in range(0, case.version.num_rows, size))
    for row in case.version.to_pylist():
        time = row.get("time")
        streamed.upsert(
            [row[name] for name in case.spec.keys],
            None if time is None else int(to_cell(time, ColumnType.TIMESTAMP)),
            row,
        )

    assert repr(from_memory(loaded, case)) == repr(expected)
    assert repr(from_memory(streamed, case)) == repr(expected)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(case=cases(), order=st.randoms(use_true_random=False))
def test_prep6_rows_that_come_in_any_order_end_in_the_same_table(case: Case, order: Any) -> None:
    unique: dict[tuple[Any, ...], dict[str, Any]] = {
        (*(row[name] for name in case.spec.keys), row.get("time")): row for row in case.version.to_pylist()
    }
    rows = list(unique.values())
    tables = []
    for _ in range(2):
        lookup = LookupTable(case.spec)
        for row in rows:
            time = row.get("time")
            at = None if time is None else int(to_cell(time, ColumnType.TIMESTAMP))
            lookup.upsert([row[name] for name in case.spec.keys], at, row)
        tables.append(repr(from_memory(lookup, case)))
        order.shuffle(rows)

    assert tables[0] == tables[1]


def spec(**more: Any) -> LookupSpec:
    fields: dict[str, Any] = {
        "feature_set": "weather",
        "namespace": "default",
        "version": "features-0",
        "prefix": "",
        "on": ["origin"],
        "keys": ["origin"],
        "key_types": [ColumnType.STRING],
        "columns": [LookupColumn(source="temp", name="weather_temp", type=ColumnType.FLOAT64)],
    }
    return LookupSpec(**(fields | more))


def test_prep1_the_newest_row_that_is_not_after_the_time_is_taken_within_the_tolerance() -> None:
    lookup = LookupTable(spec(as_of="at", timestamp="time", tolerance_seconds=2.0))
    for second, temp in ((10, 1.0), (12, 2.0), (20, 3.0)):
        lookup.upsert(["EWR"], second * 1_000_000, {"temp": temp})

    def at(second: float) -> str:
        return repr(lookup.find(("EWR",), int(second * 1_000_000)))

    assert [at(second) for second in (9.999999, 10, 11.999999, 12, 14, 14.000001, 20)] == [
        "(nan,)",
        "(1.0,)",
        "(1.0,)",
        "(2.0,)",
        "(2.0,)",
        "(nan,)",
        "(3.0,)",
    ]


def test_prep6_a_row_with_a_known_key_and_time_is_replaced() -> None:
    lookup = LookupTable(spec(as_of="at", timestamp="time"))
    for temp in (1.0, 2.0):
        lookup.upsert(["EWR"], 10, {"temp": temp})
    lookup.upsert(["EWR"], 5, {"temp": 0.5})
    lookup.upsert(["EWR"], 10, {"temp": 4.0})

    assert lookup.find(("EWR",), 10) == (4.0,)
    assert lookup.find(("EWR",), 9) == (0.5,)
    assert len(lookup) == 1


def test_prep6_an_older_row_does_not_replace_the_newest_where_no_time_is_asked() -> None:
    lookup = LookupTable(spec(timestamp="time"))
    for time, temp in ((10, 1.0), (5, 2.0), (10, 3.0), (9, 4.0)):
        lookup.upsert(["EWR"], time, {"temp": temp})

    assert lookup.find(("EWR",)) == (3.0,)


def test_prep1_nothing_found_is_null_in_every_column_of_its_type() -> None:
    columns = [LookupColumn(source=type.value, name=type.value, type=type) for type in ColumnType]
    lookup = LookupTable(spec(columns=columns))
    lookup.upsert(["EWR"], None, {})

    expected = repr(tuple(null_cell(type) for type in ColumnType))
    assert repr(lookup.find(("LGA",))) == repr(lookup.find(("EWR",))) == expected
    assert (NULL_STRING in lookup.nulls, NULL_TIME in lookup.nulls) == (True, True)


def test_prep1_a_null_in_key_or_time_finds_nothing_and_is_never_found() -> None:
    lookup = LookupTable(spec(as_of="at", timestamp="time"))
    lookup.upsert([None], 10, {"temp": 1.0})
    lookup.upsert(["EWR"], None, {"temp": 1.0})

    assert len(lookup) == 0
    lookup.upsert(["EWR"], 10, {"temp": 1.0})
    assert lookup.find((NULL_STRING,), 10) is lookup.nulls
    assert lookup.find(("EWR",), NULL_TIME) is lookup.nulls
    assert lookup.find(("EWR",), None) is lookup.nulls


def test_prep1_cells_of_python_values_are_those_of_arrow_columns() -> None:
    zoned = datetime(2024, 1, 1, 2, tzinfo=UTC)
    for type, values in {**VALUES, ColumnType.TIMESTAMP: [*VALUES[ColumnType.TIMESTAMP], zoned]}.items():
        expected = to_tensor(pa.array(values, ARROW_TYPES[type]), type).reshape(-1).tolist()
        assert [to_cell(value, type) for value in values] == expected


def test_prep1_keys_that_repeat_in_a_version_without_a_time_are_counted(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    connection.register("version", pa.table({"origin": ["a", "b", None, "a", None, "b", "b"], "temp": range(7)}))

    assert connection.sql(repeated_keys_sql(spec(), "version")).fetchall() == [("b", 3), ("a", 2)]


def test_prep1_lookups_of_several_feature_sets_stand_side_by_side(connection: duckdb.DuckDBPyConnection) -> None:
    connection.register("asking", pa.table({"id": [1, 2], "origin": ["a", "b"]}))
    connection.register("version", pa.table({"origin": ["a"], "temp": [1.0], ROW: [0]}))
    again = spec(columns=[LookupColumn(source="temp", name="again", type=ColumnType.FLOAT64)])

    sql = lookup_sql("asking", [(spec(), "version"), (again, "version")])
    assert connection.sql(f"{sql} ORDER BY id").fetchall() == [(1, "a", 1.0, 1.0), (2, "b", None, None)]
    assert connection.sql(f"{lookup_sql('asking', [])} ORDER BY id").fetchall() == [(1, "a"), (2, "b")]
