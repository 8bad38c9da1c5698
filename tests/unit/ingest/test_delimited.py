"""CSV."""

from __future__ import annotations

import csv
import gzip
import io
import random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.errors import Stalled
from levada.methods.formats import delimited
from tests.unit.ingest.reading import at, columns, content, inferred, read, reader

AB = columns(a="int64", b="string")


def test_types_are_inferred_and_null_texts_are_null() -> None:
    data = "i,f,s,b,d,t,n\n1,1,x,true,2013-01-01,2013-01-01T10:00:00Z,NA\nNA,2.5,,false,NA,,\n"
    types = inferred(reader(), content(data))
    assert types == {
        "i": "int64", "f": "float64", "s": "string", "b": "boolean", "d": "date", "t": "timestamp", "n": None,
    }  # fmt: skip
    schema = columns(**{name: type or "string" for name, type in types.items()})
    rows, bad, _ = read(reader(), content(data), schema)
    assert not bad
    assert rows[1] == {"i": None, "f": 2.5, "s": None, "b": False, "d": None, "t": None, "n": None}
    assert rows[0]["t"] == at(2013, 1, 1, 10)


def test_null_texts_are_those_that_are_declared() -> None:
    rows, bad, _ = read(reader(nullValues=["-"]), content("a,b\n-,-\n1,NA\nNA,\n"), AB)
    assert rows == [{"a": None, "b": None}, {"a": 1, "b": "NA"}]
    assert [(row.line, row.column, row.reason) for row in bad] == [(4, "a", "'NA' is not an int64")]


def test_a_value_of_another_type_costs_its_row_with_line_and_reason() -> None:
    rows, bad, places = read(reader(), content("a,b\n1,x\ntwo,y\n3,z\n"), AB)
    assert rows == [{"a": 1, "b": "x"}, {"a": 3, "b": "z"}]
    assert [(row.line, row.column, row.reason, row.text) for row in bad] == [(3, "a", "'two' is not an int64", "two,y")]
    assert places == [(2, "1,x"), (4, "3,z")]


def test_ragged_rows_are_set_aside_with_their_lines() -> None:
    rows, bad, _ = read(reader(), content("a,b\n1,x\n2\n3,y,z\n\n4,w\n"), AB)
    assert [row["a"] for row in rows] == [1, 4]
    assert [(row.line, row.reason) for row in bad] == [
        (3, "has 1 values instead of 2"),
        (4, "has 3 values instead of 2"),
    ]


def test_quoted_values_with_separators_and_line_ends() -> None:
    data = 'a,b\n1,"x, ""y""\nz"\n2,w\n3,"bad\n4,v\n'
    rows, bad, places = read(reader(), content(data), AB)
    assert rows == [{"a": 1, "b": 'x, "y"\nz'}, {"a": 2, "b": "w"}, {"a": 4, "b": "v"}]
    assert [(row.line, row.reason, row.text) for row in bad] == [(5, "a quoted value is not closed", '3,"bad')]
    assert [line for line, _ in places] == [2, 4, 6]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_do_on_any_system(end: str) -> None:
    data = end.join(["a,b", "1,x", "q,y", "3,z", ""])
    rows, bad, _ = read(reader(), content(data), AB)
    assert rows == [{"a": 1, "b": "x"}, {"a": 3, "b": "z"}]
    assert [row.line for row in bad] == [3]


def test_separator_encoding_and_missing_header_are_as_declared() -> None:
    data = "1;größe\n2;ä\n".encode("latin-1")
    lenient = reader(delimiter=";", encoding="latin-1", header=False)
    assert inferred(lenient, content(data)) == {"column_1": "int64", "column_2": "string"}
    assert read(lenient, content(data), AB)[0] == [{"a": 1, "b": "größe"}, {"a": 2, "b": "ä"}]


def test_columns_are_found_by_name_and_others_left_out() -> None:
    assert read(reader(), content("c,b,a\n0,x,1\n"), AB)[0] == [{"a": 1, "b": "x"}]


def test_a_declared_column_that_a_file_lacks_is_an_error() -> None:
    with pytest.raises(
        Stalled, match=r"data.csv has no column 'b', which spec.schema.columns declares \(it has: a, c\)"
    ):
        read(reader(), content("a,c\n1,2\n"), AB)


def test_an_inferred_column_that_a_file_lacks_is_null() -> None:
    assert read(reader(), content("a,c\n1,2\n"), AB, inferred=True)[0] == [{"a": 1, "b": None}]


