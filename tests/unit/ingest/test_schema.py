"""One schema for many files."""

from __future__ import annotations

import pytest

from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.methods.formats import FoundColumn
from levada.resources.conditions import Reason
from levada.resources.dataset import DataSchema
from levada.steps.ingest.listing import check_roles, combine
from tests.unit.ingest.reading import columns


def _file(name: str, **types: str | None) -> tuple[str, list[FoundColumn]]:
    return name, [FoundColumn(c, c, ColumnType(type) if type else None) for c, type in types.items()]


def test_a_column_gets_the_type_that_all_files_share() -> None:
    schema = combine(
        [_file("1", a="int64", b=None, c="date"), _file("2", c="timestamp", a="float64", b="int64")], False
    )
    assert {c.name: c.type.value for c in schema.columns} == {"a": "float64", "b": "int64", "c": "timestamp"}
    assert schema.inferred
    assert not schema.notes


def test_a_column_that_some_files_lack_is_noted() -> None:
    schema = combine([_file("1", a="int64", b="int64"), _file("2", a="int64"), _file("3", a="int64")], False)
    assert schema.notes == ["the column 'b' is null for the 2 of 3 files that do not have it (2 first)"]
    assert not combine([_file("1", a="int64", b="int64"), _file("2", a="int64")], True).notes


def test_files_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(Stalled, match="airlines has only 2 of the 5 columns") as refused:
        combine([_file("airlines", a="int64", b="int64"), _file("flights", c="int64", d="int64", e="int64")], False)
    assert refused.value.reason is Reason.INVALID_DATA


def test_mixed_types_become_text_and_are_noted() -> None:
    schema = combine([_file("1", a="int64"), _file("2", a="string")], False)
    assert schema.columns == columns(a="string")
    assert schema.notes == [
        "the column 'a' is text because it is int64 in 1 and string in 2: "
        "declare its type in spec.schema.columns to set such rows aside"
    ]
    odd = combine([("1", [FoundColumn("a", "a", ColumnType.STRING, "n/a")])], False)
    assert odd.notes[0].startswith("the column 'a' is text because of 'n/a' in 1:")


def test_renamed_columns_are_noted() -> None:
    schema = combine([("1", [FoundColumn("a_b", "a b", ColumnType.INT64), FoundColumn("c", "c", None)])], False)
    assert schema.notes == ["columns were given names that SQL reads without quotes: 'a b' is called a_b"]


def test_files_without_any_columns_are_refused() -> None:
    with pytest.raises(Stalled) as refused:
        combine([("1", []), ("2", [])], False)
    assert refused.value.reason is Reason.NO_ROWS


def test_too_many_columns_are_refused() -> None:
    with pytest.raises(Stalled, match="1025 columns; a Dataset holds at most 1024"):
        combine([_file("1", **{f"c{i}": "int64" for i in range(1025)})], False)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"timeColumn": "t"}, "timeColumn names 't', which is not among the columns"),
        ({"keys": ["a", "k"]}, "keys names 'k'"),
        ({"timeColumn": "a"}, "timeColumn 'a' holds int64, not times"),
    ],
)
def test_roles_of_columns_that_are_not_there_are_refused(declared: dict[str, object], message: str) -> None:
    with pytest.raises(Stalled, match=message):
        check_roles(DataSchema.model_validate(declared), columns(a="int64", b="date"))
    check_roles(DataSchema.model_validate({"timeColumn": "b", "keys": ["a"]}), columns(a="int64", b="date"))


def test_columns_of_different_files_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(Stalled, match=r"^the columns 'id' \(in 1\) and 'ID' \(in 2\) are one for SQL.*rename one"):
        combine([_file("1", id="int64", x="int64"), _file("2", ID="int64", x="int64")], False)
