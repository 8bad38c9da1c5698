"""JSON lines."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.errors import Stalled
from levada.methods.formats import jsonlines
from tests.unit.ingest.reading import at, columns, content, inferred, read, reader

JSON = reader("jsonl")


def _lines(*objects: Any) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


def test_types_are_inferred_over_objects_with_different_keys() -> None:
    data = _lines(
        {"i": 1, "s": "x", "b": True, "t": "2013-01-01T10:00:00Z", "d": "2013-01-01"},
        {"i": None, "f": 1.5, "n": None, "o": {"k": [1]}, "q": "5", "big": 2**70},
        {"f": 2},
    )
    assert inferred(JSON, content(data)) == {
        "i": "int64", "s": "string", "b": "boolean", "t": "timestamp", "d": "date",
        "f": "float64", "n": None, "o": "string", "q": "string", "big": "string",
    }  # fmt: skip


def test_objects_become_rows() -> None:
    schema = columns(i="int64", f="float64", s="string", b="boolean", t="timestamp", d="date", o="string")
    data = _lines(
        {"i": 1, "f": 2, "s": "x", "b": True, "t": "2013-01-01T10:00:00+01:00", "d": "2013-01-01"}, {"o": {"k": 1}}
    )
    rows, bad, places = read(JSON, content(data + "\n"), schema)
    assert not bad
    assert rows[0] == {
        "i": 1, "f": 2.0, "s": "x", "b": True, "t": at(2013, 1, 1, 9), "d": date(2013, 1, 1), "o": None,
    }  # fmt: skip
    assert rows[1]["o"] == '{"k": 1}'
    assert places[1] == (2, '{"o": {"k": 1}}')


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        ('{"a": ', None, "is not JSON"),
        ("[1]", None, "is not a JSON object"),
        ('{"a": 1.5}', "a", "'1.5' is not an int64"),
        ('{"a": true}', "a", "'true' is not an int64"),
        ('{"a": "x"}', "a", "'x' is not an int64"),
        ('{"a": 1} {"a": 2}', None, "is not JSON"),
        ('{"a": 99999999999999999999}', "a", "is not an int64"),
        ('{"a": 1, "t": "\\ud800"}', None, "is not text: it has half of a surrogate pair"),
        ('{"a": 1, "\\uDC00": [1]}', None, "is not text: it has half of a surrogate pair"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", None, "is nested more than 200 levels deep"),
        ('{"a": ' + "[" * 900 + "]" * 900 + "}", None, "is nested more than 200 levels deep"),
        ('{"a": ' + "9" * 5000 + "}", None, "holds a number of more than 4300 digits"),
    ],
)
def test_bad_lines_are_set_aside(line: str, column: str | None, reason: str) -> None:
    rows, bad, _ = read(JSON, content(f'{{"a": 1}}\n{line}\n{{"a": 3}}\n'), columns(a="int64"))
    assert [row["a"] for row in rows] == [1, 3]
    assert [(row.line, row.column, row.text) for row in bad] == [(2, column, line)]
    assert reason in bad[0].reason


def test_a_key_that_no_sample_had_is_not_lost_silently() -> None:
    rows, bad, _ = read(JSON, content(_lines({"a": 1}, {"a": 2, "late": 5})), columns(a="int64"), inferred=True)
    assert [row["a"] for row in rows] == [1]
    assert [(row.line, row.column) for row in bad] == [(2, "late")]
    assert read(JSON, content(_lines({"a": 1}, {"a": 2, "late": 5})), columns(a="int64"))[1] == []


def test_keys_are_renamed_as_columns_are() -> None:
    data = _lines({"a b": 1, "2nd": 2})
    assert inferred(JSON, content(data)) == {"a_b": "int64", "_2nd": "int64"}
    assert read(JSON, content(data), columns(a_b="int64", _2nd="int64"))[0] == [{"a_b": 1, "_2nd": 2}]


def test_numbers_and_booleans_in_a_text_column_are_kept_as_text() -> None:
    rows, bad, _ = read(JSON, content(_lines({"a": 1}, {"a": True}, {"a": "x"}, {"a": None})), columns(a="string"))
    assert not bad
    assert [row["a"] for row in rows] == ["1", "true", "x", None]


def test_a_json_array_is_refused() -> None:
    with pytest.raises(Stalled, match="is a JSON array: write an object a line"):
        inferred(JSON, content('[{"a": 1},\n{"a": 2}]\n'))


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(Stalled, match="line 2 is not UTF-8"):
        read(JSON, content(b'{"a": "x"}\n{"a": "\xff"}\n'), columns(a="string"))


VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-2, 2),
    st.sampled_from(["5", "x", "true", "2013-01-01", "", [1], 2**70, {"k": None}]),
)
SCHEMA = columns(i="int64", f="float64", s="string", b="boolean", t="timestamp", d="date")
OBJECT = st.dictionaries(st.sampled_from([*(column.name for column in SCHEMA), "z"]), VALUE, max_size=7)


@settings(derandomize=True, max_examples=100, database=None, deadline=None)
@given(st.lists(OBJECT, min_size=1, max_size=8))
def test_blocks_and_lines_read_alike(objects: list[dict[str, Any]]) -> None:
    """What Arrow takes in blocks is what would have been taken line by line."""

    def both() -> list[Any]:
        return [read(JSON, content(_lines(*objects)), SCHEMA, inferred) for inferred in (False, True)]

    fast = both()
    with patch.object(jsonlines._Parser, "_read", lambda self, block: None):
        assert both() == fast
    with patch.object(jsonlines, "_LEAF", 8):
        assert both() == fast


def test_keys_that_differ_in_case_only_are_refused() -> None:
    data, message = (
        content(_lines({"a": 1}, {"A": 2})),
        r"^data\.csv has the columns 'a' and 'A', which are one for SQL",
    )
    with pytest.raises(Stalled, match=message):
        inferred(JSON, data)
    rows, bad, _ = read(JSON, data, columns(a="int64"))  # what is not read disturbs nobody
    assert ([row["a"] for row in rows], bad) == ([1, None], [])


def test_a_line_that_was_cut_off_in_a_text_with_brackets_is_soon_set_aside() -> None:
    cut = '{"a": "' + "[" * 300 + '\\"' * 500_000
    rows, bad, _ = read(JSON, content(cut + '\n{"a": "b"}\n'), columns(a="string"))
    assert [row["a"] for row in rows] == ["b"]
    assert [(row.line, row.reason) for row in bad] == [
        (1, "is not JSON: Unterminated string starting at at character 7")
    ]


def test_many_brackets_that_are_not_nested_deeply_are_read() -> None:
    text = json.dumps({"a": [[] for _ in range(500)], "b": "[" * 500 + '"\\' + "{" * 500})
    rows, bad, _ = read(
        JSON, content(text + '\n{"a": 1, "b": "\\ud83d\\ude00", "c": NaN}\n'), columns(a="string", b="string")
    )
    assert not bad
    assert [row["b"] for row in rows] == ["[" * 500 + '"\\' + "{" * 500, "\U0001f600"]


def test_odd_lines_are_no_hindrance_to_types() -> None:
    data = '{"a": "\\ud800"}\n{"a": ' + "[" * 5000 + "]" * 5000 + '}\n{"a": 1}\n'
    assert inferred(JSON, content(data)) == {"a": "int64"}


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("a,b\n1,2\n", "line 1 is not JSON: Expecting value at character 1"),
        (' \n{"a":1}{"a":2}\n', "line 2 is not JSON: Extra data at character 8"),
        ("1\n2\n", "line 1 is not a JSON object"),
    ],
)
def test_a_file_without_an_object_is_refused_with_what_its_first_line_is(data: str, fault: str) -> None:
    message = (
        rf"^data\.csv holds no JSON lines \({re.escape(fault)}\): write an object a line, or correct format\.type$"
    )
    with pytest.raises(Stalled, match=message):
        inferred(JSON, content(data))
    assert inferred(JSON, content("{}\n")) == {}
    rows, bad, _ = read(JSON, content(data), columns(a="int64"))  # beside others that may well be right
    assert rows == []
    assert f"line {bad[0].line} {bad[0].reason}" == fault
