"""Demands on the whole batch: examined once all typed rows lie there, and carried out by writing them again.

Where such a demand rectifies or sets rows aside, the indexes leave typed rows under `staged/` with the line that each
came from, and what is left of them is written to `typed/` here. Otherwise they lie in `typed/` already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from levada.artifacts import StoredFile
from levada.methods.formats import BadRow
from levada.methods.formats.base import as_text
from levada.methods.formats.values import arrow_schema
from levada.methods.quality import Demand
from levada.methods.quality.rows import broken
from levada.methods.quality.whole import WholeChecks
from levada.resources.dataset import Column
from levada.steps.context import StepContext
from levada.steps.ingest.commit import Draft
from levada.steps.ingest.output import ORIGIN, QUARANTINE_SCHEMA, Quarantine, TypedFile
from levada.steps.ingest.part import LINE, must_stage
from levada.steps.ingest.profile import Profiler
from levada.steps.ingest.receipt import FileReceipt
from levada.steps.parquet import GROUP_ROWS, ParquetFile

_MEMORY = 1 << 30  # bytes that DuckDB may hold, unless the step has less


def examine(
    context: StepContext, prefix: str, columns: Sequence[Column], demands: Sequence[Demand], draft: Draft
) -> Draft:
    """The batch with demands on all of its rows met."""
    memory = min(_MEMORY, context.memory_limit_bytes // 2) if context.memory_limit_bytes else _MEMORY
    with WholeChecks(demands, context.scratch, memory) as checks:
        for file in draft.files:
            if file.typed is not None:
                checks.add(file.number, _batches(context, prefix, file.typed, checks.columns))
        if not any(file.typed for file in draft.files):
            return draft
        findings = checks.run()
        if not must_stage(demands):
            return Draft(draft.files, draft.sketches, findings=findings)
        profiler = Profiler(columns)
        files, extra, aside = [], [], 0
        for file in draft.files:
            profiler.start()
            typed, quarantine, first_bad = _rewrite(context, prefix, columns, checks, file, profiler)
            extra += [quarantine] if quarantine else []
            aside += quarantine.rows or 0 if quarantine else 0
            update = {
                "typed": typed,
                "rows": typed.rows if typed else 0,
                "moments": profiler.moments,
                "first_bad": file.first_bad or first_bad,
            }
            files.append(file.model_copy(update=update))
    return Draft(files, profiler.sketches, extra, aside, findings)


def _batches(
    context: StepContext, prefix: str, file: StoredFile, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    with closing(context.objects.reader(prefix + file.key)) as source:
        yield from pq.ParquetFile(source).iter_batches(columns=columns)


def _rewrite(
    context: StepContext,
    prefix: str,
    columns: Sequence[Column],
    checks: WholeChecks,
    file: FileReceipt,
    profiler: Profiler,
) -> tuple[StoredFile | None, StoredFile | None, str]:
    """Write what is left of a staged file, and what is not; why the first row was set aside."""
    if file.typed is None:
        return None, None, ""
    schema, name = arrow_schema(columns), f"{file.number:05d}"
    with (
        closing(context.objects.reader(prefix + file.typed.key)) as source,
        ParquetFile(context.objects, prefix, f"typed/{name}.parquet", schema) as typed,
        ParquetFile(context.objects, prefix, f"quarantine/{name}-batch.parquet", QUARANTINE_SCHEMA) as quarantine,
    ):
        staged = pq.ParquetFile(source)
        groups, aside = TypedFile(typed), Quarantine(quarantine)

        def finish(finished: Iterator[pa.Table]) -> None:
            for group in finished:
                typed.write(group)
                profiler.add(group)

        for first, origin, batch in _runs(staged):
            lines = batch.column(LINE)
            rest = checks.rest(file.number, first, first + batch.num_rows)
            gone = checks.gone(file.number, first, first + batch.num_rows)
            texts = batch.drop_columns([LINE]).take(pa.array([g.row - first for g in gone], pa.int64())).to_pylist()
            aside.add(
                origin,
                [
                    BadRow(lines[g.row - first].as_py(), g.demand.column, broken(g.demand, g.value), as_text(row))
                    for g, row in zip(gone, texts, strict=True)
                ],
            )
            kept = pa.table(batch.take(pc.subtract(rest["row"].combine_chunks(), first)))
            for column in checks.columns:
                at = kept.schema.get_field_index(column)
                kept = kept.set_column(at, column, rest[column].cast(kept.schema.field(at).type))
            finish(groups.add(kept.select(schema.names), origin, lines[0].as_py()))
        finish(groups.end())
        aside.flush()
    return typed.stored, quarantine.stored, aside.first


def _runs(staged: pq.ParquetFile) -> Iterator[tuple[int, str, pa.RecordBatch]]:
    """The rows of a staged file in runs that come from one file each: number of the first row, file, rows."""
    marks = json.loads(staged.metadata.metadata[ORIGIN.encode()])
    files = [mark for i, mark in enumerate(marks) if i == 0 or mark["file"] != marks[i - 1]["file"]]
    start = 0
    for batch in staged.iter_batches(GROUP_ROWS):
        stop = start + batch.num_rows
        cuts = [start, *(mark["row"] for mark in files if start < mark["row"] < stop), stop]
        for first, end in pairwise(cuts):
            origin = next(mark["file"] for mark in reversed(files) if mark["row"] <= first)
            yield first, origin, batch.slice(first - start, end - first)
        start = stop
