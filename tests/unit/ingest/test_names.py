"""Names of columns, and globs for names of files."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from levada.errors import Stalled
from levada.methods.formats.header import column_names
from levada.methods.sources.globs import matcher
from levada.methods.sources.secrets import variable
from levada.resources.base import ColumnName


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("arr_delay", "arr_delay"),
        ("Sepal length (cm)", "Sepal_length_cm"),
        ("2nd", "_2nd"),
        ("", "column_1"),
        ("(%)", "column_1"),
        ("größe", "groe"),
        ("naïve", "naive"),
        ("x" * 200, "x" * 128),
    ],
)
def test_columns_get_names_that_sql_reads_without_quotes(original: str, name: str) -> None:
    assert column_names("f", [original]) == [name]
    TypeAdapter(ColumnName).validate_python(name)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*", "a.csv", True),
        ("*", "2013/a.csv", False),
        ("**", "2013/01/a.csv", True),
        ("**/*.csv", "a.csv", True),
        ("**/*.csv", "2013/01/a.csv", True),
        ("*/*.csv", "2013/01/a.csv", False),
        ("2013-??.csv", "2013-01.csv", True),
        ("[ab].csv", "b.csv", True),
        ("[!ab].csv", "b.csv", False),
        ("[a-c]*", "d", False),
        ("*.csv", "a.CSV", False),
        ("a+(1).csv", "a+(1).csv", True),
        ("*", "_SUCCESS", False),
        ("*", ".hidden", False),
        ("_*", "_SUCCESS", True),
        ("**", "_temporary/a.csv", False),
        ("a[b", "a[b", True),
        ("a[!b]c", "a/c", False),
        ("a[+-9]c", "a/c", False),
    ],
)
def test_globs(pattern: str, path: str, matches: bool) -> None:
    assert matcher(pattern)(path) is matches


def test_secrets_come_from_the_environment() -> None:
    assert variable("landing-zone", "accessKey") == "LEVADA_SECRET_LANDING_ZONE_ACCESSKEY"


@pytest.mark.parametrize("originals", [["Id", "x", "ID"], ["größe", "Groe"]])
def test_columns_that_differ_in_case_only_are_refused(originals: list[str]) -> None:
    with pytest.raises(Stalled, match=f"^f has the columns '{originals[0]}' and '{originals[-1]}', which are one"):
        column_names("f", originals)
    with pytest.raises(Stalled, match="which are one"):
        column_names("f", originals, column_names("f", originals[:1]) + column_names("f", originals[-1:]))
    assert len(column_names("f", originals, column_names("f", originals[:1]))) == len(originals)
