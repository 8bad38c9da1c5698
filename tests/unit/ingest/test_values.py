"""Texts as values, and the types of texts."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pytest

from levada.features.types import ColumnType
from levada.methods.formats.values import common_type, infer, parse
from tests.unit.ingest.reading import at

T = ColumnType


def _parsed(type: ColumnType, *texts: str | None) -> list[object]:
    """Values, with `bad` where there is none."""
    values, bad = parse(pa.array(texts, pa.string()), type)
    assert values.filter(bad).null_count == sum(bad.to_pylist())
    return ["bad" if is_bad else value for value, is_bad in zip(values.to_pylist(), bad.to_pylist(), strict=True)]


@pytest.mark.parametrize(
    ("type", "texts", "expected"),
    [
        (T.INT64, ["1", "-7", " 8 ", "007", None], [1, -7, 8, 7, None]),
        (T.INT64, ["", "1.0", "1_0", "9223372036854775808", "one"], ["bad"] * 5),
        (T.INT64, ["9223372036854775807", "0x1F"], [9223372036854775807, 31]),
        (T.FLOAT64, ["1", "-.5", "5.", "1e3", "Infinity", None], [1.0, -0.5, 5.0, 1000.0, float("inf"), None]),
        (T.FLOAT64, ["", "1,5", "abc", "e"], ["bad"] * 4),
        (T.BOOLEAN, ["true", "False", "TRUE", "1", "0", None], [True, False, True, True, False, None]),
        (T.BOOLEAN, ["yes", "t", "2", ""], ["bad"] * 4),
        (T.DATE, ["2013-01-31", " 1999-12-31 "], [date(2013, 1, 31), date(1999, 12, 31)]),
        (T.DATE, ["2013-02-30", "31.01.2013", "2013-01-31T00:00:00", "0000-01-01"], ["bad"] * 4),
        (T.STRING, ["a", " a ", "", None], ["a", " a ", "", None]),
    ],
)
def test_texts_become_values(type: ColumnType, texts: list[str | None], expected: list[object]) -> None:
    assert _parsed(type, *texts) == expected


def test_timestamps_are_kept_in_utc_without_a_zone() -> None:
    assert _parsed(
        T.TIMESTAMP,
        "2013-01-31T09:30:00Z",
        "2013-01-31 09:30:00+02:00",
        "2013-01-31T09:30:00-0530",
        "2013-01-31 09:30",
        "2013-01-31",
        "2013-01-31T09:30:00.1234567",
        "2013-01-31T25:00:00",
        "0000-12-31T23:59:59",
        "yesterday",
        None,
    ) == [
        at(2013, 1, 31, 9, 30),
        at(2013, 1, 31, 7, 30),
        at(2013, 1, 31, 15, 0),
        at(2013, 1, 31, 9, 30),
        at(2013, 1, 31),
        at(2013, 1, 31, 9, 30, 0, 123456),
        "bad",
        "bad",
        "bad",
        None,
    ]


@pytest.mark.parametrize(
    ("texts", "type"),
    [
        (["1", "2", None], T.INT64),
        (["1", "2.5"], T.FLOAT64),
        (["true", "false"], T.BOOLEAN),
        (["0", "1"], T.INT64),
        (["2013-01-01"], T.DATE),
        (["2013-01-01", "2013-01-01T10:00:00Z"], T.TIMESTAMP),
        (["1", "x"], T.STRING),
        (["0x1F", "0x20"], T.STRING),
        (["99999999999999999999", "1"], T.STRING),  # a float would not tell them apart
        (["99999999999999999999.5"], T.FLOAT64),
        ([None, None], None),
        ([], None),
    ],
)
def test_the_narrowest_type_is_inferred(texts: list[str | None], type: ColumnType | None) -> None:
    assert infer(pa.array(texts, pa.string()))[0] == type


def test_a_column_of_numbers_with_an_odd_text_names_the_text() -> None:
    assert infer(pa.array(["1", "2", "3", "unknown"])) == (T.STRING, "unknown")
    assert infer(pa.array(["a", "b", "c", "4"])) == (T.STRING, None)


@pytest.mark.parametrize(
    ("types", "together"),
    [
        ([T.INT64, None, T.INT64], T.INT64),
        ([T.INT64, T.FLOAT64], T.FLOAT64),
        ([T.DATE, T.TIMESTAMP], T.TIMESTAMP),
        ([T.INT64, T.STRING], T.STRING),
        ([T.BOOLEAN, T.INT64], T.STRING),
        ([None], T.STRING),
    ],
)
def test_files_agree_on_a_type_that_holds_all(types: list[ColumnType | None], together: ColumnType) -> None:
    assert common_type(types) is together
