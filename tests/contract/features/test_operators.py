"""Every operator and function against DuckDB's own answer, over rows of ordinary, extreme and null values."""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from sqlglot import exp

from levada.features.export import compile_derived
from levada.features.expressions import check, parse
from levada.features.rules import FUNCTIONS, RULES
from levada.features.types import ColumnType
from tests.contract.features import twin

INTEGERS = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    7,
    -7,
    12,
    49,
    50,
    59,
    100,
    149,
    1250,
    -1250,
    2024,
    2**31,
    -(2**31) - 1,
    10**11 + 7,
    None,
]
DOUBLES: list[float | None] = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.0,
    1.5,
    2.5,
    -2.5,
    8.0,
    0.1,
    1.255,
    -3.14159,
    1e10,
    49.99,
    1000.0,
    2.0**52 + 1,
]
DOUBLES += [0.49999999999999994, 1e300, -1e308, 0.125, 5e-324, float("inf"), float("-inf"), None]
STRINGS = ["a", "b", "abc", "", "%", "a_c", "aXc", "Été", "x\ny", "NULL", "ABC", " a", "a%", "a.c", "[a]", "日本", None]
TIMES = [
    *map(datetime.fromisoformat, ("1970-01-01", "1969-12-31 23:59:59.999999", "2024-02-29 13:14:15.123456")),
    *map(datetime.fromisoformat, ("2000-01-01", "1900-03-01 12:00", "1899-12-31 01:00", "1600-02-29", "0001-01-01")),
    *map(datetime.fromisoformat, ("9999-12-31 23:59:59.999999", "2020-12-31 05:59", "2021-01-03", "2023-10-01 00:30")),
    *(datetime.fromisoformat("2100-02-28 23:00"), None),
]
TRUTHS = [True, False, None]

# The C library's result may differ from the graph's by this much; and a range to try it over.
NEAR: dict[str, tuple[dict[str, Any], float, float]] = {
    "exp(x)": ({"ulps": 2}, -700, 700),
    "log(x)": ({"ulps": 2}, 1e-300, 10),
    "log10(x)": ({"ulps": 2}, 0, 1e10),
    "log2(x)": ({"ulps": 1}, 0, 1e10),
    "log(2, x)": ({"ulps": 1}, 0.5, 2),
    "log(10, i)": ({"ulps": 2}, 0.5, 2),
    "sin(x)": ({"absolute": 2.0**-49}, -1000, 1000),
    "cos(x)": ({"absolute": 2.0**-49}, -1000, 1000),
    "sin(2 * pi() * (hour(ts) * 60 + minute(ts)) / 1440)": ({"absolute": 2.0**-49}, 0, 1),
    "tanh(x)": ({"absolute": 2.0**-49}, -20, 20),
}
PARTS = (
    *("year", "years", "y", "yr", "yrs", "quarter", "quarters", "month", "months", "mon", "mons", "week", "weeks", "w"),
    *("weekofyear", "day", "days", "d", "dayofmonth", "dow", "dayofweek", "weekday", "isodow", "doy", "dayofyear"),
    *("isoyear", "hour", "hours", "h", "hr", "hrs", "minute", "minutes", "m", "min", "mins", "second", "seconds", "s"),
    *("sec", "secs", "millisecond", "milliseconds", "ms", "msec", "msecs", "microsecond", "microseconds", "us", "usec"),
    *("usecs", "epoch"),
)


def exact_expressions() -> list[str]:
    lines = Path(__file__).with_name("expressions.sql").read_text().splitlines()
    return [line for line in lines if not line.startswith("--")]


def _grid() -> pa.Table:
    """Every pair of values of each type, side by side; nulls among them."""
    pairs: dict[tuple[str, ...], list[tuple[Any, ...]]] = {
        ("i", "j"): list(itertools.product(INTEGERS, INTEGERS)),
        ("x", "y"): list(itertools.product(DOUBLES, DOUBLES)),
        ("s", "r"): list(itertools.product(STRINGS, STRINGS)),
        ("ts", "us"): list(itertools.product(TIMES, TIMES)),
        ("d", "e"): [(a and a.date(), b and b.date()) for a, b in itertools.product(TIMES, TIMES)],
        ("b", "c"): list(itertools.product(TRUTHS, TRUTHS)),
        ("k",): [(value,) for value in (0, 1, -1, 5, 24, None, 99, -250, 3000)],
    }
    rows = max(map(len, pairs.values()))
    random = np.random.default_rng(7)
    columns: dict[str, list[Any]] = {}
    for names, values in pairs.items():
        order = [int(n) for n in random.permutation(len(values))]
        cells = [values[order[n % len(values)]] for n in range(rows)]
        columns |= {name: [cell[position] for cell in cells] for position, name in enumerate(names)}
    return twin.table(columns)


@pytest.fixture(scope="module")
def grid() -> pa.Table:
    return _grid()


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@pytest.mark.parametrize("expression", exact_expressions())
def test_prep7_expression_has_duckdbs_answer_and_type(
    expression: str, grid: pa.Table, connection: duckdb.DuckDBPyConnection
) -> None:
    column_type = check(expression, twin.COLUMNS)
    theirs = twin.by_duckdb(connection, expression, grid)
    assert column_type == _column_type(connection, expression)
    assert twin.differences(twin.by_onnx(expression, grid, column_type), theirs) == []


