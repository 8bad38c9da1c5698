"""Records of CSV."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.methods.formats.quoting import is_well_quoted, last_record, records

TEXT = st.text(alphabet='ab",\n ', max_size=6)


def _records(text: str) -> list[tuple[int, int, list[str] | None]]:
    lines = [line + "\n" for line in text.split("\n")[:-1]]
    return [(record.start, record.stop, record.fields) for record in records(lines, ",")]


def test_a_value_may_go_over_lines() -> None:
    assert _records('1,"a\nb"\n2,c\n') == [(0, 2, ["1", "a\nb"]), (2, 3, ["2", "c"])]


def test_a_quote_that_is_never_closed_costs_its_line_only() -> None:
    assert _records('1,"a\n2,b\n3,c\n') == [(0, 1, None), (1, 2, ["2", "b"]), (2, 3, ["3", "c"])]


def test_a_quote_that_is_closed_in_the_middle_of_a_later_line_costs_its_line_only() -> None:
    assert _records('1,"a\n2,b\n3,"c"\n') == [(0, 1, None), (1, 2, ["2", "b"]), (2, 3, ["3", "c"])]


def test_a_quote_inside_a_value_is_a_character() -> None:
    assert _records('1,5" pipe\n2,6" pipe\n') == [(0, 1, ["1", '5" pipe']), (1, 2, ["2", '6" pipe'])]


def test_a_carriage_return_inside_a_value_costs_its_line() -> None:
    assert _records("1,a\rb\n2,c\n") == [(0, 1, None), (1, 2, ["2", "c"])]


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b'1,a\n2,"b\nc"\n3,"d\ne', 12),  # the third record goes on
        (b'1,5" pipe\n2,"a\nb\n', 10),  # so does the second, after a quote that is a character
        (b'1,5" pipe\n2,"a\nb"\n3,', 18),
        (b'1,"a\nb', 0),
        (b"1,a", 0),
    ],
)
def test_a_record_that_goes_on_is_not_cut(data: bytes, end: int) -> None:
    assert last_record(data, ",") == end


@pytest.mark.parametrize(
    ("data", "regular"),
    [
        (b'1,"a"\n', True),
        (b'"a""b",2\n', True),
        (b'"",2\n', True),
        (b'"a\nb",2\r\n', True),
        (b'5" pipe\n', False),
        (b'"a"b\n', False),
        (b'"a\n', False),
    ],
)
def test_irregular_quotes_are_seen(data: bytes, regular: bool) -> None:
    assert is_well_quoted(data, ",") is regular


@settings(derandomize=True, max_examples=100, database=None, deadline=None)
@given(st.lists(st.lists(TEXT, min_size=2, max_size=3), min_size=1, max_size=8), st.integers(0, 60))
def test_what_a_writer_quoted_is_cut_between_records_only(rows: list[list[str]], size: int) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    data = out.getvalue().encode()
    ends, position = {0}, 0
    for row in rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        position += len(line.getvalue().encode())
        ends.add(position)
    assert last_record(data, ",") == len(data)
    window = data[:size]
    assert last_record(window, ",") == max(end for end in ends if end <= len(window))


@settings(derandomize=True, max_examples=100, database=None, deadline=None)
@given(st.text(alphabet='ab",\n\r', max_size=60))
def test_every_line_belongs_to_exactly_one_record(text: str) -> None:
    found = _records(text + "\n")
    assert [start for start, _, _ in found] == [0, *(stop for _, stop, _ in found)][: len(found)]
    assert found[-1][1] == (text + "\n").count("\n")


@settings(derandomize=True, max_examples=100, database=None, deadline=None)
@given(st.text(alphabet='ab",\n\r', max_size=60))
def test_a_cut_is_at_the_end_of_a_line(text: str) -> None:
    data = text.encode()
    cut = last_record(data, ",")
    assert cut == 0 or data[cut - 1 : cut] == b"\n"
