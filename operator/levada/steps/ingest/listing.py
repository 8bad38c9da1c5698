"""What all indexes of an ingestion agree on besides the files: their columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from levada.artifacts import Listing
from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.methods.formats import Content, FoundColumn, Reader, unpack
from levada.methods.formats.content import CHUNK
from levada.methods.formats.values import common_type
from levada.methods.sources import EntrySource
from levada.resources.conditions import Reason
from levada.resources.dataset import Column, DataSchema
from levada.steps.agreed import agreed
from levada.steps.ingest.receipt import SCHEMA, BatchSchema
from levada.stores.ports import Objects

_LIMIT = 1024  # columns of a Dataset
_SAMPLES, _SAMPLE_LEAST, _SAMPLE_MOST = 2 << 20, 64 << 10, 1 << 20  # bytes: of all files, of each
_AT_ONCE = 8  # files that are looked into at the same time


def agreed_schema(
    objects: Objects,
    prefix: str,
    declared: DataSchema,
    listing: Listing,
    source: EntrySource,
    reader: Reader,
    scratch: Path,
) -> BatchSchema:
    """The columns: those declared, or what the first to come infers from a sample of every file."""
    if declared.columns is not None:
        _check_case([(column.name, "spec.schema.columns") for column in declared.columns])
        schema = BatchSchema(columns=declared.columns, inferred=False)
    else:
        schema = agreed(objects, prefix + SCHEMA, BatchSchema, lambda: infer_schema(listing, source, reader, scratch))
    check_roles(declared, schema.columns)
    return schema


def infer_schema(listing: Listing, source: EntrySource, reader: Reader, scratch: Path) -> BatchSchema:
    """The columns that all files have together; raises Stalled if there are none."""

    sample = min(max(_SAMPLES // len(listing.entries), _SAMPLE_LEAST), _SAMPLE_MOST)

    def look(entry: Listing.Entry) -> list[tuple[str, list[FoundColumn]]]:
        content = Content(source.path(entry), lambda: _chunks(source, entry), scratch, lambda: source.open(entry))
        return [(file.name, reader.infer(file, sample)) for file in unpack(content)]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        files = [found for entry in pool.map(look, listing.entries) for found in entry]
    return combine(files, reader.sparse)


def _chunks(source: EntrySource, entry: Listing.Entry) -> Iterator[bytes]:
    """A file's bytes as far as they are asked for: a sample needs no more than its beginning."""
    with source.open(entry) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def combine(files: Sequence[tuple[str, list[FoundColumn]]], sparse: bool) -> BatchSchema:
    """One schema for files with their columns, each column with the type that holds its values in all of them."""
    with_columns = [(name, columns) for name, columns in files if columns]
    found: dict[str, list[tuple[str, FoundColumn]]] = {}
    for file, columns in with_columns:
        for column in columns:
            found.setdefault(column.name, []).append((file, column))
    if not found:
        raise Stalled(Reason.NO_ROWS, f"the source has no rows: {files[0][0]} and all others are without any")
    _check_case([(name, places[0][0]) for name, places in found.items()])
    if len(found) > _LIMIT:
        raise Stalled(Reason.INVALID_DATA, f"the files have {len(found)} columns; a Dataset holds at most {_LIMIT}")
    notes = []
    if not sparse:
        for file, columns in with_columns:
            if len(columns) * 2 < len(found):
                raise Stalled(
                    Reason.INVALID_DATA,
                    f"{file} has only {len(columns)} of the {len(found)} columns that the files have together: narrow "
                    "spec.source.object.pattern to files that belong together, or declare spec.schema.columns",
                )
        for name, places in found.items():
            if len(places) < len(with_columns):
                lacking = next(file for file, columns in with_columns if name not in {c.name for c in columns})
                count = f"{len(with_columns) - len(places)} of {len(with_columns)} files"
                notes.append(f"the column '{name}' is null for the {count} that do not have it ({lacking} first)")
    notes += [note for name, places in found.items() if (note := _mixed(name, places))]
    renamed = {c.original: name for name, places in found.items() for _, c in places if c.original not in ("", name)}
    if renamed:
        shown = ", ".join(f"'{original}' is called {name}" for original, name in list(renamed.items())[:10])
        more = ", …" if len(renamed) > 10 else ""
        notes.append(f"columns were given names that SQL reads without quotes: {shown}{more}")
    agreed = [Column(name=name, type=common_type(c.type for _, c in places)) for name, places in found.items()]
    return BatchSchema(columns=agreed, inferred=True, notes=[note[:1024] for note in notes])


def _check_case(columns: Iterable[tuple[str, str]]) -> None:
    """Raises Stalled if two columns, each given with where it stands, are one for SQL, which does not look at case."""
    seen: dict[str, tuple[str, str]] = {}
    for name, place in columns:
        other, where = seen.setdefault(name.casefold(), (name, place))
        if other != name:
            raise Stalled(
                Reason.INVALID_DATA,
                f"the columns '{other}' (in {where}) and '{name}' (in {place}) are one for SQL, which does not look at "
                "case: rename one of them",
            )


def _mixed(name: str, places: Sequence[tuple[str, FoundColumn]]) -> str:
    """A note about a column that is text although much of it is not."""
    types = {column.type for _, column in places} - {None}
    if common_type(types) is not ColumnType.STRING:
        return ""
    odd = next(((file, column.odd) for file, column in places if column.odd is not None), None)
    if odd is not None:
        cause = f"because of '{odd[1][:80]}' in {odd[0]}" if odd[1] is not None else ""
    elif len(types) > 1:
        by_type = {column.type: file for file, column in reversed(places) if column.type is not None}
        cause = "because it is " + " and ".join(f"{type.value} in {file}" for type, file in sorted(by_type.items())[:3])
    else:
        return ""
    return f"the column '{name}' is text {cause}: declare its type in spec.schema.columns to set such rows aside"


def check_roles(declared: DataSchema, columns: Sequence[Column]) -> None:
    """Raises Stalled if time column or keys are not among the columns."""
    types = {column.name: column.type for column in columns}
    time = declared.time_column
    for field, name in [("timeColumn", time), *(("keys", key) for key in declared.keys)]:
        if name is not None and name not in types:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"spec.schema.{field} names '{name}', which is not among the columns ({', '.join(types)})",
            )
    if time is not None and not types[time].is_temporal:
        raise Stalled(
            Reason.INVALID_SPEC,
            f"spec.schema.timeColumn '{time}' holds {types[time].value}, not times: write ISO 8601, e.g. "
            "2013-01-31T09:00:00Z, or name another column",
        )
