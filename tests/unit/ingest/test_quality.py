"""Quality checks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from levada.errors import Stalled
from levada.methods.formats import Rows
from levada.methods.formats.values import arrow_schema
from levada.methods.quality import Tally, check_rows, expand
from levada.methods.quality.rows import without_nulls
from levada.methods.quality.whole import WholeChecks
from levada.resources.conditions import Reason
from levada.resources.dataset import Column, QualityCheck
from tests.unit.ingest.reading import columns

NAN = math.nan
SCHEMA = columns(i="int64", f="float64", s="string", b="boolean", d="date")


def _check(column: str, action: str = "quarantine", **demands: Any) -> QualityCheck:
    return QualityCheck.model_validate({"column": column, "onViolation": action, **demands})


def _rows(schema: list[Column], **values: list[Any]) -> Rows:
    table = pa.table({c.name: values.get(c.name, [None] * len(next(iter(values.values())))) for c in schema})
    return Rows(table.cast(arrow_schema(schema)), lambda rows: [(i + 10, f"text{i}") for i in rows], 10)


def _checked(
    column: str, values: list[Any], *checks: QualityCheck
) -> tuple[list[Any], list[tuple[int, str]], list[Tally]]:
    """What is left of a column, what was set aside and why, and the tallies."""
    demands = expand(checks, SCHEMA)
    tallies = [Tally() for _ in demands]
    rows = check_rows(_rows(SCHEMA, **{column: values}), demands, tallies)
    return rows.table[column].to_pylist(), [(bad.line, bad.reason) for bad in rows.bad], tallies


def test_ing6_rows_that_break_a_demand_are_set_aside_with_their_lines() -> None:
    kept, aside, tallies = _checked("i", [1, -5, None, 7], _check("i", min=0))
    assert kept == [1, None, 7]
    assert aside == [(11, "breaks min 0: -5")]
    assert tallies == [Tally(1, 11, "-5")]


@pytest.mark.parametrize("action", ["warn", "refuse"])
def test_ing6_rows_are_kept_where_only_counting_is_asked_for(action: str) -> None:
    kept, aside, tallies = _checked("i", [1, -5, -6], _check("i", action, min=0))
    assert (kept, aside) == ([1, -5, -6], [])
    assert tallies == [Tally(2, 11, "-5")]


@pytest.mark.parametrize(
    ("column", "values", "demands", "rectified"),
    [
        ("i", [-5, 3, 12, None], {"min": 0.5, "max": 9.5}, [1, 3, 9, None]),
        ("f", [-5.0, 3.0, 12.0, NAN, math.inf], {"min": 0.5, "max": 9.5}, [0.5, 3.0, 9.5, None, 9.5]),
        ("s", ["a", "b", None], {"oneOf": ["a"]}, ["a", None, None]),
        ("s", ["ab", "abc", "xab"], {"matches": "ab|b"}, ["ab", None, None]),
        ("d", ["2013-01-01", "2013-01-02"], {"oneOf": ["2013-01-01"]}, ["2013-01-01", None]),
        ("b", [True, False], {"oneOf": ["true"]}, [True, None]),
        ("i", [5, 6], {"oneOf": ["5"]}, [5, None]),
    ],
)
def test_ing6_values_are_rectified(
    column: str, values: list[Any], demands: dict[str, Any], rectified: list[Any]
) -> None:
    kept, aside, _ = _checked(column, values, _check(column, "rectify", **demands))
    assert [str(value) for value in kept] == [str(value) for value in rectified]
    assert not aside


def test_ing6_a_value_that_may_not_become_null_costs_its_row() -> None:
    kept, aside, _ = _checked("s", ["a", "b", None], _check("s", "rectify", oneOf=["a"], notNull=True))
    assert kept == ["a"]
    assert aside == [(12, "breaks notNull: no value"), (11, "breaks oneOf a: b")]


def test_ing6_demands_are_taken_one_after_the_other() -> None:
    checks = [_check("i", "rectify", min=0), _check("i", "quarantine", max=5), _check("i", "warn", oneOf=["0"])]
    kept, aside, tallies = _checked("i", [-1, 9, 3], *checks)
    assert kept == [0, 3]
    assert aside == [(11, "breaks max 5: 9")]
    assert [tally.violations for tally in tallies] == [1, 1, 1]
    assert tallies[2].line == 12


def test_null_where_there_may_be_none_costs_the_row() -> None:
    rows = without_nulls(_rows(columns(i="int64"), i=[1, None]), ["i"])
    assert rows.table["i"].to_pylist() == [1]
    assert [(bad.line, bad.column, bad.text) for bad in rows.bad] == [(11, "i", "text1")]


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (_check("x", min=0), "the column 'x': there is no such column"),
        (_check("s", min=0), "min needs numbers, and the column is of type string"),
        (_check("d", outliers=3), "outliers needs numbers"),
        (_check("i", matches="a"), "matches needs text"),
        (_check("i", oneOf=["1", "one"]), "oneOf allows 'one', which is no int64"),
        (_check("s", matches="("), "matches is no regular expression"),
        (_check("i", min=1e30), "beyond what an int64 holds"),
    ],
)
def test_checks_that_make_no_sense_are_refused(check: QualityCheck, message: str) -> None:
    with pytest.raises(Stalled, match=message) as refused:
        expand([check], SCHEMA)
    assert refused.value.reason is Reason.INVALID_SPEC


# --- over the whole batch --------------------------------------------------------------------------------------------


def _examined(folder: Path, column: str, files: list[list[Any]], *checks: QualityCheck) -> Any:
    """Findings, what is left of each file, and what is not."""
    demands = expand(checks, SCHEMA)
    type = arrow_schema(SCHEMA).field(column).type
    with WholeChecks(demands, folder, 64 << 20) as whole:
        for number, values in enumerate(files):
            half = len(values) // 2
            whole.add(
                number, [pa.record_batch({column: pa.array(part, type)}) for part in (values[:half], values[half:])]
            )
        findings = whole.run()
        left = [whole.rest(number, 0, len(values))[column].to_pylist() for number, values in enumerate(files)]
        gone = [[(g.row, g.value) for g in whole.gone(number, 0, len(values))] for number, values in enumerate(files)]
    return findings, left, gone


def test_ing6_repeats_over_files_are_set_aside_but_the_first(tmp_path: Path) -> None:
    files = [["a", "b", None], ["b", None, "c", "a"]]
    findings, left, gone = _examined(tmp_path, "s", files, _check("s", unique=True))
    assert left == [["a", "b", None], [None, "c"]]
    assert gone == [[], [(0, "b"), (3, "a")]]
    assert (findings[0].violations, findings[0].file, findings[0].row, findings[0].value) == (2, 1, 0, "b")


def test_ing6_repeats_may_become_null(tmp_path: Path) -> None:
    _, left, gone = _examined(tmp_path, "i", [[1, 2], [2, 1]], _check("i", "rectify", unique=True))
    assert (left, gone) == ([[1, 2], [None, None]], [[], []])


def test_ing6_outliers_are_measured_over_the_whole_batch(tmp_path: Path) -> None:
    # Median 50, quartiles 24 and 76, infinities and NaN left aside: three ranges reach from -106 to 206.
    values = [float(i) for i in range(101)]
    files = [[*values[:60], 206.0, -107.0], [*values[60:], -106.0, 207.0, NAN, math.inf]]
    findings, left, gone = _examined(tmp_path, "f", files, _check("f", outliers=3))
    assert findings[0].violations == 4
    assert left == [[*values[:60], 206.0], [*values[60:], -106.0]]
    assert [row for row, _ in gone[0]] == [61]
    assert [row for row, _ in gone[1]] == [42, 43, 44]


def test_ing6_outliers_are_rectified_to_the_nearest_bound(tmp_path: Path) -> None:
    values = [*range(101), 10_000, -10_000]
    findings, left, _ = _examined(tmp_path, "i", [values], _check("i", "rectify", outliers=2))
    assert findings[0].violations == 2
    assert left[0][:101] == values[:101]
    assert left[0][101:] == [152, -52]  # median 50, quartiles 24.5 and 75.5: 50 ± 102, whole numbers inside


def test_ing6_a_column_of_one_value_has_no_outliers(tmp_path: Path) -> None:
    findings, left, _ = _examined(tmp_path, "f", [[1.0] * 9 + [5.0]], _check("f", outliers=1))
    assert findings[0].violations == 0
    assert len(left[0]) == 10


def test_ing6_demands_on_the_batch_are_taken_one_after_the_other(tmp_path: Path) -> None:
    checks = [_check("i", unique=True), _check("i", "warn", unique=True)]
    findings, left, gone = _examined(tmp_path, "i", [[1, 1, 2]], *checks)
    assert [finding.violations for finding in findings] == [1, 0]
    assert (left, gone) == ([[1, 2]], [[(1, "1")]])
