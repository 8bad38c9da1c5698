"""Rows that lack what is looked up for them: joined here, by the same SQL as when features are prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from levada.artifacts import FeatureManifest, LookupSpec
from levada.errors import Stalled
from levada.features.lookups import lookup_sql, quote
from levada.features.types import ColumnType
from levada.names import MANIFEST
from levada.resources.conditions import Reason
from levada.steps.context import StepContext
from levada.steps.cores import cores
from levada.steps.prepare import engine
from levada.steps.prepare.inputs import NUMBERS, LocalFile
from levada.steps.score.source import Given
from levada.steps.stages import prefetch
from levada.stores.ports import ObjectNotFound

NUMBER = "levada_number"  # column with the row's number while rows are out of order
ROWS = "given"
ENGINE_SHARE = 0.5  # of the step's memory


@contextmanager
def looked_up(
    context: StepContext,
    given: Given,
    lookups: Sequence[LookupSpec],
    columns: Sequence[str],
    start: int,
    stop: int,
    size: int,
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Rows [start, stop) in their order: some of their own columns, and those of all lookups behind."""
    _check_types(given, lookups)
    path = context.scratch / "given.parquet"
    _write(given, columns, start, stop, size, path)
    memory = context.memory_limit_bytes
    limit = None if memory is None else int(memory * ENGINE_SHARE)
    with engine.opened(context.scratch, cores(), limit) as connection:
        rows = LocalFile(path, stop - start)
        types = {name: given.columns[name] for name in columns} | {NUMBER: ColumnType.INT64}
        engine.add_input(connection, ROWS, types, [rows])
        relations, files = {}, [rows]
        for number, spec in enumerate(lookups):
            staged = _stage(context, spec, number)
            relations[spec.prefix] = engine.add_version(connection, number, staged)
            files += staged
        engine.lock(connection, files)
        joined = lookup_sql(ROWS, [(spec, relations[spec.prefix]) for spec in lookups])
        wanted = ", ".join(quote(name) for name in [*columns, *(c.name for spec in lookups for c in spec.columns)])
        sql = f"SELECT {wanted} FROM ({joined}) ORDER BY {NUMBER}"
        stream = engine.stream(connection, sql, f"{given.name}, joined with lookups", "spec.resources.limits.memory")
        with closing(prefetch(stream, 4)) as ahead:
            yield ahead


def _check_types(given: Given, lookups: Sequence[LookupSpec]) -> None:
    """Raise Stalled where a column cannot be compared with the key or time that it is looked up by."""
    for spec in lookups:
        keys = zip(spec.on, spec.keys, spec.key_types, strict=True)
        needed = [(name, f"the key '{key}'", type) for name, key, type in keys]
        if spec.as_of is not None:
            needed.append((spec.as_of, "the time", ColumnType.TIMESTAMP))
        for name, what, type in needed:
            mine = given.columns[name]
            if _kind(mine) != _kind(type):
                raise Stalled(
                    Reason.INVALID_DATA,
                    f"the column '{name}' of {given.name} is {mine}, but the model finds rows of the feature set "
                    f"'{spec.feature_set}' by {what}, which is {type}: "
                    "declare the column so where the rows come from",
                )


def _kind(type: ColumnType) -> str:
    """What can be compared with one another, and is when features are looked up online."""
    if type in NUMBERS:
        return "number"
    return "time" if type.is_temporal else type.value


def _write(given: Given, columns: Sequence[str], start: int, stop: int, size: int, path: Path) -> None:
    """The rows as a local file, each with its number."""
    writer: pq.ParquetWriter | None = None
    position = start
    for batch in given.rows.batches(columns, start, stop, size):
        numbered = batch.append_column(NUMBER, pa.array(np.arange(position, position + batch.num_rows)))
        if writer is None:
            writer = pq.ParquetWriter(path, numbered.schema)
        writer.write_batch(numbered)
        position += batch.num_rows
    assert writer is not None, "a part without rows is not looked up"
    writer.close()


def _stage(context: StepContext, spec: LookupSpec, number: int) -> list[LocalFile]:
    """The looked-up version's files on the local disk."""
    try:
        manifest = FeatureManifest.from_bytes(context.objects.get(spec.prefix + MANIFEST))
    except ObjectNotFound as error:
        raise Stalled(
            Reason.SOURCE_NOT_FOUND,
            f"the version {spec.version} of the feature set '{spec.feature_set}', which the model looks up, is not "
            "there any more: train anew",
        ) from error
    files: list[LocalFile] = []
    for file in manifest.files:
        path = context.scratch / f"lookup-{number}-{len(files):05}.parquet"
        context.objects.get_file(spec.prefix + file.key, path)
        files.append(LocalFile(path, file.rows or 0))
    return files
