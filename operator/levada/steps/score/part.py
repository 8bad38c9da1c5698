"""Scores one part: reading, scoring, writing and copying into the catalogue run beside each other, in order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from levada import names
from levada.artifacts import LookupSpec, ModelManifest, StoredFile
from levada.errors import Stalled
from levada.features.model import CHUNK_ROWS, RUN_ERRORS, OnnxModel, Tensors, first_line
from levada.resources.conditions import Reason
from levada.steps.context import StepContext
from levada.steps.cores import cores
from levada.steps.io import ScoreWork
from levada.steps.parquet import GROUP_ROWS, ParquetFile
from levada.steps.rows import tensors
from levada.steps.score.output import OWN, PROBABILITIES, ROW, VALUE, Layout, plain
from levada.steps.score.receipt import Part, Receipt, draft
from levada.steps.score.source import Given, open_given, part_of
from levada.steps.stages import Stage, in_order, prefetch

AHEAD = 4  # batches that wait between two stages
Prepared = tuple[int, pa.RecordBatch, Tensors]  # number of the first row, rows of the input, and what the model takes
Scored = tuple[pa.RecordBatch, pa.RecordBatch]  # rows of the input, and their scores


def score_part(context: StepContext, work: ScoreWork, model: ModelManifest, part: Part) -> Receipt:
    """Score the rows of a part, write their file and their catalogue rows; the receipt, not yet written."""
    session = OnnxModel(_load(context, work, model))
    given = open_given(context, work, model, part.listing)
    if given.rows.count == 0:
        raise Stalled(Reason.NO_ROWS, f"{given.name} has no rows, so there is nothing to score")
    layout = _layout(work, model, given)
    lookups = _missing_lookups(work, model, given)
    start, stop = part_of(given.rows.count, part.index, context.input.completions)
    if start == stop:
        return Receipt(index=part.index, rows=0)

    def prepared(batches: Iterator[pa.RecordBatch]) -> Iterator[Prepared]:
        first = start
        for batch in batches:
            try:
                columns = tensors(batch, model.inputs)
            except ValueError as error:
                raise Stalled(Reason.INVALID_DATA, f"{given.name}, rows from {first} on: {error}") from error
            _refuse_unseen(model, given, first, batch)
            yield first, batch, columns
            first += batch.num_rows

    def score(one: Prepared) -> Scored:
        first, batch, columns = one
        try:
            found = session.run(columns)
        except RUN_ERRORS as error:
            raise Stalled(
                Reason.INVALID_DATA,
                f"the model '{work.candidate}' cannot score {given.name}, rows from {first} on: {first_line(error)}",
            ) from error
        return batch, layout.rows(first, batch, found)

    with ExitStack() as stack:
        batches = stack.enter_context(_batches(context, given, model, layout, lookups, start, stop))
        file = stack.enter_context(Stage(partial(_write, context, part.prefix, part.key), AHEAD))
        copy = stack.enter_context(_copied(context, work, model, layout, part.index, start))
        # Closed before that which it reads from: nobody may read from an engine that is gone.
        ahead = stack.enter_context(closing(prefetch(prepared(batches), AHEAD)))
        pool = stack.enter_context(ThreadPoolExecutor(cores(), "score"))
        done = start
        for rows in in_order(pool, score, ahead, cores() + 2):
            file.put(rows[1])
            if copy is not None:
                copy.put(rows)
            done += rows[1].num_rows
            context.progress("score", done - start, stop - start)
    return Receipt(index=part.index, rows=stop - start, file=file.result)


def _load(context: StepContext, work: ScoreWork, model: ModelManifest) -> bytes:
    data = context.objects.get(work.model_prefix + model.onnx.key)
    if names.digest(data) != model.onnx.digest:
        raise Stalled(
            Reason.INVALID_DATA,
            f"{context.objects.uri(work.model_prefix + model.onnx.key)} has not the digest that its manifest names: "
            "train or register the model anew",
        )
    return data


def _layout(work: ScoreWork, model: ModelManifest, given: Given) -> Layout:
    """What is written for each row; raises Stalled where that is not possible."""
    copied = work.columns or [*given.keys, *([given.timestamp] if given.timestamp else [])]
    for name in copied:
        if name not in given.columns:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"spec.output.columns names '{name}', which {given.name} does not have (it has: "
                f"{', '.join(given.columns)})",
            )
        if name in OWN:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"the column '{name}' cannot be copied to the scores, which have a column of that name: list others in "
                "spec.output.columns",
            )
    return Layout(model, copied, given.keys, given.timestamp)


def _missing_lookups(work: ScoreWork, model: ModelManifest, given: Given) -> list[LookupSpec]:
    """The lookups that have to be joined, because the rows lack columns that the model takes from them; raises Stalled
    where rows lack a column that nothing brings."""
    absent = [column.name for column in model.inputs if column.name not in given.columns]
    lookups = [spec for spec in model.lookups if any(column.name in absent for column in spec.columns)]
    brought = {column.name for spec in lookups for column in spec.columns}
    needed = [*(name for name in absent if name not in brought)]
    for spec in lookups:
        needed += [name for name in [*spec.on, *([spec.as_of] if spec.as_of else [])] if name not in given.columns]
    if needed:
        raise Stalled(
            Reason.INVALID_DATA,
            f"{given.name} has no column '{needed[0]}', which the model '{work.candidate}' needs (it takes: "
            f"{', '.join(column.name for column in model.request)})",
        )
    return lookups


@contextmanager
def _batches(
    context: StepContext,
    given: Given,
    model: ModelManifest,
    layout: Layout,
    lookups: list[LookupSpec],
    start: int,
    stop: int,
) -> Iterator[Iterator[pa.RecordBatch]]:
    """The rows of the part with all columns that the model and the output need."""
    brought = {column.name for spec in lookups for column in spec.columns}
    own = [column.name for column in model.inputs if column.name not in brought] + layout.columns
    if not lookups:
        yield given.rows.batches(list(dict.fromkeys(own)), start, stop, CHUNK_ROWS)
        return
    from levada.steps.score.lookups import looked_up

    for spec in lookups:
        own += [*spec.on, *([spec.as_of] if spec.as_of else [])]
    with looked_up(context, given, lookups, list(dict.fromkeys(own)), start, stop, CHUNK_ROWS) as batches:
        yield batches


def _write(context: StepContext, prefix: str, key: str, items: Iterator[pa.RecordBatch]) -> StoredFile:
    """Score rows as Parquet, uploaded while they come."""
    first = next(items)
    # Numbers of rows count up. To look for repetitions in them and in scores takes longer than all else.
    options: dict[str, Any] = {
        "use_dictionary": _repeated(first.schema),
        "column_encoding": {ROW: "DELTA_BINARY_PACKED"},
    }
    with ParquetFile(context.objects, prefix, key, first.schema, **options) as file:
        pending, rows = [first], first.num_rows
        for batch in items:
            if rows + batch.num_rows > GROUP_ROWS:
                file.write(pa.Table.from_batches(pending))
                pending, rows = [], 0
            pending.append(batch)
            rows += batch.num_rows
        file.write(pa.Table.from_batches(pending))
    assert file.stored is not None, "a part without rows has no file"
    return file.stored


def _repeated(schema: pa.Schema) -> list[str]:
    """Columns whose values repeat."""
    return [field.name for field in schema if field.name not in (ROW, VALUE, PROBABILITIES)]


def _copied(
    context: StepContext, work: ScoreWork, model: ModelManifest, layout: Layout, index: int, start: int
) -> AbstractContextManager[Stage[Scored, int] | None]:
    """The stage that loads score rows into the catalogue, in one transaction that ends with the last of them."""
    if not work.catalogue:
        return nullcontext()
    manifest = draft(context, work, model)

    def copy(items: Iterator[Scored]) -> int:
        rows = (layout.catalogue_rows(batch, found) for batch, found in items)
        return context.catalogue.copy_scores(manifest, index, start, rows)

    return Stage(copy, AHEAD)


def _refuse_unseen(model: ModelManifest, given: Given, first: int, batch: pa.RecordBatch) -> None:
    """Raise Stalled at the first value of a column that refuses what training did not see."""
    for name, accepted in model.accepted.items():
        column = plain(batch.column(name))
        known = [value for value in accepted if value is not None]
        missing = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
        fits = pc.is_in(column, pa.array(known).cast(column.type))
        fits = pc.if_else(missing, None in accepted, fits)
        if pc.all(fits).as_py():
            continue
        row = pc.index(fits, False).as_py()
        value = column[row].as_py()
        raise Stalled(
            Reason.INVALID_DATA,
            f"the column '{name}' is {'missing' if value is None else repr(value)} in row {first + row} of "
            f"{given.name}, which training never saw, and the feature set says to refuse that (encode: unknown: "
            "refuse): take the row out, or train anew",
        )
