"""What the query of a FeatureSet may say."""

from __future__ import annotations

import duckdb
import pytest

from levada.errors import Stalled
from levada.features.query import BARE, OUTSIDE, VOLATILE, check_query, statement
from levada.resources.conditions import Reason

TABLES = ["flights", "weather"]

ALLOWED = [
    "SELECT * FROM flights",
    "SELECT * FROM Flights;",
    "-- why\nSELECT 1 AS a FROM flights; -- done",
    "FROM flights SELECT a",
    "WITH x AS (SELECT * FROM flights) SELECT a, sum(b) OVER (PARTITION BY a ORDER BY c) FROM x "
    "ASOF JOIN weather w ON x.a = w.a AND x.t >= w.t",
    "(SELECT a FROM flights) UNION ALL SELECT b FROM weather",
    "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r WHERE a < 3) SELECT * FROM r",
    "SELECT * FROM range(10) t(i), generate_series(1, 2), unnest([1]), (VALUES (1)) v(a), flights",
    "SELECT * FROM (PIVOT flights ON a IN ('x') USING sum(b))",
    "SELECT * EXCLUDE (a) REPLACE (b + 1 AS b) FROM flights QUALIFY row_number() OVER (PARTITION BY a ORDER BY b) = 1",
    "SELECT list_transform([1, 2], lambda x: x + 1), {'a': 1}.a, date '2020-01-01' FROM flights",
    "SELECT * FROM flights f, LATERAL (SELECT f.a + 1) t(b)",
    "SELECT age(a, b), stats, user, f.current_date, 'random()' AS now FROM flights f",
    "SELECT * FROM flights WHERE EXISTS (SELECT 1 FROM weather w WHERE w.a = flights.a)",
    "SELECT count(*) FILTER (WHERE x) FROM flights GROUP BY ALL ORDER BY ALL LIMIT 5",
]

# The query, where the sentence points (line, column), and words that it says.
REFUSED = [
    ("", None, "empty"),
    ("  -- nothing", None, "empty"),
    ("SELECT 'abc", None, "not closed"),
    ("SELECT /* x", None, "not closed"),
    ("SELEC a FROM flights", (1, 1), "'SELEC'"),
    ("SELECT a,\nFROM flights JOIN", (2, 14), "not SQL"),
    ("SELECT (", (1, 8), "not SQL"),
    ("SELECT 1; SELECT 2", (1, 9), "several statements"),
    ("SELECT a FROM flights; DROP TABLE flights", (1, 22), "several statements"),
    ("COPY (SELECT 1) TO 'x'", (1, 1), "'COPY'"),
    ("COPY flights TO 'x.csv'", (1, 1), "'COPY'"),
    ("ATTACH 'x.db'", (1, 1), "'ATTACH'"),
    ("PRAGMA database_list", (1, 1), "'PRAGMA'"),
    ("SET enable_external_access = true", (1, 1), "'SET'"),
    ("INSTALL httpfs", (1, 1), "'INSTALL'"),
    ("LOAD httpfs", (1, 1), "'LOAD'"),
    ("CALL pragma_version()", (1, 1), "'CALL'"),
    ("EXPLAIN SELECT 1", (1, 1), "'EXPLAIN'"),
    ("EXPORT DATABASE 'x'", (1, 1), "'EXPORT'"),
    ("CREATE TABLE x AS SELECT 1", (1, 1), "'CREATE'"),
    ("INSERT INTO flights SELECT 1", (1, 1), "'INSERT'"),
    ("SUMMARIZE flights", (1, 1), "'SUMMARIZE'"),
    ("VALUES (1)", (1, 1), "'VALUES'"),
    ("WITH x AS (DELETE FROM flights RETURNING *) SELECT * FROM x", None, "DELETE"),
    ("SELECT * INTO x FROM flights", None, "INTO"),
    ("SELECT * FROM (DESCRIBE flights)", None, "DESCRIBE"),
    ("SELECT * FROM (SHOW TABLES)", (1, 16), "one of its inputs"),
    ("SELECT * FROM 'x.csv'", (1, 15), "'x.csv'"),
    ('SELECT *\nFROM "x.csv"', (2, 6), "'x.csv'"),
    ("SELECT * FROM flights WHERE a IN (SELECT b FROM 's3://x/y.parquet')", (1, 49), "s3://x/y.parquet"),
    ("SELECT * FROM read_csv('/etc/passwd')", (1, 15), "read_csv"),
    ("SELECT * FROM READ_PARQUET('x')", (1, 15), "read_parquet"),
    ("SELECT *\nFROM flights,\n  read_text('/etc/passwd')", (3, 3), "read_text"),
    ("SELECT * FROM glob('/*')", (1, 15), "glob"),
    ("SELECT * FROM parquet_metadata('x')", (1, 15), "parquet_metadata()"),
    ("SELECT * FROM duckdb_settings()", (1, 15), "duckdb_settings()"),
    ("SELECT * FROM query('SELECT 1')", (1, 15), "query"),
    ("SELECT getenv('HOME') FROM flights", (1, 8), "getenv"),
    ("SELECT current_setting('temp_directory') FROM flights", (1, 8), "current_setting"),
    ("SELECT random() FROM flights", (1, 8), "random gives another answer each time"),
    ('SELECT "random"() FROM flights', (1, 8), "random"),
    ("SELECT main.random() FROM flights", (1, 13), "random"),
    ("SELECT a.uuid() FROM flights", (1, 10), "uuid"),
    ("SELECT a, now() FROM flights", (1, 11), "now"),
    ("SELECT current_date FROM flights", (1, 8), "current_date"),
    ("SELECT a FROM flights WHERE t > CURRENT_TIMESTAMP", (1, 33), "current_timestamp"),
    ("SELECT age(a) FROM flights", None, "age()"),
    ("SELECT * FROM flights USING SAMPLE 10%", None, "sample"),
    ("SELECT * FROM flights TABLESAMPLE 10%", None, "sample"),
    ("SELECT $1 FROM flights", None, "parameter"),
    ("SELECT * FROM wether", (1, 15), "did you mean 'weather'?"),
    ("SELECT * FROM planes", (1, 15), "the inputs are flights, weather"),
    ("SELECT * FROM main.flights", (1, 20), "main.flights"),
    ("SELECT * FROM information_schema.tables", (1, 34), "information_schema.tables"),
    ("SELECT * FROM duckdb_tables", (1, 15), "duckdb_tables"),
]


