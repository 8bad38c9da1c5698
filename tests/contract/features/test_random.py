"""Random nested expressions over random rows against DuckDB's own answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from levada.features.expressions import check
from levada.features.types import ExpressionError
from tests.contract.features import twin

# An expression as it is compiled, and as DuckDB is asked: a NaN made null at once, as it is in a tensor, and each
# operation that can fail for a row in TRY.
Pair = tuple[str, str]
FIXED = settings(
    derandomize=True,
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
DEPTH = 3


OPERATORS = ("+", "-", "*", "%", "//", "**", "=", "<>", "<", ">=", "AND", "OR", "IS NOT DISTINCT FROM", "||")
OPERANDS = (
    "i",
    "k",
    "2",
    "-i",
    "- 3",
    "NOT b",
    "b",
    "s",
    "i IS NULL",
    "k BETWEEN 1 AND 5",
    "i IN (1, 2)",
    "@ i",
    "i::int",
)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def same(*texts: str) -> st.SearchStrategy[Pair]:
    return st.sampled_from(texts).map(lambda text: (text, text))


def combined(
    template: str, *parts: st.SearchStrategy[Pair], twin_template: str | None = None
) -> st.SearchStrategy[Pair]:
    """`template` filled in with `parts`, both ways."""
    other = twin_template or template
    return st.tuples(*parts).map(
        lambda pairs: (template.format(*(p[0] for p in pairs)), other.format(*(p[1] for p in pairs)))
    )


def no_nan(template: str, *parts: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return combined(template, *parts, twin_template=f"nullif({template}, 'nan'::double)")


def tried(template: str, *parts: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return combined(template, *parts, twin_template=f"try({template})")


def choices(kind: st.SearchStrategy[Pair], depth: int) -> list[st.SearchStrategy[Pair]]:
    """What makes a value of a kind from others of it."""
    condition = truths(depth - 1)
    return [
        combined("CASE WHEN {} THEN {} WHEN {} THEN {} ELSE {} END", condition, kind, condition, kind, kind),
        combined("CASE WHEN {} THEN {} END", condition, kind),
        combined("if({}, {}, {})", condition, kind, kind),
        combined("coalesce({}, {})", kind, kind),
        combined("nullif({}, {})", kind, kind),
    ]


@cache
def integers(depth: int) -> st.SearchStrategy[Pair]:
    leaves = same("i", "j", "k", "0", "1", "7", "100", "(-3)")
    if depth <= 0:
        return leaves
    inner, time = integers(depth - 1), times(depth - 1)
    return st.one_of(
        leaves,
        combined("({} + {})", inner, inner),
        combined("({} - {})", inner, inner),
        combined("({} * {})", inner, leaves),
        tried("({} // {})", inner, inner),
        tried("({} % {})", inner, inner),
        combined("(-{})", inner),
        combined("abs({})", inner),
        combined("round({}, -1)", inner),
        combined("sign({})", st.one_of(inner, doubles(depth - 1))),
        combined("greatest({}, {}, {})", inner, inner, inner),
        combined("least({}, {})", inner, inner),
        combined("({})::int", truths(depth - 1)),
        tried("({})::bigint", decimals(depth - 1)),
        tried("({})::smallint", doubles(depth - 1)),
        *(combined(f"{part}({{}})", time) for part in ("year", "month", "hour", "dayofweek", "week", "dayofyear")),
        combined("date_diff('month', {}, {})", time, time),
        combined("date_diff('hour', {}, {})", time, time),
        *choices(inner, depth),
    )


@cache
def decimals(depth: int) -> st.SearchStrategy[Pair]:
    leaves = st.one_of(same("0.5", "1.25", "(-0.1)", "i * 0.1", "k * 0.25"), integers(0))
    if depth <= 0:
        return leaves
    inner = decimals(depth - 1)
    return st.one_of(
        leaves,
        combined("({} + {})", inner, inner),
        combined("({} - {})", inner, inner),
        combined("({} * {})", inner, same("0.5", "2", "(-1.5)")),
        tried("({} % {})", inner, same("0.3", "7", "1.25")),
        combined("round({}, 1)", inner),
        combined("trunc({})", inner),
        combined("abs({})", inner),
        combined("(-{})", inner),
        combined("greatest({}, {})", inner, inner),
        *choices(inner, depth),
    )


@cache
def doubles(depth: int) -> st.SearchStrategy[Pair]:
    leaves = same("x", "y", "1.5e0", "0e0", "(-2e0)", "pi()")
    if depth <= 0:
        return leaves
    inner, number = doubles(depth - 1), st.one_of(doubles(depth - 1), decimals(depth - 1))
    return st.one_of(
        leaves,
        no_nan("({} + {})", inner, number),
        no_nan("({} - {})", number, inner),
        no_nan("({} * {})", inner, number),
        no_nan("({} / {})", number, number),
        combined("({} // {})", inner, number, twin_template="nullif(try({} // {}), 'nan'::double)"),
        no_nan("({} % {})", inner, number),
        no_nan("sqrt({})", number),
        no_nan("ln({})", number),
        no_nan("power({}, {})", inner, same("2", "3", "0.5", "0", "(-1)")),
        no_nan("power({}, {})", inner, integers(0)),
        combined("(-{})", inner),
        combined("abs({})", inner),
        combined("floor({})", inner),
        combined("ceil({})", number),
        combined("round({}, 1)", inner),
        combined("trunc({})", inner),
        combined("greatest({}, {})", inner, number),
        combined("least({}, {}, {})", inner, number, inner),
        combined("({})::double", decimals(depth - 1)),
        combined("epoch({})", times(depth - 1)),
        *choices(inner, depth),
    )


@cache
def times(depth: int) -> st.SearchStrategy[Pair]:
    leaves = same("ts", "us", "d", "timestamp '2024-02-29 13:14:15.5'")
    if depth <= 0:
        return leaves
    inner = times(depth - 1)
    return st.one_of(
        leaves,
        combined("({} + INTERVAL 36 HOUR)", inner),
        combined("({} - INTERVAL 5 DAY)", inner),
        combined("({} + to_minutes({}))", inner, same("i", "k", "j")),
        *(combined(f"date_trunc('{unit}', {{}})", inner) for unit in ("month", "week", "day", "hour", "year")),
        combined("greatest({}, {})", inner, inner),
        combined("least({}, {})", inner, inner),
        combined("({})::date", inner),
        *choices(inner, depth),
    )


@cache
def strings(depth: int) -> st.SearchStrategy[Pair]:
    leaves = same("s", "r", "'a'", "''", "'é_%'")
    if depth <= 0:
        return leaves
    inner = strings(depth - 1)
    return st.one_of(
        leaves,
        combined("({} || {})", inner, inner),
        combined("concat({}, {}, {})", inner, integers(depth - 1), inner),
        combined("({})::varchar", st.one_of(integers(depth - 1), truths(depth - 1))),
        combined("dayname({})", times(depth - 1)),
        *choices(inner, depth),
    )


@cache
def truths(depth: int) -> st.SearchStrategy[Pair]:
    leaves = same("b", "c", "true", "(x > 0)", "(i = j)", "(s IS NULL)")
    if depth <= 0:
        return leaves
    inner = truths(depth - 1)
    number = st.one_of(integers(depth - 1), doubles(depth - 1), decimals(depth - 1))
    time, text = times(depth - 1), strings(depth - 1)
    ordered = [combined(f"({{}} {op} {{}})", kind, kind) for op in ("<", "<=", ">", ">=") for kind in (number, time)]
    equal = [
        combined(f"({{}} {op} {{}})", kind, kind)
        for op in ("=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM")
        for kind in (number, time, text, inner)
    ]
    return st.one_of(
        leaves,
        combined("({} AND {})", inner, inner),
        combined("({} OR {})", inner, inner),
        combined("(NOT {})", inner),
        st.one_of(ordered),
        st.one_of(equal),
        combined("({} IS NULL)", st.one_of(number, time, text, inner)),
        combined("({} IS NOT TRUE)", inner),
        combined("({} BETWEEN {} AND {})", number, number, number),
        combined("({} IN ({}, {}, NULL))", number, number, number),
        combined("({} NOT IN (0, 1, 2, 3, 7))", number),
        combined("({} IN ('a', 'b', {}))", text, text),
        combined("({} LIKE 'a%')", text),
        *choices(inner, depth),
    )


def moments(first: str, last: str) -> st.SearchStrategy[datetime]:
    return st.datetimes(datetime.fromisoformat(first), datetime.fromisoformat(last))


def any_cells() -> dict[str, st.SearchStrategy[Any]]:
    """Values for each column: zeros, negative numbers, infinities, days around leap days and the ends of years."""
    whole = st.sampled_from([0, 1, -1, 2, 3, 7, -7, 50]) | st.integers(-2000, 2000)
    broken = (
        st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.5, 1e300, float("inf"), float("-inf")])
        | st.floats(-1e6, 1e6)
        | st.integers(-100, 100).map(float)
    )
    days = ("1970-01-01", "2000-02-29", "1900-03-01", "2024-12-30", "2021-01-03")
    time = (
        moments("0001-01-20", "9999-12-20")
        | moments("1960-01-01", "2030-01-01")
        | st.sampled_from(days).map(datetime.fromisoformat)
    )
    text = st.sampled_from(["a", "b", "", "abc", "é_%"]) | st.text(st.characters(codec="utf-8"), max_size=3)
    return {
        **dict.fromkeys(("i", "j", "k"), whole),
        **dict.fromkeys(("x", "y"), broken),
        **dict.fromkeys(("s", "r"), text.filter(lambda text: "\0" not in text)),
        **dict.fromkeys(("b", "c"), st.booleans()),
        **dict.fromkeys(("ts", "us"), time),
        **dict.fromkeys(("d", "e"), time.map(datetime.date)),
    }


CELLS = {name: st.none() | cell for name, cell in any_cells().items()}


@cache
def unbracketed() -> st.SearchStrategy[Pair]:
    """Operands and operators in a row, so that the parser says what belongs together. No ** beside %: a NaN, which a
    remainder of doubles by zero is, cannot be made null within."""
    steps = st.lists(st.tuples(st.sampled_from(OPERANDS), st.sampled_from(OPERATORS)), min_size=2, max_size=4)
    texts = steps.map(lambda pairs: " ".join(f"{a} {b}" for a, b in pairs) + " k")
    return texts.filter(lambda text: not ("**" in text and "%" in text)).map(lambda text: (text, text))


KINDS: dict[str, Callable[[], st.SearchStrategy[Pair]]] = {
    "integer": lambda: integers(DEPTH),
    "decimal": lambda: decimals(DEPTH),
    "double": lambda: doubles(DEPTH),
    "condition": lambda: truths(DEPTH),
    "time": lambda: times(DEPTH),
    "string": lambda: strings(DEPTH),
    "unbracketed": unbracketed,
}


@st.composite
def cases(draw: st.DrawFn, kind: str) -> tuple[Pair, pa.Table]:
    """An expression that has a column, and a few rows of the columns that it has."""
    pair = draw(KINDS[kind]())
    names = sorted(set(re.findall(r"\b[a-z]+\b", re.sub(r"'[^']*'", "", pair[0]))) & CELLS.keys())
    assume(names)
    cells = CELLS | dict.fromkeys("ik", st.none() | st.integers(-3, 3)) if kind == "unbracketed" else CELLS
    rows = draw(st.lists(st.tuples(*(cells[name] for name in names)), min_size=3, max_size=8))
    return pair, twin.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def compare(connection: duckdb.DuckDBPyConnection, case: tuple[Pair, pa.Table]) -> None:
    (ours, theirs), rows = case
    column_type = check(ours, twin.COLUMNS)
    answers = twin.by_duckdb(connection, theirs, rows)
    assert twin.differences(twin.by_onnx(ours, rows, column_type), answers) == []


@FIXED
@given(case=cases("integer"))
def test_prep7_random_integer_expression(connection: duckdb.DuckDBPyConnection, case: tuple[Pair, pa.Table]) -> None:
    compare(connection, case)


@FIXED
@given(case=cases("decimal"))
def test_prep7_random_decimal_expression(connection: duckdb.DuckDBPyConnection, case: tuple[Pair, pa.Table]) -> None:
    compare(connection, case)


@FIXED
@given(case=cases("double"))
def test_prep7_random_double_expression(connection: duckdb.DuckDBPyConnection, case: tuple[Pair, pa.Table]) -> None:
    compare(connection, case)


@FIXED
@given(case=cases("condition"))
def test_prep7_random_condition(connection: duckdb.DuckDBPyConnection, case: tuple[Pair, pa.Table]) -> None:
    compare(connection, case)


@FIXED
@given(case=cases("time"))
def test_prep7_random_expression_of_times(connection: duckdb.DuckDBPyConnection, case: tuple[Pair, pa.Table]) -> None:
    compare(connection, case)


@FIXED
@given(case=cases("string"))
def test_prep7_random_expression_of_strings(connection: duckdb.DuckDBPyConnection, case: tuple[Pair, pa.Table]) -> None:
    compare(connection, case)


TEXT = st.text(
    st.sampled_from("ab.*\\[](){}^$|?+-/#& \n\t%_'é日") | st.characters(codec="utf-8", exclude_characters="\0"),
    max_size=4,
)


@FIXED
@given(pattern=TEXT, texts=st.lists(TEXT, min_size=1, max_size=8), around=st.tuples(TEXT, TEXT))
def test_prep7_any_text_can_be_matched_with(
    connection: duckdb.DuckDBPyConnection, pattern: str, texts: list[str], around: tuple[str, str]
) -> None:
    quoted = "'" + pattern.replace("'", "''") + "'"
    rows = twin.table({"s": [*texts, pattern, pattern.join(around), around[0] + pattern, None]})
    for template in (
        "s LIKE {}",
        "s NOT LIKE {}",
        "starts_with(s, {})",
        "ends_with(s, {})",
        "contains(s, {})",
        "s = {}",
    ):
        expression = template.format(quoted)
        ours = twin.by_onnx(expression, rows, check(expression, twin.COLUMNS))
        assert twin.differences(ours, twin.by_duckdb(connection, expression, rows)) == [], expression


@pytest.fixture(scope="module")
def lenient() -> duckdb.DuckDBPyConnection:
    """A DuckDB that makes null of each division by zero, rather than an error of the row."""
    return duckdb.connect(config={"error_on_division_by_zero": "false"})


@FIXED
@given(case=cases("unbracketed"))
def test_prep7_operators_bind_as_in_duckdb(lenient: duckdb.DuckDBPyConnection, case: tuple[Pair, pa.Table]) -> None:
    (text, _), rows = case
    try:
        column_type = check(text, twin.COLUMNS)
        answers = twin.by_duckdb(lenient, text, rows)
    except (ExpressionError, duckdb.Error):
        assume(False)
    assert twin.differences(twin.by_onnx(text, rows, column_type), answers) == []
