"""Which queries may run on several threads and still give the same answer each time."""

from __future__ import annotations

import duckdb
import pytest

from levada.steps.prepare.order import depends_on_order

WHOLE = {"a", "b", "k"}  # x is a double, t a time

INDEPENDENT = [
    "SELECT * FROM f JOIN g USING (a) WHERE x > 1",
    "SELECT DISTINCT a FROM f",
    "SELECT count(*), count(DISTINCT x), min(x), max(x), bool_or(x > 1), count_if(x > 1), median(x) FROM f",
    "SELECT sum(a), avg(a + 1), sum(DISTINCT b), sum(coalesce(a, 0) * b - 1) FILTER (WHERE x > 1) FROM f GROUP BY k",
    "SELECT sum(CASE WHEN x > 1 THEN 1 ELSE 0 END), sum(x > 1), sum(if(x > 1, 1, 0)), sum(x::BIGINT) FROM f",
    "SELECT rank() OVER (ORDER BY t), count(*) OVER (PARTITION BY k ORDER BY t), sum(a) OVER (ORDER BY t) FROM f",
    "SELECT isodow(t), list_sum([1.0, x]) FROM f",
]
DEPENDENT = [
    "SELECT sum(x) FROM f GROUP BY k",
    "SELECT avg(a / 2) FROM f",
    "SELECT sum(1.5) FROM f",
    "SELECT stddev(a) FROM f",
    "SELECT first(a), any_value(b) FROM f",
    "SELECT arg_max(a, b) FROM f",
    "SELECT list(a) FROM f",
    "SELECT favg(x) FROM f",
    "SELECT approx_quantile(x, 0.5) FROM f",
    "SELECT sum(x) OVER (PARTITION BY k ORDER BY t) FROM f",
    "SELECT sum(a) OVER (ORDER BY t ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) FROM f",
    "SELECT count(*) OVER w FROM f WINDOW w AS (ORDER BY t ROWS 3 PRECEDING)",
    "SELECT row_number() OVER (ORDER BY t) FROM f",
    "SELECT lag(a) OVER (ORDER BY t) FROM f",
    "SELECT a FROM f LIMIT 3",
    "SELECT a FROM f ORDER BY a OFFSET 3",
    "SELECT DISTINCT ON (a) b FROM f",
    "SELECT * FROM f ASOF JOIN g ON f.a = g.a AND f.t >= g.t",
    "SELECT * FROM f POSITIONAL JOIN g",
    "SELECT a, sum(a) FROM (SELECT x::DOUBLE AS a FROM f) GROUP BY a",
    "SELECT k, sum(a) FROM (SELECT k, x FROM f) AS q(k, a) GROUP BY k",
    "WITH q(k, a) AS (SELECT k, x FROM f) SELECT k, sum(a) FROM q GROUP BY k",
    "SELECT sum(a) FROM unnest([0.1, 0.2]) AS u(a)",
    "SELECT sum(a) FROM (VALUES (0.1), (0.2)) AS v(A)",
    "SELECT sum(a) FROM (SELECT * REPLACE (x AS a) FROM f)",
    "SELECT sum(a) FROM (SELECT * RENAME (x AS a) FROM g)",
    "SELECT sum(s.a) FROM (SELECT {a: x} AS s FROM f)",
    "SELECT sum(a) FROM (PIVOT f ON k IN ('a', 'b') USING max(x) GROUP BY g)",
    "SELECT sum(a) FROM (UNPIVOT f ON x, y INTO NAME n VALUE a)",
]
# Whole or not, these have one answer.
EXACT_AGGREGATES = {
    *(
        "approx_count_distinct",
        "bit_and",
        "bit_or",
        "bit_xor",
        "bool_and",
        "bool_or",
        "count",
        "count_if",
        "count_star",
    ),
    *("countif", "max", "median", "min", "quantile", "quantile_cont", "quantile_disc", "regr_count"),
}


@pytest.mark.parametrize("sql", INDEPENDENT)
def test_prep8_what_needs_no_order_gets_all_threads(sql: str) -> None:
    assert not depends_on_order(sql, WHOLE)


@pytest.mark.parametrize("sql", DEPENDENT)
def test_prep4_what_depends_on_the_order_of_rows_is_seen(sql: str) -> None:
    assert depends_on_order(sql, WHOLE)


def test_prep4_every_aggregate_of_duckdb_that_is_not_known_as_exact_depends_on_the_order() -> None:
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'"
        ).fetchall()
    taken = set()
    for (name,) in found:
        arguments = "x, y" if name in ("corr", "covar_pop", "covar_samp") or name.startswith("regr_") else "x"
        if not depends_on_order(f"SELECT {name}({arguments}) FROM f", WHOLE):
            taken.add(name)

    assert len(found) > 50
    assert taken <= EXACT_AGGREGATES
