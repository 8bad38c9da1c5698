"""What is refused, in which words, and what an expression is found to need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from levada.features.expressions import MAX_LENGTH, check, derive, request_columns
from levada.features.types import NULL_STRING, ColumnType, ExpressionError

COLUMNS = {
    "dep_time": ColumnType.INT64,
    "distance": ColumnType.FLOAT64,
    "carrier": ColumnType.STRING,
    "is_late": ColumnType.BOOLEAN,
    "time_hour": ColumnType.TIMESTAMP,
    "day": ColumnType.DATE,
    "Odd": ColumnType.INT64,
    "odd": ColumnType.INT64,
}

TEXTS = "ONNX Runtime does not treat texts as DuckDB does; put it in the query"
ROWS = "it needs more than one row; put it in the query"


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("dep_tim + 1", "there is no column 'dep_tim': did you mean 'dep_time'?"),
        ("zzz + 1", "there is no column 'zzz'"),
        ("ODD", "the column 'ODD' could be any of Odd, odd"),
        ("carrier + 1", "+ needs numbers, not a string"),
        ("is_late * 2", "* needs numbers, not a boolean"),
        ("sqrt(carrier)", "sqrt() needs numbers, not a string"),
        ("carrier = 5", "a comparison cannot mix integer and string"),
        ("dep_time = 'late'", "a comparison cannot read the text 'late' as an integer"),
        ("time_hour > 'noon'", "a comparison cannot read the text 'noon' as a timestamp"),
        ("time_hour > '2024-02-29 10:00+02'", "a comparison cannot read the text '2024-02-29 10:00+02' as a timestamp"),
        ("day = '2023-02-29'", "'2023-02-29' is not a time: day is out of range for month"),
        ("carrier < 'B'", "strings cannot be compared by order, only with = and <>"),
        ("greatest(carrier, 'B')", "greatest() of strings is not supported: strings cannot be compared by order"),
        ("CASE WHEN is_late THEN carrier ELSE dep_time END", "CASE cannot mix integer and string"),
        ("CASE WHEN carrier THEN 1 END", "CASE WHEN needs a condition, not a string"),
        ("NOT day", "NOT needs a condition, not a date"),
        ("hour(dep_time)", "hour() needs a timestamp or a date, not a integer"),
        ("time_hour + 1", "timestamp + integer is not supported: add or subtract an interval, such as INTERVAL 2 HOUR"),
        ("time_hour - day", "the result is an interval: make it a number with epoch() or date_diff()"),
        (
            "time_hour + INTERVAL 1 MONTH",
            "an interval in months is not supported: its length varies, use days or weeks",
        ),
        (
            "time_hour + INTERVAL 2.5 HOUR",
            "the interval '2.5 HOUR' is not understood: write whole numbers",
        ),
        ("date_part('eon', day)", "the date part 'eon' is not supported"),
        ("date_part(carrier, day)", "'carrier' has to be a date part in quotes, such as 'hour'"),
        ("date_part('hour')", "date_part() takes 2 arguments, not 1"),
        ("date_trunc('dow', day)", "date_trunc() to 'dow' is not supported"),
        (
            "lower(carrier)",
            f"lower() is not supported: {TEXTS}",
        ),
        (
            "carrier ILIKE 'a%'",
            f"'carrier ILIKE 'a%'' is not supported: {TEXTS}",
        ),
        ("carrier LIKE 'a!%' ESCAPE '!'", "'carrier LIKE 'a!%' ESCAPE '!'' is not supported"),
        ("carrier LIKE carrier", "LIKE needs a text in quotes to match with, not a column or an expression"),
        ("distance::varchar", "a double cannot be made a string: its digits would not be DuckDB's"),
        ("carrier::int", "CAST from string to integer is not supported"),
        ("distance::float", "the type REAL is not supported"),
        ("time_hour::int", "CAST from timestamp to integer is not supported"),
        ("tan(distance)", "tan() is not supported: write sin(x) / cos(x)"),
        (
            "atan2(distance, 1)",
            "atan2() is not supported: ONNX Runtime has no such function of doubles",
        ),
        ("isnan(distance)", "is_nan() is not supported: a NaN is a null here; write IS NULL"),
        ("log(3, distance)", "log() to the base 3 is not supported: write ln(x) / ln(3)"),
        ("round(distance, dep_time)", "round() needs the number of digits as a constant between -22 and 22"),
        ("dep_time & 1", "'dep_time & 1' is not supported"),
        ("weekdy(day)", "the function weekdy() is not supported: did you mean 'weekday'?"),
        ("sum(distance)", f"sum() is not supported: {ROWS}"),
        (
            "lag(distance) OVER ()",
            f"'LAG(distance) OVER ()' is not supported: {ROWS}",
        ),
        ("(SELECT 1)", f"'(SELECT 1)' is not supported: {ROWS}"),
        ("SELECT 1", f"'SELECT 1' is not supported: {ROWS}"),
        ("random()", "rand() is not supported: a feature depends on its row alone"),
        ("read_csv('x')", "read_csv() is not supported"),
        ("flights.distance", "'flights.distance' with 'table' is not supported"),
        ("distance AS d", "'distance AS d' is not supported"),
        ("distance; distance", "'distance; distance' is not supported"),
        ("distance > ?", "'?' is not supported"),
        ("1 + 1", "the expression uses no column, so it is the same for every row"),
        ("NULL", "the expression is always null"),
        (
            "dep_time = 9007199254740993",
            "the number 9007199254740993 is beyond 2**53, up to which integers are exact",
        ),
        (f"carrier = '{NULL_STRING}'", "the text U+10FFFD stands for null: write NULL"),
        ("distance +", "not a SQL expression"),
        ("'open", "not a SQL expression: a quote or a bracket is not closed"),
        ("", "not a SQL expression"),
        ("-- nothing", "not a SQL expression"),
        ("x" * (MAX_LENGTH + 1), "the expression is longer than 4096 characters"),
        ("(" * 1500 + "distance" + ")" * 1500, "the expression is nested too deeply"),
        ("-" * 1 + " -" * 1500 + "distance", "the expression is nested too deeply"),
    ],
)
def test_what_cannot_be_compiled_is_refused_in_one_sentence(expression: str, sentence: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        check(expression, COLUMNS)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_names_are_found_as_in_duckdb_whatever_their_case() -> None:
    assert check("DEP_TIME // 100", COLUMNS) is ColumnType.INT64
    assert check("Odd + odd", COLUMNS) is ColumnType.INT64
    assert check('"day" - "day"', COLUMNS) is ColumnType.INT64


@pytest.mark.parametrize(
    "name", ["year", "month", "date", "hour", "type", "value", "index", "Col A", "select", "größe"]
)
def test_column_may_have_the_name_of_a_keyword(name: str) -> None:
    quoted = f'"{name}"'
    assert check(f"{quoted} + 1", {name: ColumnType.INT64}) is ColumnType.INT64
    assert request_columns(quoted) == (name,)


def test_request_columns_come_in_order_and_once() -> None:
    assert request_columns("CASE WHEN b > a THEN b + hour(ts) ELSE 0 END") == ("b", "a", "ts")


def test_prep9_what_is_not_supported_is_known_before_the_types_are() -> None:
    with pytest.raises(ExpressionError, match=r"lower\(\) is not supported"):
        request_columns("coalesce(anything, lower(another))")
    with pytest.raises(ExpressionError, match="the type REAL is not supported"):
        request_columns("anything::real")


def test_a_feature_may_use_those_before_it() -> None:
    made = derive([("hour", "dep_time // 100"), ("late", "hour >= 22"), ("share", "hour * 0.5")], COLUMNS)
    assert made.types == {"hour": ColumnType.INT64, "late": ColumnType.BOOLEAN, "share": ColumnType.FLOAT64}


@pytest.mark.parametrize(
    ("derived", "sentence"),
    [
        ([("a", "a + 1")], "derived feature 'a': it uses itself"),
        ([("a", "b + 1"), ("b", "a + 1")], "derived feature 'a': it uses 'b', which is derived later"),
        (
            [("a", "distance"), ("A", "distance")],
            "derived feature 'A': there is a derived feature of that name already",
        ),
        ([("Carrier", "distance")], "derived feature 'Carrier': there is a column of that name already"),
        ([("a", "sum(distance)")], "derived feature 'a': sum() is not supported"),
    ],
)
def test_the_sentence_names_the_derived_feature(derived: list[tuple[str, str]], sentence: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        derive(derived, COLUMNS)
    assert str(caught.value).startswith(sentence)


def test_expressions_are_checked_without_numpy_and_onnx() -> None:
    """The operator's image has neither, and checks manifests all the same."""
    program = (
        "import sys; from levada.features.expressions import check; from levada.features.types import ColumnType;"
        "check('hour(t) + 1', {'t': ColumnType.TIMESTAMP});"
        "sys.exit(bool({'numpy', 'onnx', 'pyarrow', 'duckdb'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
