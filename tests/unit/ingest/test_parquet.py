"""Parquet."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from levada.errors import Stalled
from tests.unit.ingest.reading import at, columns, content, inferred, read, reader

PARQUET = reader("parquet")


def _file(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def test_types_are_those_of_the_file() -> None:
    table = pa.table({
        "i": pa.array([1, None], pa.int16()),
        "u": pa.array([1, 2], pa.uint64()),
        "f": pa.array([1.5, None], pa.float32()),
        "m": pa.array([Decimal("1.25"), None], pa.decimal128(5, 2)),
        "s": pa.array(["x", None]).dictionary_encode(),
        "b": pa.array([True, None]),
        "t": pa.array([datetime(2013, 1, 1, 10, tzinfo=UTC), None], pa.timestamp("ns", "Europe/Lisbon")),
        "w": pa.array([at(2013, 1, 1, 10), None], pa.timestamp("ms")),
        "d": pa.array([date(2013, 1, 1), None], pa.date64()),
        "n": pa.nulls(2),
    })  # fmt: skip
    types = inferred(PARQUET, content(_file(table)))
    assert types == {
        "i": "int64", "u": "int64", "f": "float64", "m": "float64", "s": "string", "b": "boolean",
        "t": "timestamp", "w": "timestamp", "d": "date", "n": None,
    }  # fmt: skip
    schema = columns(**{name: type or "string" for name, type in types.items()})
    rows, bad, places = read(PARQUET, content(_file(table)), schema)
    assert not bad
    assert rows[0] == {
        "i": 1, "u": 1, "f": 1.5, "m": 1.25, "s": "x", "b": True,
        "t": at(2013, 1, 1, 10), "w": at(2013, 1, 1, 10), "d": date(2013, 1, 1), "n": None,
    }  # fmt: skip
    assert set(rows[1].values()) - {2} == {None}
    assert places[1][0] == 2


def test_a_value_that_does_not_fit_costs_its_row() -> None:
    table = pa.table(
        {"a": pa.array(["1", "x", None]), "b": [1.0, 2.0, 3.5], "c": pa.array([1, 2**64 - 1, 3], pa.uint64())}
    )
    rows, bad, _ = read(PARQUET, content(_file(table)), columns(a="int64", b="int64", c="int64"))
    assert rows == [{"a": 1, "b": 1, "c": 1}]
    assert [(row.line, row.column, row.reason) for row in bad] == [
        (2, "a", "'x' is not an int64"),
        (3, "b", "'3.5' is not an int64"),
    ]
    assert '"a": "x"' in bad[0].text


def test_a_column_that_no_type_holds_is_refused_unless_it_is_left_out() -> None:
    data = _file(pa.table({"a": [1], "l": [[1, 2]]}))
    with pytest.raises(Stalled, match="the column 'l' is of type list"):
        inferred(PARQUET, content(data))
    assert read(PARQUET, content(data), columns(a="int64"))[0] == [{"a": 1}]


def test_missing_columns() -> None:
    data = _file(pa.table({"a": [1]}))
    with pytest.raises(Stalled, match=r"data\.csv has no column 'b'"):
        read(PARQUET, content(data), columns(a="int64", b="string"))
    assert read(PARQUET, content(data), columns(a="int64", b="string"), inferred=True)[0] == [{"a": 1, "b": None}]


def test_half_a_file_is_refused() -> None:
    data = _file(pa.table({"a": list(range(1000))}))
    for broken in (data[: len(data) // 2], b"PAR1 and no more", data[:200] + b"\x00" * 1000 + data[1200:]):
        with pytest.raises(Stalled, match=r"f\.parquet is not a whole Parquet file"):
            read(PARQUET, content(broken, "f.parquet"), columns(a="int64"))


def test_columns_that_differ_in_case_only_are_refused() -> None:
    data = _file(pa.table({"a": [1], "A": [2]}))
    with pytest.raises(Stalled, match=r"^data\.csv has the columns 'a' and 'A', which are one for SQL"):
        inferred(PARQUET, content(data))
    rows, _, _ = read(PARQUET, content(data), columns(a="int64"))  # what is not read disturbs nobody
    assert rows == [{"a": 1}]
