"""Parquet. Columns are brought to Levada's types; a value that does not fit costs its row, not the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.methods.formats import values
from levada.methods.formats.base import BadRow, FoundColumn, MissingColumn, Rows, as_text
from levada.methods.formats.content import Content
from levada.methods.formats.header import column_names
from levada.resources.conditions import Reason
from levada.resources.dataset import Column, Format

_ROWS = 65_536  # rows of a run


class ParquetReader:
    """Reads Parquet; see `Reader`. Lines are row numbers, raw texts the row as JSON."""

    sparse: ClassVar[bool] = False

    def __init__(self, format: Format) -> None:
        pass

    def infer(self, content: Content, sample: int) -> list[FoundColumn]:
        with _opened(content) as file:
            schema = file.schema_arrow
        names = column_names(content.name, schema.names)
        return [
            FoundColumn(name, field.name, _column_type(content.name, field))
            for name, field in zip(names, schema, strict=True)
        ]

    def read(self, content: Content, columns: Sequence[Column], inferred: bool) -> Iterator[Rows]:
        with _opened(content) as file:
            declared = None if inferred else {column.name for column in columns}
            names = column_names(content.name, file.schema_arrow.names, declared)
            fields = dict(zip(names, file.schema_arrow, strict=True))
            for column in columns:
                if column.name in fields:
                    _column_type(content.name, fields[column.name])
                elif not inferred:
                    raise MissingColumn(content.name, column.name, list(fields))
            wanted = [fields[column.name].name for column in columns if column.name in fields]
            row = 1
            batches = file.iter_batches(_ROWS, columns=wanted)
            while True:
                with _errors(content.name):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield _rows(batch, columns, {name: field.name for name, field in fields.items()}, row)
                row += batch.num_rows


@contextmanager
def _opened(content: Content) -> Iterator[pq.ParquetFile]:
    file: BinaryIO = content.open()
    with file:
        with _errors(content.name):
            parquet = pq.ParquetFile(file)
        yield parquet


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        what = str(error).splitlines()[0].rstrip(".")
        raise Stalled(
            Reason.SOURCE_UNREADABLE, f"{name} is not a whole Parquet file ({what}): write it again"
        ) from error


def _column_type(name: str, field: pa.Field) -> ColumnType | None:
    """The type that holds a column; raises Stalled if none does."""
    type = field.type.value_type if pt.is_dictionary(field.type) else field.type
    if pt.is_null(type):
        return None
    if pt.is_integer(type):
        return ColumnType.INT64
    if pt.is_floating(type) or pt.is_decimal(type):
        return ColumnType.FLOAT64
    if pt.is_string(type) or pt.is_large_string(type) or pt.is_string_view(type):
        return ColumnType.STRING
    if pt.is_boolean(type):
        return ColumnType.BOOLEAN
    if pt.is_timestamp(type):
        return ColumnType.TIMESTAMP
    if pt.is_date(type):
        return ColumnType.DATE
    raise Stalled(
        Reason.INVALID_DATA,
        f"{name}: the column '{field.name}' is of type {type}, which has no place in a Dataset: "
        "declare the others in spec.schema.columns, or write it as text",
    )


def _rows(batch: pa.RecordBatch, columns: Sequence[Column], originals: dict[str, str], first: int) -> Rows:
    faults = np.zeros(batch.num_rows, dtype=bool)
    arrays, bad = [], []
    for column in columns:
        if column.name not in originals:
            arrays.append(pa.nulls(batch.num_rows, values.ARROW_TYPES[column.type]))
            continue
        source = batch.column(originals[column.name])
        array, wrong = _cast(source, column.type)
        arrays.append(array)
        for i in np.flatnonzero(~faults & np.asarray(wrong)).tolist():
            reason = values.not_a(str(source[i].as_py()), column.type)
            (place,) = _locate(batch, first, [i])
            bad.append(BadRow(place[0], column.name, reason, place[1]))
        faults |= np.asarray(wrong)
    table = pa.table(arrays, values.arrow_schema(columns))
    rows = Rows(table, partial(_locate, batch, first), first)
    if not faults.any():
        return rows
    keep = pa.array(~faults)
    kept = pa.array(range(batch.num_rows)).filter(keep)
    return Rows(table.filter(keep).combine_chunks(), rows.locate, first, sorted(bad, key=lambda row: row.line), kept)


def _cast(array: pa.Array, type: ColumnType) -> tuple[pa.Array, pa.Array]:
    """A column as a type, and a mask of the values that it does not hold (null there)."""
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    target, source = values.ARROW_TYPES[type], array.type
    try:
        if pt.is_timestamp(source) and type is ColumnType.TIMESTAMP:
            cut = array.cast(pa.timestamp("us", source.tz), safe=False)
            converted = cut.cast(pa.timestamp("us", "UTC")).cast(target) if source.tz else cut
            return converted, _none(array)
        if source == target or _fits(source, type):
            return array.cast(target), _none(array)
    except pa.ArrowInvalid:
        pass
    return values.parse(array.cast(pa.string()), type)


def _fits(source: pa.DataType, type: ColumnType) -> bool:
    """Whether Arrow's safe cast keeps the meaning of values, or fails."""
    if pt.is_null(source) or type is ColumnType.STRING:
        return True
    if type in (ColumnType.INT64, ColumnType.FLOAT64):
        return bool(pt.is_integer(source) or pt.is_floating(source) or pt.is_decimal(source))
    if type is ColumnType.TIMESTAMP:
        return bool(pt.is_date(source))
    return bool(pt.is_date(source)) if type is ColumnType.DATE else False


def _none(array: pa.Array) -> pa.Array:
    return pa.array(np.zeros(len(array), dtype=bool))


def _locate(batch: pa.RecordBatch, first: int, positions: Sequence[int]) -> list[tuple[int, str]]:
    """Row number and JSON of rows."""
    taken = batch.take(pa.array(positions, pa.int64())).to_pylist()
    return [(first + i, as_text(row)) for i, row in zip(positions, taken, strict=True)]
