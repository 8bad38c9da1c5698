"""Arrow columns to tensors and back."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.features.cells import converter
from levada.features.tensors import ARROW_TYPES, from_tensor, to_tensor
from levada.features.types import DAY, MAX_TIME, MIN_TIME, NULL_STRING, NULL_TIME, ColumnType

INT64, FLOAT64, STRING = ColumnType.INT64, ColumnType.FLOAT64, ColumnType.STRING
BOOLEAN, TIMESTAMP, DATE = ColumnType.BOOLEAN, ColumnType.TIMESTAMP, ColumnType.DATE
ROUND_TRIPS: dict[ColumnType, st.SearchStrategy[Any]] = {
    INT64: st.integers(-(2**53), 2**53),
    FLOAT64: st.floats(allow_nan=False),
    STRING: st.text(st.characters(codec="utf-8")).filter(lambda text: text != NULL_STRING),
    BOOLEAN: st.booleans(),
    TIMESTAMP: st.datetimes(),
    DATE: st.dates(),
}


@pytest.mark.parametrize("column_type", ColumnType)
def test_column_comes_back_as_it_went(column_type: ColumnType) -> None:
    @settings(derandomize=True, max_examples=100, database=None, deadline=None)
    @given(st.lists(st.none() | ROUND_TRIPS[column_type]))
    def round_trip(values: list[Any]) -> None:
        column = pa.array(values, ARROW_TYPES[column_type])
        tensor = to_tensor(column, column_type)
        assert tensor.shape == (len(values), 1)
        assert from_tensor(tensor, column_type).equals(column)

    round_trip()


@pytest.mark.parametrize("column_type", ColumnType)
@pytest.mark.parametrize("shape", ["slice", "chunks", "dictionary", "no chunk", "all null", "null type"])
def test_layout_of_a_column_makes_no_difference(column_type: ColumnType, shape: str) -> None:
    values = {
        INT64: [1, None, -3, 4],
        FLOAT64: [0.5, None, -0.25, 1e300],
        STRING: ["a", None, "", "é"],
        BOOLEAN: [True, None, False, True],
        TIMESTAMP: [
            datetime.fromisoformat("1969-12-31T23:59:59.999999"),
            None,
            *[datetime.fromisoformat("2024-02-29")] * 2,
        ],
        DATE: [date(1969, 12, 31), None, date(2024, 2, 29), date(1, 1, 1)],
    }[column_type]
    column = pa.array(values, ARROW_TYPES[column_type])
    plain = to_tensor(column, column_type).ravel().tolist()
    empty: list[Any] = []
    given_and_expected: dict[str, tuple[Any, list[Any]]] = {
        "slice": (column.slice(1, 2), plain[1:3]),
        "chunks": (pa.chunked_array([column.slice(0, 1), column.slice(1)]), plain),
        "dictionary": (column.dictionary_encode(), plain),
        "no chunk": (pa.chunked_array([], column.type), empty),
        "all null": (pa.array([None, None], column.type), [plain[1]] * 2),
        "null type": (pa.array([None, None]), [plain[1]] * 2),
    }
    shaped, expected = given_and_expected[shape]
    np.testing.assert_array_equal(to_tensor(shaped, column_type).ravel().tolist(), expected)


@pytest.mark.parametrize(
    ("column", "column_type", "cells"),
    [
        (pa.array([1, None], pa.int8()), FLOAT64, [1, math.nan]),
        (pa.array([2**32 - 1], pa.uint32()), INT64, [2**32 - 1]),
        (pa.array([0.5, None], pa.float32()), FLOAT64, [0.5, math.nan]),
        (pa.array([2.0, None, math.nan]), INT64, [2, math.nan, math.nan]),
        (pa.array([math.inf, -math.inf]), FLOAT64, [math.inf, -math.inf]),
        (pa.array(["a", None], pa.large_string()), STRING, ["a", NULL_STRING]),
        (pa.array(["a", None], pa.string_view()), STRING, ["a", NULL_STRING]),
        (pa.array([1, None], pa.timestamp("s")), TIMESTAMP, [1_000_000, NULL_TIME]),
        (pa.array([-1, None], pa.timestamp("ms")), TIMESTAMP, [-1000, NULL_TIME]),
        (pa.array([-1, None], pa.timestamp("ns")), TIMESTAMP, [-1, NULL_TIME]),
        (pa.array([5], pa.timestamp("us", tz="Europe/Berlin")), TIMESTAMP, [5]),
        (pa.array([-1, None], pa.date32()), TIMESTAMP, [-DAY, NULL_TIME]),
        (pa.array([86_400_000, None], pa.date64()), DATE, [DAY, NULL_TIME]),
    ],
)
def test_other_arrow_types_are_taken_for_what_they_hold(
    column: pa.Array, column_type: ColumnType, cells: list[Any]
) -> None:
    np.testing.assert_array_equal(to_tensor(column, column_type).ravel().tolist(), cells)


@pytest.mark.parametrize("kind", [pa.decimal128(5, 2), pa.decimal32(5, 2), pa.decimal64(5, 2), pa.decimal256(5, 2)])
def test_prep7_decimals_become_the_doubles_that_their_digits_mean_in_a_request(kind: pa.DataType) -> None:
    digits = [Decimal(n).scaleb(-2) for n in range(-500, 500)]
    column = pa.array([None, *digits, None], kind).slice(1)
    convert = converter(FLOAT64, "c")
    expected = [convert(float(value)) for value in digits]
    np.testing.assert_array_equal(to_tensor(column, FLOAT64).ravel().tolist(), [*expected, math.nan])


def test_decimals_of_many_digits_become_the_nearest_doubles() -> None:
    digits = ["12345678901234567890.123456789", "-0.1", "99999999999999999999999999999.999999999", "0.000000001"]
    column = pa.array([Decimal(text) for text in digits], pa.decimal128(38, 9))
    assert to_tensor(column, FLOAT64).ravel().tolist() == [float(text) for text in digits]


@pytest.mark.parametrize(
    ("column", "column_type", "sentence"),
    [
        (pa.array([1, 2**53 + 1]), INT64, "column 'c' has 9007199254740993, which is beyond 2**53"),
        (pa.array([-(2**60)]), FLOAT64, "column 'c' has -1152921504606846976, which is beyond 2**53"),
        (pa.array([2**64 - 1], pa.uint64()), INT64, "column 'c' has 18446744073709551615, which is beyond 2**53"),
        (pa.array([1.0, None, 2.5]), INT64, "column 'c' is of integers, but has 2.5 in row 3"),
        (pa.array([math.inf]), INT64, "column 'c' is of integers, but has inf in row 1"),
        (pa.array([Decimal("1.5")]), INT64, "column 'c' is of integers, but has 1.5 in row 1"),
        (pa.array(["1"]), INT64, "column 'c' is of Arrow's type string, which is no int64"),
        (pa.array([1]), STRING, "column 'c' is of Arrow's type int64, which is no string"),
        (pa.array([b"x"]), STRING, "column 'c' is of Arrow's type binary, which is no string"),
        (pa.array([1]), BOOLEAN, "column 'c' is of Arrow's type int64, which is no boolean"),
        (pa.array([True]), FLOAT64, "column 'c' is of Arrow's type bool, which is no float64"),
        (pa.array([1]), TIMESTAMP, "column 'c' is of Arrow's type int64, which is no timestamp"),
        (pa.array([1], pa.timestamp("us")), DATE, "column 'c' is of Arrow's type timestamp[us], which is no date"),
        (
            pa.array([MIN_TIME - 1], pa.timestamp("us")),
            TIMESTAMP,
            "column 'c' has times outside of the years 1 to 9999",
        ),
        (pa.array([2**62], pa.timestamp("s")), TIMESTAMP, "column 'c' has times outside of the years 1 to 9999"),
        (pa.array([MAX_TIME // DAY + 1], pa.date32()), DATE, "column 'c' has times outside of the years 1 to 9999"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(column: pa.Array, column_type: ColumnType, sentence: str) -> None:
    with pytest.raises(ValueError, match="column 'c'") as caught:
        to_tensor(column, column_type, "c")
    assert str(caught.value).startswith(sentence)


def test_doubles_and_times_without_nulls_are_not_copied() -> None:
    for column, column_type in ((pa.array([1.5, 2.5]), FLOAT64), (pa.array([1, 2], pa.timestamp("us")), TIMESTAMP)):
        tensor = to_tensor(column, column_type)
        assert tensor.__array_interface__["data"][0] == column.buffers()[1].address


def test_bounds_of_time_are_the_years_1_and_9999() -> None:
    moments = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
    assert to_tensor(pa.array(moments, pa.timestamp("us")), TIMESTAMP).ravel().tolist() == [MIN_TIME, MAX_TIME]


def test_a_whole_number_comes_back_without_a_negative_zero() -> None:
    assert from_tensor(np.array([[-0.0], [3.0]]), INT64).to_pylist() == [0, 3]
