"""The share of an index: its files, each read once, copied, typed, checked and profiled in one pass.

A file's bytes go to the copy (hashed and written in one thread) and on to decompression (another), parsing (another),
and to checks, profile and Parquet (another). Queues between them are short, so memory is bounded by blocks and row
groups, whatever the size of a file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from levada.artifacts import Listing, StoredFile
from levada.methods.formats import Content, Reader, Rows, unpack
from levada.methods.formats.values import arrow_schema
from levada.methods.quality import Demand, Tally, check_rows
from levada.methods.quality.rows import without_nulls
from levada.methods.sources import EntrySource
from levada.steps.context import StepContext
from levada.steps.ingest.output import QUARANTINE_SCHEMA, Quarantine, TypedFile, store_original
from levada.steps.ingest.profile import Profiler, Sketch
from levada.steps.ingest.receipt import BatchSchema, FileReceipt, Receipt, Violations
from levada.steps.parquet import ParquetFile
from levada.steps.stages import Aborted, Stage, prefetch

LINE = "__line"  # column of staged files: where a row stood in its file
_AT_ONCE = 2  # files under way, so that the beginning of one overlaps with the end of another
_ROOMY = 1 << 30  # bytes of memory below which files are taken one by one
_DEPTH = 2  # blocks that wait for a stage


def must_stage(demands: Sequence[Demand]) -> bool:
    """Whether typed rows will be written again."""
    return any(demand.action in ("rectify", "quarantine") for demand in demands)


@dataclass(frozen=True)
class Part:
    """What is needed to do the shares of a batch."""

    context: StepContext
    prefix: str
    source: EntrySource
    reader: Reader
    listing: Listing
    schema: BatchSchema
    demands: Sequence[Demand]  # those that rows meet or break by themselves
    staged: bool  # typed rows will be written again when all are there

    def run(self, index: int) -> Receipt:
        """Ingest every n-th file of the listing, from the one of this index on."""
        mine = list(enumerate(self.listing.entries))[index :: self.context.input.completions]
        meter = _Meter(self.context, sum(entry.bytes for _, entry in mine))
        stop = threading.Event()
        files: list[FileReceipt] = []
        sketches = [Sketch() for _ in self.schema.columns]
        limit = self.context.memory_limit_bytes
        with ThreadPoolExecutor(1 if limit is not None and limit < _ROOMY else _AT_ONCE) as pool:
            try:
                for done in [pool.submit(_File(self, number, entry, meter, stop).ingest) for number, entry in mine]:
                    receipt, seen = done.result()
                    files.append(receipt)
                    for sketch, other in zip(sketches, seen, strict=True):
                        sketch.merge(other)
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        meter.end()
        return Receipt(index=index, files=files, distinct=[sketch.to_text() for sketch in sketches])


class _Meter:
    """Says how far the part is: rows, and how many there will be if the bytes to come hold as many as those so far."""

    def __init__(self, context: StepContext, total: int) -> None:
        self._progress = context.progress
        self._total = total
        self._bytes = 0
        self._rows = 0
        self._lock = threading.Lock()

    def read(self, size: int) -> None:
        with self._lock:
            self._bytes += size

    def wrote(self, rows: int) -> None:
        with self._lock:
            self._rows += rows
            expected = round(self._rows * self._total / self._bytes) if self._bytes else self._rows
            self._progress("ingest", self._rows, max(expected, self._rows + 1), "rows")

    def end(self) -> None:
        self._progress("ingest", self._rows, self._rows, "rows")


class _File:
    """One file of the listing on its way into the batch."""

    def __init__(self, part: Part, number: int, entry: Listing.Entry, meter: _Meter, stop: threading.Event) -> None:
        self._part = part
        self._number = number
        self._entry = entry
        self._path = part.source.path(entry)
        self._meter = meter
        self._stop = stop
        self._tallies = [Tally() for _ in part.demands]

    def ingest(self) -> tuple[FileReceipt, list[Sketch]]:
        """Copy, type, check and profile the file; what became of it, and a sketch of each column."""
        part, objects = self._part, self._part.context.objects
        self._profiler = Profiler(part.schema.columns)
        store = partial(store_original, objects, part.prefix, f"original/{self._path}")
        with Stage(store, 2 * _DEPTH) as copy, Stage(self._write, _DEPTH) as writing:
            stream = self._tee(copy)
            for file in unpack(Content(self._path, lambda: stream, part.context.scratch)):
                ahead = prefetch(file.stream(), 2 * _DEPTH)
                content = Content(file.name, lambda ahead=ahead: ahead, file.scratch, file.opener)  # type: ignore[misc]
                for rows in part.reader.read(content, part.schema.columns, part.schema.inferred):
                    writing.put((file.name, rows))
            for _ in stream:  # what the reader had no need of belongs to the copy all the same
                pass
        typed, quarantine, aside = writing.result
        receipt = FileReceipt(
            number=self._number,
            original=copy.result,
            typed=typed.stored,
            quarantine=quarantine.stored,
            rows=typed.rows,
            quarantined=aside.count,
            first_bad=aside.first,
            moments=self._profiler.moments,
            violations=[Violations(count=t.violations, line=t.line, value=t.value[:256]) for t in self._tallies],
        )
        return receipt, self._profiler.sketches

    def _tee(self, copy: Stage[bytes, StoredFile]) -> Iterator[bytes]:
        for chunk in self._part.source.read(self._entry):
            if self._stop.is_set():
                raise Aborted
            copy.put(chunk)
            self._meter.read(len(chunk))
            yield chunk

    def _write(self, items: Iterator[tuple[str, Rows]]) -> tuple[ParquetFile, ParquetFile, Quarantine]:
        part, objects = self._part, self._part.context.objects
        columns = part.schema.columns
        never_null = [column.name for column in columns if not column.nullable]
        schema, folder = arrow_schema(columns), "typed"
        if part.staged:
            schema, folder = schema.append(pa.field(LINE, pa.int64())), "staged"
        name = f"{self._number:05d}.parquet"
        with (
            ParquetFile(objects, part.prefix, f"{folder}/{name}", schema) as typed,
            ParquetFile(objects, part.prefix, f"quarantine/{name}", QUARANTINE_SCHEMA) as quarantine,
        ):
            groups, aside = TypedFile(typed), Quarantine(quarantine)
            for file, rows in items:
                rows = check_rows(without_nulls(rows, never_null), part.demands, self._tallies)
                aside.add(file, rows.bad)
                table = _with_lines(rows) if part.staged else rows.table
                for group in groups.add(table, file, rows.line):
                    self._finish(typed, group)
                self._meter.wrote(table.num_rows)
            for group in groups.end():
                self._finish(typed, group)
            aside.flush()
        return typed, quarantine, aside

    def _finish(self, typed: ParquetFile, group: pa.Table) -> None:
        typed.write(group)
        self._profiler.add(group)


def _with_lines(rows: Rows) -> pa.Table:
    lines = [line for line, _ in rows.places(range(rows.table.num_rows))]
    return rows.table.append_column(LINE, pa.array(lines, pa.int64()))
