"""CSV. Arrow reads whole blocks; a block that it refuses is halved again and again, down to pieces small enough to be
read row by row, so that exactly the bad rows are set aside, each with its line, and the rest stays fast.

Quoting is RFC 4180's: a quote opens a value only at its beginning, and is doubled inside. Lines may end inside quoted
values. Null texts mean null in quotes too. Empty lines are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.methods.formats import values
from levada.methods.formats.base import BadRow, FoundColumn, Rows, missing_column
from levada.methods.formats.blocks import BLOCK, Block, blocks, decoded, wrong_encoding
from levada.methods.formats.content import Content
from levada.methods.formats.header import check_header, column_names
from levada.methods.formats.quoting import Record, is_well_quoted, last_record, records
from levada.resources.conditions import Reason
from levada.resources.dataset import Column, Format

_PIECES = 16  # a refused block is split in so many
_LEAF = 32 << 10  # bytes that are read row by row
_HEAD = 64 << 10  # bytes in which the header and the first rows are looked for


class CsvReader:
    """Reads CSV; see `Reader`."""

    sparse: ClassVar[bool] = False

    def __init__(self, format: Format) -> None:
        self._format = format
        self._delimiter = format.delimiter
        if len(format.delimiter.encode()) != 1 or format.delimiter in '"\r\n':
            raise Stalled(
                Reason.INVALID_SPEC,
                f"spec.format.delimiter {format.delimiter!r} can't separate values: use one ASCII character",
            )

    def infer(self, content: Content, sample: int) -> list[FoundColumn]:
        block = next(self._blocks(content, sample), None)
        if block is None:
            return []
        originals, block = self._head(content.name, block)
        columns = _columns(block, self._delimiter, len(originals), range(len(originals)))
        found = []
        for name, original, texts in zip(column_names(content.name, originals), originals, columns, strict=True):
            type, odd = values.infer(nulled(texts.unique(), self._format.null_values, ColumnType.STRING))
            found.append(FoundColumn(name, original, type, odd))
        return found

    def read(self, content: Content, columns: Sequence[Column], inferred: bool) -> Iterator[Rows]:
        stream = self._blocks(content)
        block = next(stream, None)
        if block is None:
            return
        originals, block = self._head(content.name, block)
        if not originals:
            return
        names = self._names(content.name, originals, columns)
        for column in columns:
            if column.name not in names and not inferred:
                raise missing_column(content.name, column.name, names)
        parser = _Parser(content.name, self._format, names, columns, block)
        yield from parser.rows(block)
        for block in stream:
            yield from parser.rows(block)

    def _blocks(self, content: Content, size: int = BLOCK) -> Iterator[Block]:
        stream = _with_newlines(decoded(content.name, content.stream(), self._format.encoding))
        return blocks(content.name, stream, partial(last_record, delimiter=self._delimiter), size)

    def _head(self, name: str, block: Block) -> tuple[list[str], Block]:
        """The names that the first line gives (empty ones without a header), and the block without that line."""
        start = block.split(_HEAD, partial(last_record, delimiter=self._delimiter))[0]
        if (error := wrong_encoding(name, start)) is not None:
            raise error
        lines = start.lines()
        record = next((record for record in records(lines, self._delimiter) if record.fields != []), None)
        if record is None:
            return [], block
        if record.fields is None:
            raise Stalled(Reason.INVALID_DATA, f"{name}: its first line cannot be read, {record.reason}: correct it")
        if not self._format.header:
            return [""] * len(record.fields), block
        check_header(name, record.fields, self._delimiter)
        size = len("".join(lines[: record.stop]).encode())
        return record.fields, Block(block.data[size:], block.line + record.stop)

    def _names(self, name: str, originals: Sequence[str], columns: Sequence[Column]) -> list[str]:
        """The name of each of a file's columns; without a header, those declared in their order."""
        if self._format.header or [c.name for c in columns] == column_names(name, originals):
            return column_names(name, originals)
        if len(originals) != len(columns):
            raise Stalled(
                Reason.INVALID_DATA,
                f"{name} has {len(originals)} columns and no header, the schema has {len(columns)}: "
                "correct spec.schema.columns or the file",
            )
        return [column.name for column in columns]


