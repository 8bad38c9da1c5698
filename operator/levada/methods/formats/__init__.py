"""How files are read: a reader for each format, behind a registry."""

from __future__ import annotations

from collections.abc import Callable

from levada.methods.formats.base import BadRow, FoundColumn, MissingColumn, Reader, Rows
from levada.methods.formats.content import Content, unpack
from levada.methods.formats.delimited import CsvReader
from levada.methods.formats.jsonlines import JsonLinesReader
from levada.methods.formats.parquet import ParquetReader
from levada.methods.registry import Registry
from levada.resources.dataset import Format

FORMATS: Registry[Callable[[Format], Reader]] = Registry(
    "format", {"csv": CsvReader, "jsonl": JsonLinesReader, "parquet": ParquetReader}
)
"""Constructors of readers by the name that stands in spec.format.type."""

__all__ = ["FORMATS", "BadRow", "Content", "FoundColumn", "MissingColumn", "Reader", "Rows", "unpack"]