def test_times_with_and_without_zone_may_be_mixed() -> None:
    data = "t\n2013-01-01T10:00:00Z\n2013-01-01 11:00\n2013-01-01T10:00:00+01:00\n0000-01-01\n"
    rows, bad, _ = read(reader(), content(data), columns(t="timestamp"))
    assert [row["t"].hour for row in rows] == [10, 11, 9]
    assert [row.line for row in bad] == [5]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b,a\n1,2,3\n", "data.csv has the column 'a' twice"),
        (b"a b,a-b\n1,2\n", "'a b' and 'a-b', which would both be called 'a_b'"),
        (b"A,a\n1,2\n", "data.csv has the columns 'A' and 'a', which are one for SQL.*rename one of them"),
        (
            b"2013,1,EWR\n2013,2,JFK\n",
            "does not name columns, it holds the value '2013'.*header to false, or declare _2013, _1, EWR in",
        ),
        (b"a;b\n1;2\n", "single column 'a;b' when it is split at ','.*set format.delimiter to ';'"),
        (b"a,b\n1,\xe9\n", r"data.csv: line 2 is not UTF-8 \(byte 0xe9\).*e.g. latin-1"),
        (b'"a,b\n1,2\n', "its first line cannot be read, a quoted value is not closed"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(data: bytes, message: str) -> None:
    with pytest.raises(Stalled, match=message):
        inferred(reader(), content(data))
    with pytest.raises(Stalled, match=message):
        read(reader(), content(data), columns(a="string"), inferred=True)


def test_a_wrong_byte_far_into_a_file_is_named_with_its_line() -> None:
    lines = [b"%d,x\n" % i for i in range(200_000)]
    lines[150_000] = b"1,\xff\n"
    with pytest.raises(Stalled, match="line 150002 is not UTF-8"):
        read(reader(), content(b"a,b\n" + b"".join(lines)), AB)


@pytest.mark.parametrize("delimiter", ['"', "§"])
def test_a_separator_that_cannot_be_is_refused(delimiter: str) -> None:
    with pytest.raises(Stalled, match="can't separate values"):
        reader(delimiter=delimiter)


def test_a_file_without_rows_has_none() -> None:
    assert read(reader(), content("a,b\n"), AB) == ([], [], [])
    assert read(reader(), content("\n\n"), AB) == ([], [], [])


def test_few_bad_rows_among_many_are_found_and_nothing_else_is_lost() -> None:
    random.seed(1)
    lines = [f"{i},x{i}" for i in range(100_000)]
    wrong = sorted(random.sample(range(len(lines)), 40))
    for i in wrong:
        lines[i] = random.choice(["oops,1", "1,2,3", '1,"x'])
    rows, bad, _ = read(reader(), content("a,b\n" + "\n".join(lines)), AB)
    assert [row.line for row in bad] == [i + 2 for i in wrong]
    assert [row["a"] for row in rows] == [i for i in range(len(lines)) if i not in set(wrong)]


CELL = st.one_of(
    st.integers(-99, 99).map(str),
    st.sampled_from(["", "NA", " 5", "1.5", "x", "true", "2013-01-01", "2013-01-01T10:00:00Z", "nan", "0x1F", "+1"]),
    st.text(alphabet="ab\",\n'; é", max_size=5),
)
SCHEMA = columns(i="int64", f="float64", s="string", b="boolean", t="timestamp", d="date")


@settings(derandomize=True, max_examples=100, database=None, deadline=None)
@given(st.lists(st.lists(CELL, min_size=6, max_size=6), max_size=12), st.randoms(use_true_random=False))
def test_blocks_and_rows_read_alike(table: list[list[str]], chance: random.Random) -> None:
    """What Arrow takes in blocks is what would have been taken row by row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in SCHEMA])
    for row in table:
        writer.writerow(row[: chance.choice([6, 6, 6, 6, 5])])
    data = out.getvalue()

    def both() -> list[Any]:
        rows, bad, places = read(reader(), content(data), SCHEMA)
        return [str(rows), bad, places]

    fast = both()
    with patch.object(delimited, "_is_plain", lambda block, delimiter: False):
        assert both() == fast
    with patch.object(delimited, "_LEAF", 8):
        assert both() == fast


CELLS = st.sampled_from(["", "a", '"a"', '"a,b"', '"a\nb"', '"\n\n"', '"a""b"', '5" pipe', 'a"b"c', "'"])


@settings(derandomize=True, max_examples=200, database=None, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=1, max_size=3).map(",".join), max_size=12), st.sampled_from([8, 20, 50]))
def test_quotes_read_alike_in_blocks_of_any_size(lines: list[str], size: int) -> None:
    data = "x,y\n" + "\n".join(lines)
    schema = columns(x="string", y="string")
    whole = read(reader(nullValues=[]), content(data), schema)
    original = delimited.CsvReader._blocks
    with patch.object(delimited.CsvReader, "_blocks", lambda self, content: original(self, content, size)):
        assert read(reader(nullValues=[]), content(data), schema) == whole


def test_compressed_files_are_read() -> None:
    assert read(reader(), content(gzip.compress(b"a,b\n1,x\n"), "data.csv.gz"), AB)[0] == [{"a": 1, "b": "x"}]


def test_a_header_of_numbers_names_columns_that_are_declared() -> None:
    data = content("country,2013,2014\nPT,1,2\n")
    schema = columns(country="string", _2013="int64", _2014="int64")
    assert read(reader(), data, schema)[0] == [{"country": "PT", "_2013": 1, "_2014": 2}]
    assert read(reader(), data, columns(_2014="int64"))[0] == [{"_2014": 2}]
    for wanted, are_inferred in ((columns(_2015="int64"), False), (schema, True)):
        with pytest.raises(Stalled, match="does not name columns, it holds the value '2013'"):
            read(reader(), data, wanted, are_inferred)
