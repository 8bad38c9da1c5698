"""JSON values to cells and tensors."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.features.cells import DTYPES, converter
from levada.features.tensors import ARROW_TYPES, to_tensor
from levada.features.types import DAY, MAX_TIME, MIN_TIME, NULL_STRING, NULL_TIME, ColumnType

INT64, FLOAT64, STRING = ColumnType.INT64, ColumnType.FLOAT64, ColumnType.STRING
BOOLEAN, TIMESTAMP, DATE = ColumnType.BOOLEAN, ColumnType.TIMESTAMP, ColumnType.DATE
LEAP = 1_709_212_455_000_000  # 2024-02-29T13:14:15Z


@pytest.mark.parametrize(
    ("value", "column_type", "cell"),
    [
        (3, INT64, 3.0),
        (-0.0, INT64, 0.0),
        (3.0, INT64, 3.0),
        (2**53, INT64, 2.0**53),
        (3, FLOAT64, 3.0),
        (-1.5e300, FLOAT64, -1.5e300),
        (True, BOOLEAN, 1.0),
        (False, BOOLEAN, 0.0),
        ("", STRING, ""),
        ("日本", STRING, "日本"),
        ("2024-02-29T13:14:15Z", TIMESTAMP, LEAP),
        ("2024-02-29 13:14:15", TIMESTAMP, LEAP),
        ("2024-02-29T15:14:15.000001+02:00", TIMESTAMP, LEAP + 1),
        ("1969-12-31T23:59:59.999999Z", TIMESTAMP, -1),
        ("2024-02-29", TIMESTAMP, LEAP // DAY * DAY),
        (1_709_212_455, TIMESTAMP, LEAP),
        (1_709_212_455.123456, TIMESTAMP, LEAP + 123_456),
        (-0.000001, TIMESTAMP, -1),
        ("0001-01-01", TIMESTAMP, MIN_TIME),
        ("9999-12-31T23:59:59.999999", TIMESTAMP, MAX_TIME),
        ("2024-02-29", DATE, LEAP // DAY * DAY),
        ("1969-12-31", DATE, -DAY),
        (None, STRING, NULL_STRING),
        (None, TIMESTAMP, NULL_TIME),
        (None, DATE, NULL_TIME),
    ],
)
def test_value_becomes_a_cell(value: object, column_type: ColumnType, cell: object) -> None:
    made = converter(column_type, "c")(value)
    assert (made, type(made), str(made)) == (cell, type(cell), str(cell))


@pytest.mark.parametrize("column_type", [INT64, FLOAT64, BOOLEAN])
def test_null_is_nan_where_cells_are_doubles(column_type: ColumnType) -> None:
    made = converter(column_type, "c")(None)
    assert isinstance(made, float)
    assert math.isnan(made)


@pytest.mark.parametrize(
    ("value", "column_type", "sentence"),
    [
        ("3", INT64, "column 'c' takes a whole number, not '3'"),
        (True, INT64, "column 'c' takes a whole number, not True"),
        (2.5, INT64, "column 'c': 2.5 is not a whole number"),
        (2**53 + 1, INT64, "column 'c': 9007199254740993 is beyond 2**53, up to which integers are exact"),
        (1e300, INT64, "column 'c': 1e+300 is beyond 2**53, up to which integers are exact"),
        pytest.param(10**400, INT64, "column 'c': 1000", id="400 digits"),
        pytest.param(10**400, FLOAT64, "column 'c': 1000", id="400 digits of a double"),
        (math.nan, INT64, "column 'c': nan is not a number, send null if it is unknown"),
        (math.nan, FLOAT64, "column 'c': nan is not a number, send null if it is unknown"),
        (math.inf, FLOAT64, "column 'c': inf is not a number, send null if it is unknown"),
        (-(2**53) - 1, FLOAT64, "column 'c': -9007199254740993 is beyond 2**53, up to which integers are exact"),
        (False, FLOAT64, "column 'c' takes a number, not False"),
        ([1], FLOAT64, "column 'c' takes a number, not [1]"),
        (1, BOOLEAN, "column 'c' takes true or false, not 1"),
        ("true", BOOLEAN, "column 'c' takes true or false, not 'true'"),
        (5, STRING, "column 'c' takes a string, not 5"),
        ({"a": "b" * 100}, STRING, "column 'c' takes a string, not {'a': 'bbbb"),
        ("\ud800", STRING, "column 'c': the text is not valid Unicode"),
        ("noon", TIMESTAMP, "column 'c' takes a time such as 2024-02-29T13:14:15Z, or seconds since 1970, not 'noon'"),
        ("2023-02-29", TIMESTAMP, "column 'c' takes a time"),
        (True, TIMESTAMP, "column 'c' takes a time"),
        (
            1_709_212_455_000,
            TIMESTAMP,
            "column 'c': 1709212455000 seconds since 1970 is not within the years 1 to 9999",
        ),
        (math.nan, TIMESTAMP, "column 'c': nan seconds since 1970 is not within the years 1 to 9999"),
        (
            "0001-01-01T00:00:00+02:00",
            TIMESTAMP,
            "column 'c': '0001-01-01T00:00:00+02:00' is not within the years 1 to 9999",
        ),
        ("2024-02-29T10:00", DATE, "column 'c' takes a date such as 2024-02-29, not '2024-02-29T10:00'"),
        (19_782, DATE, "column 'c' takes a date such as 2024-02-29, not 19782"),
    ],
)
def test_value_that_does_not_fit_is_refused_in_one_sentence(
    value: object, column_type: ColumnType, sentence: str
) -> None:
    with pytest.raises(ValueError, match="column 'c'") as caught:
        converter(column_type, "c")(value)
    assert str(caught.value).startswith(sentence)
    assert len(str(caught.value)) < 200


JSON: dict[ColumnType, st.SearchStrategy[tuple[object, object]]] = {
    INT64: st.integers(-(2**53), 2**53).map(lambda v: (v, v)),
    FLOAT64: st.floats(allow_nan=False, allow_infinity=False).map(lambda v: (v, v)),
    STRING: st.text(st.characters(codec="utf-8")).map(lambda v: (v, v)),
    BOOLEAN: st.booleans().map(lambda v: (v, v)),
    TIMESTAMP: st.datetimes(timezones=st.just(UTC)).map(lambda v: (v, v.isoformat())),
    DATE: st.dates().map(lambda v: (v, v.isoformat())),
}


@pytest.mark.parametrize("column_type", ColumnType)
def test_prep7_request_and_stored_column_become_the_same_tensor(column_type: ColumnType) -> None:
    @settings(derandomize=True, max_examples=100, database=None, deadline=None)
    @given(st.lists(st.none().map(lambda v: (v, v)) | JSON[column_type], min_size=1))
    def same(pairs: list[tuple[Any, Any]]) -> None:
        stored = [value.replace(tzinfo=None) if isinstance(value, datetime) else value for value, _ in pairs]
        rows: Any = json.loads(json.dumps([{"c": sent} for _, sent in pairs]))
        convert = converter(column_type, "c")
        ours = np.array([convert(row["c"]) for row in rows], DTYPES[column_type]).reshape(-1, 1)
        theirs = to_tensor(pa.array(stored, ARROW_TYPES[column_type]), column_type)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)

    same()


def test_date_before_1970_counts_from_midnight() -> None:
    assert converter(DATE, "c")("0001-01-01") == (date(1, 1, 1) - date(1970, 1, 1)).days * DAY
