"""What a preparation reads, copied to the local disk: the engine that runs the query may not reach anything else."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from levada import names
from levada.artifacts import Artifact, BatchManifest, FeatureManifest, StoredFile
from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.resources.conditions import Reason
from levada.steps.context import StepContext
from levada.steps.io import InputBatch, PrepareWork
from levada.stores.ports import ObjectNotFound

DOWNLOADS = 8  # at the same time
NUMBERS = {ColumnType.INT64, ColumnType.FLOAT64}

M = TypeVar("M", bound=Artifact)


@dataclass(frozen=True)
class LocalFile:
    path: Path
    rows: int


@dataclass(frozen=True)
class Input:
    """A table of the query: all batches of a Dataset that go into it."""

    table: str
    dataset: str
    columns: dict[str, ColumnType]
    files: list[LocalFile]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


@dataclass(frozen=True)
class Version:
    """A feature set version that is looked up, in the order of its rows."""

    manifest: FeatureManifest
    files: list[LocalFile]


def stage(context: StepContext, work: PrepareWork) -> tuple[list[Input], dict[str, Version]]:
    """Copy the inputs' typed rows and the looked-up versions into the scratch folder; versions by their prefix.

    Raises Stalled if a batch or version is gone, or if batches of a Dataset do not fit together.
    """
    folder = context.scratch / "inputs"
    folder.mkdir()
    copies: list[tuple[str, Path]] = []

    def local(prefix: str, files: Sequence[StoredFile]) -> list[LocalFile]:
        staged = []
        for file in files:
            path = folder / f"{len(copies):05}.parquet"
            copies.append((prefix + file.key, path))
            staged.append(LocalFile(path, file.rows or 0))
        return staged

    inputs = []
    for given in work.inputs:
        batches = [
            _manifest(context, BatchManifest, prefix, f"batch {batch} of Dataset {given.dataset}")
            for batch, prefix in zip(given.batches, given.prefixes, strict=True)
        ]
        files = [local(prefix, batch.typed) for batch, prefix in zip(batches, given.prefixes, strict=True)]
        inputs.append(Input(given.alias, given.dataset, _columns(given, batches), [f for each in files for f in each]))
    versions = {}
    for spec in work.lookups:
        if spec.prefix not in versions:
            what = f"version {spec.version} of FeatureSet {spec.feature_set}"
            manifest = _manifest(context, FeatureManifest, spec.prefix, what)
            versions[spec.prefix] = Version(manifest, local(spec.prefix, manifest.files))
    _download(context, copies)
    return inputs, versions


def _manifest(context: StepContext, kind: type[M], prefix: str, what: str) -> M:
    try:
        return kind.from_bytes(context.objects.get(prefix + names.MANIFEST))
    except ObjectNotFound as error:
        raise Stalled(Reason.SOURCE_NOT_FOUND, f"the {what} is gone: make it again, and this with it") from error


def _columns(given: InputBatch, batches: Sequence[BatchManifest]) -> dict[str, ColumnType]:
    """The columns of all batches together; whole numbers and others make numbers."""
    columns: dict[str, ColumnType] = {}
    for batch in batches:
        for column in batch.columns:
            type = columns.setdefault(column.name, column.type)
            if type is column.type:
                continue
            if {type, column.type} != NUMBERS:
                raise Stalled(
                    Reason.INVALID_DATA,
                    f"Dataset {given.dataset}: the column '{column.name}' is {column.type} in {batch.batch}, but "
                    f"{type} in an earlier batch: declare it in the Dataset's spec.schema, or read the latest batch",
                )
            columns[column.name] = ColumnType.FLOAT64
    by_folded: dict[str, str] = {}
    for name in columns:
        other = by_folded.setdefault(name.casefold(), name)
        if other != name:
            raise Stalled(
                Reason.INVALID_DATA,
                f"Dataset {given.dataset}: the columns '{other}' and '{name}' of its batches differ only in case, "
                "which queries do not tell apart: give one of them another name",
            )
    if not columns:
        raise Stalled(
            Reason.NO_ROWS, f"Dataset {given.dataset} has no rows and no columns, so there is nothing to read"
        )
    return columns


def _download(context: StepContext, copies: Sequence[tuple[str, Path]]) -> None:
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        for done, _ in enumerate(pool.map(lambda copy: context.objects.get_file(*copy), copies), start=1):
            context.progress("stage", done, len(copies), "files")