class _Parser:
    """Reads the blocks of one file."""

    def __init__(self, name: str, format: Format, names: list[str], columns: Sequence[Column], first: Block) -> None:
        self._name = name
        self._delimiter = format.delimiter
        self._nulls = format.null_values
        self._names = names
        self._columns = columns
        self._schema = values.arrow_schema(columns)
        self._zoned = self._find_zones(first)
        types = {field.name: field.type for field in self._schema}
        self._convert = pa.csv.ConvertOptions(
            column_types=types | dict.fromkeys(self._zoned, pa.timestamp("us", "UTC")),
            include_columns=self._schema.names,
            include_missing_columns=True,
            null_values=format.null_values,
            strings_can_be_null=True,
            true_values=values.TRUE,
            false_values=values.FALSE,
        )

    def rows(self, block: Block) -> Iterator[Rows]:
        """The rows of a block, in their order."""
        if not block.data:
            return
        table = self._read(block)
        if table is not None:
            yield Rows(table, partial(_locate, block, self._delimiter, table.num_rows), block.line)
            return
        if (error := wrong_encoding(self._name, block)) is not None:
            raise error
        size = max(len(block.data) // _PIECES, _LEAF)
        pieces = block.split(size, partial(last_record, delimiter=self._delimiter)) if len(block.data) > _LEAF else []
        if len(pieces) < 2:
            yield self._read_records(block)
        else:
            for piece in pieces:
                yield from self.rows(piece)

    def _read(self, block: Block) -> pa.Table | None:
        """The block as Arrow reads it; None where it has anything that must be looked at row by row."""
        if not _is_plain(block, self._delimiter):
            return None
        try:
            table = _read_csv(block, self._names, self._delimiter, self._convert)
        except pa.ArrowInvalid:
            return None
        if self._zoned:
            table = table.cast(self._schema)
        return None if values.too_early(table, self._columns) else table

    def _read_records(self, block: Block) -> Rows:
        """The block row by row."""
        lines = block.lines()
        good: list[Record] = []
        bad: list[BadRow] = []
        for record in records(lines, self._delimiter):
            if record.fields is None:
                bad.append(self._bad(block, lines, record, None, record.reason))
            elif record.fields and len(record.fields) != len(self._names):
                reason = f"has {len(record.fields)} values instead of {len(self._names)}"
                bad.append(self._bad(block, lines, record, None, reason))
            elif record.fields:
                good.append(record)
        positions = {name: i for i, name in enumerate(self._names)}
        arrays, faults = [], np.zeros(len(good), dtype=bool)
        for column in self._columns:
            if column.name not in positions:
                arrays.append(pa.nulls(len(good), values.ARROW_TYPES[column.type]))
                continue
            texts = pa.array([record.fields[positions[column.name]] for record in good], pa.string())  # type: ignore[index]
            array, wrong = values.parse(nulled(texts, self._nulls, column.type), column.type)
            arrays.append(array)
            for i in np.flatnonzero(~faults & np.asarray(wrong)):
                reason = values.not_a(texts[i].as_py(), column.type)
                bad.append(self._bad(block, lines, good[i], column.name, reason))
            faults |= np.asarray(wrong)
        table = pa.table(arrays, self._schema).filter(pa.array(~faults)).combine_chunks()
        places = [_place(block, lines, good[i]) for i in np.flatnonzero(~faults)]
        return Rows(table, lambda rows: [places[i] for i in rows], block.line, sorted(bad, key=lambda row: row.line))

    def _bad(self, block: Block, lines: list[str], record: Record, column: str | None, reason: str) -> BadRow:
        line, text = _place(block, lines, record)
        return BadRow(line, column, reason, text)

    def _find_zones(self, first: Block) -> list[str]:
        """The timestamp columns whose first values have a time zone: Arrow wants to know."""
        times = [column.name for column in self._columns if column.type is ColumnType.TIMESTAMP]
        if not times or not first.data:
            return []
        start = first.split(_HEAD, partial(last_record, delimiter=self._delimiter))[0]
        present = [name for name in times if name in self._names]
        texts = _columns(start, self._delimiter, len(self._names), [self._names.index(name) for name in present])
        return [
            name
            for name, column in zip(present, texts, strict=True)
            if pc.any(pc.match_substring_regex(column, values.ZONE)).as_py()
        ]


def nulled(texts: pa.Array, nulls: Sequence[str], type: ColumnType) -> pa.Array:
    """`texts` with null where they mean it; blanks around a null text matter in text columns only."""
    compared = texts if type is ColumnType.STRING else pc.utf8_trim_whitespace(texts)
    mask = pc.or_(pc.is_in(texts, pa.array(nulls, pa.string())), pc.is_in(compared, pa.array(nulls, pa.string())))
    return pc.if_else(mask, pa.scalar(None, pa.string()), texts)


def _columns(block: Block, delimiter: str, width: int, wanted: Sequence[int]) -> list[pa.Array]:
    """Some columns of a block as texts, by position, from the rows that have as many values as they should."""
    if _is_plain(block, delimiter):
        names = [str(i) for i in range(width)]
        options = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[], include_columns=[names[i] for i in wanted]
        )
        with suppress(pa.ArrowInvalid):
            return [column.combine_chunks() for column in _read_csv(block, names, delimiter, options, skip=True)]
    rows = [r.fields for r in records(block.lines(), delimiter) if r.fields is not None and len(r.fields) == width]
    return [pa.array([row[i] for row in rows], pa.string()) for i in wanted]


