"""Helpers: contents from memory, and everything that a reader makes of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from levada.features.types import ColumnType
from levada.methods.formats import FORMATS, BadRow, Content, Reader, unpack
from levada.resources.dataset import Column, Format


def content(data: bytes | str, name: str = "data.csv", chunk: int = 1 << 20) -> Content:
    """Some bytes as a file that comes in chunks."""
    raw = data.encode() if isinstance(data, str) else data

    def stream() -> Iterator[bytes]:
        yield from (raw[i : i + chunk] for i in range(0, len(raw), chunk))

    return Content(name, stream, Path(tempfile.gettempdir()))


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0, micro: int = 0) -> datetime:
    """A time as typed rows have it: UTC, without a zone."""
    return datetime(year, month, day, hour, minute, second, micro, tzinfo=UTC).replace(tzinfo=None)


def reader(type: str = "csv", **format: Any) -> Reader:
    document = Format.model_validate({"type": type, **format})
    return FORMATS[type](document)


def columns(**types: str) -> list[Column]:
    return [Column(name=name, type=ColumnType(type)) for name, type in types.items()]


def inferred(reader: Reader, *files: Content) -> dict[str, str | None]:
    """Name and type of each column of some files."""
    found = [column for file in files for column in reader.infer(file, 1 << 20)]
    return {column.name: column.type.value if column.type else None for column in found}


def read(
    reader: Reader, file: Content, schema: Sequence[Column], inferred: bool = False
) -> tuple[list[dict[str, Any]], list[BadRow], list[tuple[int, str]]]:
    """All rows of a file, those that were set aside, and line and text of each row."""
    tables, bad, places = [], [], []
    for inner in unpack(file):
        for rows in reader.read(inner, schema, inferred):
            tables.append(rows.table)
            bad += rows.bad
            places += rows.places(range(rows.table.num_rows))
    return (pa.concat_tables(tables).to_pylist() if tables else []), bad, places
