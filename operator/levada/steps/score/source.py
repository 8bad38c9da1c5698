"""The rows that are scored: of a feature set version, of a batch, or of files that are read here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from levada import names
from levada.artifacts import BatchManifest, FeatureManifest, Listing, ModelManifest, SplitManifest
from levada.errors import Stalled
from levada.features.tensors import ARROW_TYPES
from levada.features.types import ColumnType
from levada.methods.formats import FORMATS, Content, MissingColumn, Reader, unpack
from levada.methods.formats import Rows as ReadRows
from levada.methods.sources import Access, EntrySource, open_source
from levada.resources.conditions import Reason
from levada.resources.dataset import Column, ObjectSource, Source
from levada.settings import Settings
from levada.steps.agreed import agreed_listing
from levada.steps.context import StepContext
from levada.steps.io import ScoreWork
from levada.steps.rows import ParquetRows, numbers_of
from levada.stores.ports import ObjectNotFound

FIELD = "spec.input.object"  # where files are named


class Rows(Protocol):
    """Numbered rows."""

    @property
    def count(self) -> int: ...

    def batches(self, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]: ...


@dataclass(frozen=True)
class Given:
    """What is scored: rows, their columns, and which of them tell who and when a row is about."""

    name: str  # in sentences
    rows: Rows
    columns: dict[str, ColumnType]
    keys: list[str] = field(default_factory=list)
    timestamp: str | None = None


@dataclass(frozen=True)
class SelectedRows:
    """Some rows of a version, numbered anew."""

    rows: ParquetRows
    numbers: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        return len(self.numbers)

    def batches(self, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
        return self.rows.selected(columns, self.numbers[start:stop], size)


@dataclass(frozen=True)
class LocalRows:
    """The rows of a Parquet file in the scratch folder."""

    path: str
    count: int

    def batches(self, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
        position = 0
        for batch in pq.ParquetFile(self.path).iter_batches(size, columns=list(columns)):
            low, high = max(start - position, 0), min(stop - position, batch.num_rows)
            if low < high:
                yield batch.slice(low, high - low)
            position += batch.num_rows


def listed(context: StepContext, work: ScoreWork, prefix: str) -> Listing | None:
    """The files that all indexes agreed to score; None where no files are scored. Raises Stalled if there are none."""
    if work.object is None:
        return None
    return agreed_listing(context.objects, prefix, _open(context, work.object), context.now())


def open_given(context: StepContext, work: ScoreWork, model: ModelManifest, listing: Listing | None) -> Given:
    """What is to be scored, files as they are listed; raises Stalled if it is not there."""
    if work.source == "featureSet":
        return _version(context, work, model)
    if work.source == "dataset":
        return _batch(context, work, model)
    assert listing is not None, "files are listed before"
    return _files(context, work, model, listing)


def _version(context: StepContext, work: ScoreWork, model: ModelManifest) -> Given:
    (prefix,) = work.prefixes
    manifest = FeatureManifest.from_bytes(_manifest(context, prefix, "feature set version"))
    rows = ParquetRows(context.objects, prefix, manifest.files, _texts(model))
    name = f"the version {manifest.version} of the feature set '{manifest.feature_set}'"
    chosen: Rows = rows
    if work.part != "all":
        assert model.split_prefix is not None, "the planner knows the split"
        split = SplitManifest.from_bytes(_manifest(context, model.split_prefix, "split"))
        chosen = SelectedRows(rows, numbers_of(split, work.part, context.objects, model.split_prefix))
        name = f"the {work.part} part of {name}"
    columns = {column.name: column.type for column in manifest.columns}
    return Given(name, chosen, columns, manifest.keys, manifest.timestamp)


def _texts(model: ModelManifest) -> list[str]:
    return [column.name for column in model.inputs if column.type is ColumnType.STRING]


def _batch(context: StepContext, work: ScoreWork, model: ModelManifest) -> Given:
    (prefix,) = work.prefixes
    manifest = BatchManifest.from_bytes(_manifest(context, prefix, "batch"))
    return Given(
        f"the batch {manifest.batch} of the dataset '{manifest.dataset}'",
        ParquetRows(context.objects, prefix, manifest.typed, _texts(model)),
        {column.name: column.type for column in manifest.columns},
        manifest.keys,
        manifest.time_column,
    )


def _manifest(context: StepContext, prefix: str, what: str) -> bytes:
    try:
        return context.objects.get(prefix + names.MANIFEST)
    except ObjectNotFound as error:
        raise Stalled(
            Reason.SOURCE_NOT_FOUND, f"the {what} that is to be scored is not there any more: {error}"
        ) from error


def _open(context: StepContext, given: ObjectSource) -> EntrySource:
    access = Access(Settings(), context.allow_file_sources, FIELD)
    return open_source(Source(type="object", object=given), access)


def _files(context: StepContext, work: ScoreWork, model: ModelManifest, listing: Listing) -> Given:
    """Files, read into one local Parquet file, since how many rows they hold is known only then."""
    assert work.object is not None
    assert work.format is not None
    source = _open(context, work.object)
    reader = FORMATS[work.format.type](work.format)
    columns = list({column.name: column for column in [*model.request, *_extra(work, model)]}.values())
    schema = pa.schema([(column.name, ARROW_TYPES[column.type]) for column in columns])
    path, count = context.scratch / "rows.parquet", 0
    with pq.ParquetWriter(path, schema) as writer:
        for entry in listing.entries:
            name = f"{FIELD}: {source.path(entry)}"
            packed = Content(name, partial(source.read, entry), context.scratch)
            for content in unpack(packed):
                for rows in _rows(work, reader, content, columns):
                    writer.write_table(rows.table.cast(schema))
                    count += rows.table.num_rows
                    context.progress("read", count)
    return Given(FIELD, LocalRows(str(path), count), {column.name: column.type for column in columns})


def _rows(work: ScoreWork, reader: Reader, content: Content, columns: Sequence[Column]) -> Iterator[ReadRows]:
    """The rows of a file; raises Stalled at the first that cannot be read, or if a column is not there."""
    try:
        for rows in reader.read(content, columns, False):
            if rows.bad:
                worst = rows.bad[0]
                which = f", column '{worst.column}'" if worst.column else ""
                raise Stalled(
                    Reason.INVALID_DATA,
                    f"{content.name}, line {worst.line}{which}: {worst.reason}; correct the file, every row has to be "
                    "scored",
                )
            yield rows
    except MissingColumn as error:
        raise Stalled(
            Reason.INVALID_DATA,
            f"{error.lacking}, which the model '{work.candidate}' or spec.output.columns needs (it has: "
            f"{error.there}): correct the file",
        ) from error


def _extra(work: ScoreWork, model: ModelManifest) -> list[Column]:
    """Columns that are only copied to the output, as texts."""
    known = {column.name for column in model.request}
    return [Column(name=name, type=ColumnType.STRING) for name in work.columns if name not in known]


def part_of(count: int, index: int, parts: int) -> tuple[int, int]:
    """Rows [start, stop) of the index-th of so many contiguous parts, as even as can be."""
    return count * index // parts, count * (index + 1) // parts
