"""Demands that only the whole batch can meet or break: no repeats, no outliers.

The checked columns of all files go into one DuckDB table on disk, which spills what does not fit into memory. Demands
are taken one after the other, each on what the ones before it left.

- `unique`: of rows with the same value the first, by file and row, is right; nulls do not repeat.
- `outliers k`: a value may lie at most k interquartile ranges from the median; NaN and infinities always break it.
  Where half of the values are the same, the range is zero and nothing is an outlier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from levada.features.types import ColumnType
from levada.methods.quality.demands import Demand, Finding


@dataclass(frozen=True)
class Gone:
    """A row that is set aside: its position in its file, the demand that it breaks, and the value that breaks it."""

    row: int
    demand: Demand
    value: str


class WholeChecks:
    """The demands of a batch that need all of its rows.

    Feed it every file (`add`), then `run`, then ask what is left of each file (`rest`) and what is not (`gone`).
    """

    def __init__(self, demands: Sequence[Demand], folder: Path, memory_bytes: int) -> None:
        self._demands = demands
        self._columns = sorted({demand.column for demand in demands})
        self._connection = duckdb.connect(str(folder / "quality.duckdb"))
        for option, value in (
            ("memory_limit", f"{memory_bytes}B"),
            ("temp_directory", str(folder / "quality.tmp")),
            ("preserve_insertion_order", "true"),
            ("enable_external_access", "false"),
        ):
            self._connection.execute(f"SET {option} = '{value}'")
        self._exists = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def columns(self) -> list[str]:
        """The columns that are needed."""
        return self._columns

    def add(self, file: int, batches: Iterable[pa.RecordBatch]) -> None:
        """The rows of a file, by its number; batches have at least `columns`."""
        first = 0
        for batch in batches:
            rows = pa.table(
                {
                    "file": pa.repeat(pa.scalar(file, pa.int32()), batch.num_rows),
                    "row": pa.array(range(first, first + batch.num_rows), pa.int64()),
                    **{f"c{i}": batch.column(name) for i, name in enumerate(self._columns)},
                }
            )
            self._connection.register("rows", rows)
            start = "INSERT INTO t" if self._exists else "CREATE TABLE t AS"
            self._connection.execute(f"{start} SELECT * FROM rows")
            self._connection.unregister("rows")
            self._exists = True
            first += batch.num_rows

    def run(self) -> list[Finding]:
        """What was found for each demand; at least one row must have been added."""
        execute = self._connection.execute
        execute("CREATE TABLE gone (file INTEGER, row BIGINT, demand INTEGER, value VARCHAR)")
        findings = []
        for number, demand in enumerate(self._demands):
            column = f"c{self._columns.index(demand.column)}"
            select = self._repeats(column) if demand.kind == "unique" else self._outliers(column, demand)
            execute(f"CREATE OR REPLACE TABLE broken AS {select}")
            findings.append(self._finding())
            if demand.action == "quarantine" or (demand.action == "rectify" and not demand.may_be_null):
                condition = "better IS NULL" if demand.action == "rectify" else "true"
                execute(f"INSERT INTO gone SELECT file, row, {number}, value::VARCHAR FROM broken WHERE {condition}")
            if demand.action == "rectify":
                execute(f"UPDATE t SET {column} = better FROM broken b WHERE t.file = b.file AND t.row = b.row")
            execute("DELETE FROM t USING gone g WHERE t.file = g.file AND t.row = g.row")
        return findings

    def rest(self, file: int, start: int, stop: int) -> pa.Table:
        """What is left of the rows [start, stop) of a file: `row`, and the checked columns as they are now."""
        columns = ", ".join(f'c{i} AS "{name}"' for i, name in enumerate(self._columns))
        return self._connection.sql(
            f"SELECT row, {columns} FROM t WHERE file = ? AND row >= ? AND row < ? ORDER BY row",
            params=[file, start, stop],
        ).to_arrow_table()

    def gone(self, file: int, start: int, stop: int) -> list[Gone]:
        """Which of the rows [start, stop) of a file are set aside, in their order."""
        found = self._connection.execute(
            "SELECT row, demand, value FROM gone WHERE file = ? AND row >= ? AND row < ? ORDER BY row",
            [file, start, stop],
        ).fetchall()
        return [Gone(row, self._demands[demand], value) for row, demand, value in found]

    def _finding(self) -> Finding:
        (count,) = self._fetch("SELECT count(*) FROM broken")
        if not count:
            return Finding()
        file, row, value = self._fetch("SELECT file, row, value::VARCHAR FROM broken ORDER BY file, row LIMIT 1")
        return Finding(count, file, row, value)

    def _repeats(self, column: str) -> str:
        return f"""
            SELECT file, row, {column} AS value, NULL AS better
            FROM (SELECT *, row_number() OVER (PARTITION BY {column} ORDER BY file, row) AS nth FROM t)
            WHERE {column} IS NOT NULL AND nth > 1"""

    def _outliers(self, column: str, demand: Demand) -> str:
        bounds = self._bounds(column, demand.value)
        if bounds is None:
            return f"SELECT file, row, {column} AS value, NULL AS better FROM t WHERE false"
        low, high = (f"'{bound!r}'::DOUBLE" for bound in bounds)
        if demand.type is ColumnType.INT64:
            better = f"CASE WHEN {column} < {low} THEN ceil({low})::BIGINT ELSE floor({high})::BIGINT END"
        else:
            better = f"CASE WHEN isnan({column}) THEN NULL WHEN {column} < {low} THEN {low} ELSE {high} END"
        # NaN is greater than any number for DuckDB.
        beyond = f"{column} < {low} OR {column} > {high}"
        return f"SELECT file, row, {column} AS value, {better} AS better FROM t WHERE {beyond}"

    def _bounds(self, column: str, ranges: float) -> tuple[float, float] | None:
        """Median minus and plus so many interquartile ranges; quantiles are interpolated linearly."""
        # A sort spills to disk, an exact quantile function does not.
        self._connection.execute(
            f"CREATE OR REPLACE TABLE sorted AS SELECT {column}::DOUBLE AS x FROM t WHERE isfinite(x) ORDER BY x"
        )
        (count,) = self._fetch("SELECT count(*) FROM sorted")
        if not count:
            return None
        lower, median, upper = (self._quantile(count, q) for q in (0.25, 0.5, 0.75))
        if upper == lower:
            return None
        return median - ranges * (upper - lower), median + ranges * (upper - lower)

    def _quantile(self, count: int, q: float) -> float:
        position = (count - 1) * q
        below = int(position)
        values = [
            self._fetch(f"SELECT x FROM sorted WHERE rowid = {row}")[0] for row in (below, min(below + 1, count - 1))
        ]
        return float(values[0] + (values[1] - values[0]) * (position - below))

    def _fetch(self, query: str) -> tuple[Any, ...]:
        row = self._connection.execute(query).fetchone()
        assert row is not None  # each query that is asked here has one
        return row