@pytest.mark.parametrize("sql", ALLOWED)
def test_prep1_a_select_over_the_inputs_is_allowed(sql: str) -> None:
    check_query(sql, TABLES)


@pytest.mark.parametrize(("sql", "place", "words"), REFUSED, ids=[sql for sql, _, _ in REFUSED])
def test_x5_anything_else_is_refused_by_name_in_one_sentence(
    sql: str, place: tuple[int, int] | None, words: str
) -> None:
    with pytest.raises(Stalled) as refused:
        check_query(sql, TABLES)

    message = refused.value.message
    assert refused.value.reason is Reason.INVALID_QUERY
    where = "spec.query" if place is None else f"spec.query, line {place[0]}, column {place[1]}"
    assert message.startswith(f"{where}: ")
    assert words.lower() in message.lower()
    assert "\n" not in message
    assert "<class" not in message


def test_prep4_whatever_duckdb_calls_unstable_is_refused() -> None:
    """DuckDB says of each function whether it gives the same answer to the same arguments."""
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE function_type = 'scalar' AND stability <> 'CONSISTENT'"
        ).fetchall()
    harmless = {"error"}  # it ends the query
    unstable = {name for (name,) in found} - harmless

    assert "random" in unstable
    assert unstable <= VOLATILE | OUTSIDE


def test_x5_every_function_that_reads_files_is_refused() -> None:
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN ('table', 'table_macro')"
        ).fetchall()
    allowed = {"range", "generate_series", "unnest"}
    for (name,) in found:
        if name not in allowed:
            with pytest.raises(Stalled):
                check_query(f"SELECT * FROM {name}('x')", TABLES)


def test_prep4_functions_without_parentheses_are_among_those_refused() -> None:
    assert BARE <= VOLATILE | OUTSIDE


def test_prep1_the_statement_is_the_text_without_what_surrounds_it() -> None:
    assert statement("-- a\n ;; SELECT 1 -- b\n AS c ; ;\n-- d") == "SELECT 1 -- b\n AS c"