@pytest.mark.parametrize("expression", NEAR)
def test_prep7_transcendental_function_is_as_near_to_duckdbs_answer_as_stated(
    expression: str, grid: pa.Table, connection: duckdb.DuckDBPyConnection
) -> None:
    tolerance, low, high = NEAR[expression]
    random = np.random.default_rng(5)
    for rows in (grid, twin.table({"x": random.uniform(low, high, 20_000).tolist(), "i": range(20_000)})):
        ours = twin.by_onnx(expression, rows, check(expression, twin.COLUMNS))
        assert twin.differences(ours, twin.by_duckdb(connection, expression, rows), **tolerance) == []


def test_prep7_logarithm_of_a_power_of_its_base_is_exact(connection: duckdb.DuckDBPyConnection) -> None:
    for expression, powers in (
        ("log10(x)", [10.0**n for n in range(23)]),
        ("log2(x)", [2.0**n for n in range(-99, 99)]),
    ):
        rows = twin.table({"x": powers})
        ours = twin.by_onnx(expression, rows, ColumnType.FLOAT64)
        assert twin.differences(ours, twin.by_duckdb(connection, expression, rows)) == []


@pytest.mark.parametrize("part", PARTS)
def test_prep7_date_part_has_duckdbs_spellings(
    part: str, grid: pa.Table, connection: duckdb.DuckDBPyConnection
) -> None:
    for column in ("ts", "d"):
        expression = f"date_part('{part}', {column})"
        ours = twin.by_onnx(expression, grid, check(expression, twin.COLUMNS))
        assert twin.differences(ours, twin.by_duckdb(connection, expression, grid)) == []


def test_prep7_calendar_agrees_on_every_day_of_four_centuries_and_the_ends_of_time(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    numbers = [*range(-141_000, 150_000), *range(-719_162, -718_000), *range(2_931_000, 2_932_897)]
    days = pa.array(numbers, pa.int32()).cast(pa.date32())
    rows = pa.table({"d": days})
    for part in ("year", "quarter", "month", "week", "isoyear", "day", "doy", "dow", "isodow"):
        expression = f"date_part('{part}', d)"
        connection.register("days", rows)
        theirs = connection.sql(f"SELECT {expression} AS answer FROM days").to_arrow_table()["answer"].to_numpy()
        ours = twin.run(expression, rows).reshape(-1)
        assert np.array_equal(ours, theirs), part
    for unit in ("year", "quarter", "month", "week"):
        expression = f"date_trunc('{unit}', d)"
        theirs = connection.sql(f"SELECT epoch_us({expression}) AS answer FROM days").to_arrow_table()["answer"]
        assert np.array_equal(twin.run(expression, rows).reshape(-1), theirs.to_numpy()), unit


@pytest.mark.parametrize("expression", [*exact_expressions(), *NEAR])
def test_score1_a_rows_result_does_not_depend_on_the_rows_beside_it(expression: str, grid: pa.Table) -> None:
    running = twin.session(compile_derived([("answer", expression)], twin.COLUMNS))
    feeds = twin.tensors(grid, [entry.name for entry in running.get_inputs()])
    (whole,) = running.run(None, feeds)
    for size in (1, 2, 7):
        for start in range(0, 21, size):
            rows = slice(start, start + size)
            (part,) = running.run(None, {name: cells[rows] for name, cells in feeds.items()})
            assert _bits(part) == _bits(whole[rows]), f"rows {start} to {start + size}"


def _bits(cells: Any) -> Any:
    return cells.tolist() if cells.dtype == object else cells.tobytes()


@pytest.mark.parametrize(
    "expression", ["i + 1", "i - j", "i // j", "i % j", "i // 7", "abs(i)", "-i", "i <> j", "i > j"]
)
def test_prep7_integers_are_exact_to_two_to_the_53(expression: str, connection: duckdb.DuckDBPyConnection) -> None:
    ends = [2**53 - 1, 2**53 - 2, 2**52 + 1, 3, 1, -1, -(2**53) + 1, 94_906_266, 94_906_265]
    pairs = [(a, b) for a, b in itertools.product(ends, ends) if abs(a - b) <= 2**53]
    rows = twin.table({"i": [a for a, _ in pairs], "j": [b for _, b in pairs]})
    ours = twin.by_onnx(expression, rows, check(expression, twin.COLUMNS))
    assert twin.differences(ours, twin.by_duckdb(connection, expression, rows)) == []


def test_prep7_every_operator_and_function_is_compared_here() -> None:
    trees = [parse(expression) for expression in (*exact_expressions(), *NEAR)]
    classes = {type(node) for tree in trees for node in tree.walk()}
    names = {node.name.lower() for tree in trees for node in tree.find_all(exp.Anonymous)}
    names |= {"date_part", "datepart"}  # by the test of spellings
    assert set(RULES) - classes == set()
    assert set(FUNCTIONS) - names == set()


def _column_type(connection: duckdb.DuckDBPyConnection, expression: str) -> ColumnType:
    """The column type that stands for DuckDB's type of an expression."""
    ((described,),) = connection.execute(f"SELECT typeof({expression}) FROM rows LIMIT 1").fetchall()
    name = described.split("(")[0]
    kinds = {
        **dict.fromkeys(
            ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"), ColumnType.INT64
        ),
        **dict.fromkeys(("DECIMAL", "DOUBLE"), ColumnType.FLOAT64),
        "VARCHAR": ColumnType.STRING,
        "BOOLEAN": ColumnType.BOOLEAN,
        "TIMESTAMP": ColumnType.TIMESTAMP,
        "DATE": ColumnType.DATE,
    }
    return kinds[name]
