"""Values of requests as tensors."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.features.types import NULL_STRING, NULL_TIME, ColumnType
from levada.resources.dataset import Column
from levada.serving.columns import RequestColumn
from levada.serving.errors import RequestError


def column(type: ColumnType, nullable: bool = True, accepted: list[str | int | None] | None = None) -> RequestColumn:
    return RequestColumn(Column(name="c", type=type, nullable=nullable), accepted)


@pytest.mark.parametrize(
    ("type", "values", "cells"),
    [
        (ColumnType.FLOAT64, [1.5, -0.25], [1.5, -0.25]),
        (ColumnType.FLOAT64, [1, 2.5, None], [1.0, 2.5, np.nan]),
        (ColumnType.INT64, [1, -(2**53)], [1.0, -(2.0**53)]),
        (ColumnType.INT64, [1.0, None], [1.0, np.nan]),
        (ColumnType.BOOLEAN, [True, False], [1.0, 0.0]),
        (ColumnType.BOOLEAN, [True, None], [1.0, np.nan]),
        (ColumnType.STRING, ["a", "ü\0"], ["a", "ü\0"]),
        (ColumnType.STRING, ["a", None], ["a", NULL_STRING]),
        (ColumnType.TIMESTAMP, ["1970-01-01T00:00:01Z", 2, None], [1_000_000, 2_000_000, NULL_TIME]),
        (ColumnType.TIMESTAMP, ["1970-01-01T01:00:00+01:00", "1970-01-01"], [0, 0]),
        (ColumnType.DATE, ["1970-01-02", None], [86_400_000_000, NULL_TIME]),
    ],
)
def test_score7_json_values_become_the_same_cells_one_by_one_and_as_a_column(
    type: ColumnType, values: list[object], cells: list[object]
) -> None:
    one_by_one = [column(type).scalar(value) for value in values]
    whole = column(type).vector(values, len(values)).tolist()
    np.testing.assert_array_equal(one_by_one, cells)
    np.testing.assert_array_equal(whole, cells)


@pytest.mark.parametrize(
    ("type", "values", "sentence"),
    [
        (ColumnType.FLOAT64, [1.0, "2"], "row 1: column 'c' takes a number, not '2'"),
        (ColumnType.FLOAT64, [1.0, True], "row 1: column 'c' takes a number, not True"),
        (ColumnType.FLOAT64, [[1.0], 2.0], "row 0: column 'c' takes a number, not [1.0]"),
        (ColumnType.INT64, [1, 1.5], "row 1: column 'c': 1.5 is not a whole number"),
        (ColumnType.INT64, [2**53 + 1], "row 0: column 'c': 9007199254740993 is beyond 2**53"),
        (ColumnType.BOOLEAN, [True, 1], "row 1: column 'c' takes true or false, not 1"),
        (ColumnType.STRING, ["a", 3], "row 1: column 'c' takes a string, not 3"),
        (ColumnType.TIMESTAMP, ["1970-01-01", "soon"], "row 1: column 'c' takes a time such as"),
        (ColumnType.DATE, ["yesterday"], "row 0: column 'c' takes a date such as"),
        (ColumnType.DATE, [{}], "row 0: column 'c' takes a date such as"),
    ],
)
def test_score2_a_value_that_does_not_fit_is_refused_with_its_row_and_column(
    type: ColumnType, values: list[object], sentence: str
) -> None:
    with pytest.raises(RequestError) as refused:
        column(type).vector(values, len(values))
    assert refused.value.status == 400
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("absent", [None, NULL_STRING])
def test_score2_a_null_is_refused_where_a_value_is_needed(absent: object) -> None:
    with pytest.raises(RequestError, match="row 1: column 'c' needs a value, but it is null or left out"):
        column(ColumnType.STRING, nullable=False).vector(["a", absent], 2)


def test_score2_a_column_that_is_left_out_is_null_in_every_row() -> None:
    assert column(ColumnType.STRING).vector(None, 2).tolist() == [NULL_STRING, NULL_STRING]


def test_score2_a_category_that_training_has_not_seen_is_refused_where_training_says_so() -> None:
    picky = column(ColumnType.STRING, accepted=["JFK", "LGA"])
    assert picky.vector(["LGA", "JFK"], 2).tolist() == ["LGA", "JFK"]
    with pytest.raises(
        RequestError, match=r"row 1: column 'c' is 'EWR', which training has not seen; it takes: JFK, LGA"
    ):
        picky.vector(["LGA", "EWR"], 2)
    with pytest.raises(RequestError, match="row 0: column 'c' is null, which training has not seen"):
        picky.vector([None], 1)
    assert column(ColumnType.INT64, accepted=[1, None]).vector([None, 1], 2).tolist()[1] == 1.0


def test_score2_a_boolean_may_be_a_category_of_which_training_has_seen_one_value_only() -> None:
    picky = column(ColumnType.BOOLEAN, accepted=[1, None])
    np.testing.assert_array_equal(picky.vector([True, None], 2), [1.0, np.nan])
    assert picky.from_binary("BOOL", memoryview(b"\1\1"), 2).tolist() == [1.0, 1.0]
    sentence = "row 1: column 'c' is false, which training has not seen; it takes: null, true"
    with pytest.raises(RequestError, match=sentence):
        picky.vector([True, False], 2)
    with pytest.raises(RequestError, match=sentence):
        picky.from_binary("BOOL", memoryview(b"\1\0"), 2)


@pytest.mark.parametrize(
    ("type", "datatype", "data", "cells"),
    [
        (ColumnType.FLOAT64, "FP64", struct.pack("<2d", 0.1, float("nan")), [0.1, np.nan]),
        (ColumnType.FLOAT64, "FP32", struct.pack("<2f", 0.5, -2), [0.5, -2.0]),
        (ColumnType.FLOAT64, "FP16", struct.pack("<2e", 0.5, -2), [0.5, -2.0]),
        (ColumnType.FLOAT64, "UINT8", bytes([1, 255]), [1.0, 255.0]),
        (ColumnType.INT64, "INT64", struct.pack("<2q", -1, 2**53), [-1.0, 2.0**53]),
        (ColumnType.INT64, "INT16", struct.pack("<2h", -1, 300), [-1.0, 300.0]),
        (ColumnType.INT64, "FP32", struct.pack("<2f", 3, float("nan")), [3.0, np.nan]),
        (ColumnType.BOOLEAN, "BOOL", b"\1\0", [1.0, 0.0]),
        (ColumnType.STRING, "BYTES", b"\1\0\0\0a\0\0\0\0", ["a", ""]),
        (ColumnType.STRING, "BYTES", b"\2\0\0\0\xc3\xbc\1\0\0\0b", ["ü", "b"]),
        (ColumnType.TIMESTAMP, "INT64", struct.pack("<2q", 1, -1), [1_000_000, -1_000_000]),
        (ColumnType.TIMESTAMP, "FP64", struct.pack("<2d", 0.5, float("nan")), [500_000, NULL_TIME]),
        (ColumnType.DATE, "BYTES", b"\x0a\0\0\x001970-01-02\x0a\0\0\x001970-01-01", [86_400_000_000, 0]),
    ],
)
def test_score7_binary_tensors_become_cells(type: ColumnType, datatype: str, data: bytes, cells: list[object]) -> None:
    array = column(type).from_binary(datatype, memoryview(data), 2)
    np.testing.assert_array_equal(array, cells)
    assert array.dtype == column(type).dtype


def as_bytes(texts: list[str]) -> memoryview:
    """A BYTES tensor."""
    encoded = [text.encode() for text in texts]
    return memoryview(b"".join(struct.pack("<I", len(text)) + text for text in encoded))


characters = st.characters(codec="utf-8", exclude_characters=[NULL_STRING])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 9).flatmap(lambda n: st.lists(st.text(characters, min_size=n, max_size=n), min_size=1)))
def test_score7_texts_of_one_length_and_of_many_come_out_of_a_binary_tensor(texts: list[str]) -> None:
    plain = [text.encode("ascii", "replace").decode() for text in texts]
    for sample in (texts, plain, [*texts, "x" * 200], [*plain, ""], ["\0"] * 3):
        assert column(ColumnType.STRING).from_binary("BYTES", as_bytes(sample), len(sample)).tolist() == sample


def outcome(times: RequestColumn, texts: list[str], as_binary: bool) -> list[int] | str:
    """Cells, or what is wrong."""
    try:
        rows = len(texts)
        cells = times.from_binary("BYTES", as_bytes(texts), rows) if as_binary else times.vector(texts, rows)
    except RequestError as error:
        return error.message
    assert cells.dtype == np.int64
    return [int(cell) for cell in cells]


NO_TIMES = """
0000-01-01T00:00:00Z 0000-12-31 2013-02-29T00:00:00Z 2013-13-01T00:00:00Z 2013-00-01 2013-01-32 2013-04-31T00:00:00
2013-01-01T24:00:00Z 2013-01-01T23:60:00Z 2013-01-01T23:59:60Z +013-01-01T00:00:00Z -013-01-01 2013-1--01
2013-01-01t00:00:00Z 2013-01-01T00:00:00z 2013-01-01T00:00:0Z 2013-W01-1T00:00:00Z 20130101T000000 2013-01-01T00:00+01
2013/01/01 2013-01-01T0:00:000Z NaT 1900-02-29 ----------
""".split()  # noqa: SIM905


@pytest.mark.parametrize("type", [ColumnType.TIMESTAMP, ColumnType.DATE])
@pytest.mark.parametrize("text", [*NO_TIMES, " 013-01-01T00:00:00Z", "2013-01-01 00:00:00", "\0" * 10, NULL_STRING])
def test_score7_odd_times_are_taken_and_refused_in_binary_tensors_as_in_json(type: ColumnType, text: str) -> None:
    for texts in ([text], [text] * 3):
        assert outcome(column(type), texts, as_binary=True) == outcome(column(type), texts, as_binary=False)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=1, max_size=9), st.sampled_from([0, 1, 2, 3]))
def test_score7_times_in_a_binary_tensor_are_those_of_json(moments: list[datetime], form: int) -> None:
    forms = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S.%f%z")
    texts = [f"{moment.year:04}" + moment.strftime(forms[form].removeprefix("%Y")) for moment in moments]
    for type in (ColumnType.TIMESTAMP, ColumnType.DATE):
        found = outcome(column(type), texts, as_binary=True)
        assert found == outcome(column(type), texts, as_binary=False)
        assert isinstance(found, str) == (type == ColumnType.DATE and form != 2)


@pytest.mark.parametrize(
    ("type", "datatype", "data", "sentence"),
    [
        (ColumnType.FLOAT64, "FP64", struct.pack("<2d", 1, float("inf")), "row 1: column 'c': inf is not a number"),
        (
            ColumnType.FLOAT64,
            "FP64",
            b"\0" * 15,
            "column 'c': 2 rows of FP64 take 16 bytes, but binary_data_size is 15",
        ),
        (ColumnType.INT64, "INT64", struct.pack("<2q", 1, 2**53 + 1), "row 1: column 'c': 9007199254740993 is beyond"),
        (
            ColumnType.INT64,
            "INT64",
            struct.pack("<2q", -(2**63), 1),
            "row 0: column 'c': -9223372036854775808 is beyond",
        ),
        (ColumnType.INT64, "UINT64", struct.pack("<2Q", 1, 2**64 - 1), "row 1: column 'c': 18446744073709551615 is"),
        (ColumnType.INT64, "FP64", struct.pack("<2d", 1, 0.5), "row 1: column 'c': 0.5 is not a whole number"),
        (ColumnType.STRING, "BYTES", b"\1\0\0\0a\5\0\0\0b", "row 1: the binary data of column 'c' end before"),
        (ColumnType.STRING, "BYTES", b"\1\0\0\0a\1\0", "row 1: the binary data of column 'c' end before"),
        (ColumnType.STRING, "BYTES", b"\1\0\0\0a\0\0\0\0\0", "column 'c': its 2 texts end after 9 bytes"),
        (ColumnType.STRING, "BYTES", b"\0\0\0\0\1\0\0\0\xff", "row 1: the text of column 'c' is not UTF-8"),
    ],
)
def test_score2_bad_binary_data_are_refused_with_their_row(
    type: ColumnType, datatype: str, data: bytes, sentence: str
) -> None:
    with pytest.raises(RequestError) as refused:
        column(type).from_binary(datatype, memoryview(data), 2)
    assert str(refused.value).startswith(sentence)


def test_score2_nan_in_a_binary_tensor_is_refused_where_a_value_is_needed() -> None:
    with pytest.raises(RequestError, match="row 1: column 'c' needs a value"):
        column(ColumnType.FLOAT64, nullable=False).from_binary("FP64", memoryview(struct.pack("<2d", 1, np.nan)), 2)


@pytest.mark.parametrize(
    ("type", "values"),
    [
        (ColumnType.BOOLEAN, [True, None]),
        (ColumnType.STRING, ["a", None]),
    ],
)
def test_score2_cells_are_kept_as_the_values_that_they_were(type: ColumnType, values: list[object]) -> None:
    kept = column(type)
    assert kept.plain(kept.vector(values, len(values))) == values