def _is_plain(block: Block, delimiter: str) -> bool:
    """Whether Arrow sees the same records in a block as `quoting.records`."""
    data = block.data
    if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
        return False
    return b'"' not in data or is_well_quoted(data, delimiter)


def _read_csv(
    block: Block, names: list[str], delimiter: str, options: pa.csv.ConvertOptions, skip: bool = False
) -> pa.Table:
    """A block as Arrow reads it; raises ArrowInvalid, unless rows with too many or too few values are to be skipped."""
    return pa.csv.read_csv(
        pa.BufferReader(block.data),
        pa.csv.ReadOptions(column_names=names, block_size=len(block.data) + 1),
        pa.csv.ParseOptions(
            delimiter=delimiter,
            newlines_in_values=b'"' in block.data,
            invalid_row_handler=(lambda _: "skip") if skip else None,
        ),
        options,
    )


def _locate(block: Block, delimiter: str, rows: int, positions: Sequence[int]) -> list[tuple[int, str]]:
    """Line and raw text of rows of a block that Arrow has read."""
    ends = np.flatnonzero(np.frombuffer(block.data, np.uint8) == ord("\n"))
    if len(ends) == rows:
        starts = [0, *(ends[:-1] + 1)]
        return [(block.line + i, block.data[starts[i] : ends[i]].decode().removesuffix("\r")) for i in positions]
    lines = block.lines()
    found = [record for record in records(lines, delimiter) if record.fields]
    return [_place(block, lines, found[i]) for i in positions]


def _place(block: Block, lines: list[str], record: Record) -> tuple[int, str]:
    return block.line + record.start, "".join(lines[record.start : record.stop]).rstrip("\r\n")


def _with_newlines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The text of old Macs, whose lines end in a carriage return alone, with newlines; other text as it is."""
    first = b""
    while b"\n" not in first and len(first) < _HEAD and (chunk := next(chunks, b"")):
        first += chunk
    if b"\r" in first and b"\n" not in first:
        yield first.replace(b"\r", b"\n")
        for chunk in chunks:
            yield chunk.replace(b"\r", b"\n")
    else:
        yield first
        yield from chunks
