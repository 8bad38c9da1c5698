"""CSV. Arrow reads whole blocks. Where values are not of their type it reads texts, and each is looked at; where rows
are ragged or quotes irregular, the block is cut smaller and smaller until what is wrong stands in pieces that can be
read row by row. So exactly the bad rows are set aside, each with its line, and the rest stays fast.

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
from levada.methods.formats.base import BadRow, FoundColumn, Locate, MissingColumn, Rows
from levada.methods.formats.blocks import BLOCK, Block, blocks, decoded, wrong_encoding
from levada.methods.formats.content import Content
from levada.methods.formats.header import check_header, column_names, names_of
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
                f"format.delimiter {format.delimiter!r} can't separate values: use one ASCII character",
            )

    def infer(self, content: Content, sample: int) -> list[FoundColumn]:
        block = next(self._blocks(content, sample), None)
        if block is None:
            return []
        originals, block = self._head(content.name, block)
        columns = _columns(block, self._delimiter, len(originals), range(len(originals)))
        found = []
        for name, original, texts in zip(column_names(content.name, originals), originals, columns, strict=True):
            type, odd = values.infer(texts, self._format.null_values)
            found.append(FoundColumn(name, original, type, odd))
        return found

    def read(self, content: Content, columns: Sequence[Column], inferred: bool) -> Iterator[Rows]:
        stream = self._blocks(content)
        block = next(stream, None)
        if block is None:
            return
        declared = [] if inferred else [column.name for column in columns]
        originals, block = self._head(content.name, block, declared)
        if not originals:
            return
        names = self._names(content.name, originals, columns, None if inferred else declared)
        for column in columns:
            if column.name not in names and not inferred:
                raise MissingColumn(content.name, column.name, names)
        parser = _Parser(content.name, self._format, names, columns, block)
        yield from parser.rows(block)
        for block in stream:
            yield from parser.rows(block)

    def _blocks(self, content: Content, size: int = BLOCK) -> Iterator[Block]:
        stream = _with_newlines(decoded(content.name, content.stream(), self._format.encoding))
        return blocks(content.name, stream, partial(last_record, delimiter=self._delimiter), size)

    def _head(self, name: str, block: Block, declared: Sequence[str] = ()) -> tuple[list[str], Block]:
        """The names that the first line gives (empty ones without a header), and the block without that line.

        A line with the declared columns names columns, whatever it looks like.
        """
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
        if not declared or not {*declared} <= {*names_of(record.fields)}:
            check_header(name, record.fields, self._delimiter)
        size = len("".join(lines[: record.stop]).encode())
        return record.fields, Block(block.data[size:], block.line + record.stop)

    def _names(
        self, name: str, originals: Sequence[str], columns: Sequence[Column], wanted: Sequence[str] | None
    ) -> list[str]:
        """The name of each of a file's columns; without a header, those declared in their order."""
        if self._format.header or [c.name for c in columns] == column_names(name, originals, wanted):
            return column_names(name, originals, wanted)
        if len(originals) != len(columns):
            raise Stalled(
                Reason.INVALID_DATA,
                f"{name} has {len(originals)} columns and no header, but {len(columns)} are wanted: "
                "declare as many columns, add a header line, or correct the file",
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
        plain = _is_plain(block, self._delimiter)
        rows = (self._read(block) or self._read_texts(block)) if plain else None
        if rows is not None:
            yield rows
            return
        if (error := wrong_encoding(self._name, block)) is not None:
            raise error
        leaf = _LEAF if plain else _PIECES * _LEAF  # finding where irregular quotes end takes as long as reading
        pieces = [block]
        if len(block.data) > leaf:
            pieces = block.split(
                max(len(block.data) // _PIECES, _LEAF), partial(last_record, delimiter=self._delimiter)
            )
        if len(pieces) == 1:
            yield self._read_records(block)
        else:
            for piece in pieces:
                yield from self.rows(piece)

    def _read(self, block: Block) -> Rows | None:
        """The block as Arrow reads it; None where it holds anything that it should not."""
        try:
            table = _read_csv(block, self._names, self._delimiter, self._convert)
        except pa.ArrowInvalid:
            return None
        if self._zoned:
            table = table.cast(self._schema)
        if values.too_early(table, self._columns):
            return None
        return Rows(table, partial(_locate, block, self._delimiter, table.num_rows), block.line)

    def _read_texts(self, block: Block) -> Rows | None:
        """The block as Arrow reads it, but values one by one; None where not even the numbers of values are right."""
        present = [i for i, name in enumerate(self._names) if name in self._schema.names]
        try:
            texts = _read_columns(block, self._delimiter, len(self._names), present)
        except pa.ArrowInvalid:
            return None
        count = len(texts[0]) if texts else 0
        by_name = {self._names[i]: column for i, column in zip(present, texts, strict=True)}
        return self._typed(block, by_name, count, partial(_locate, block, self._delimiter, count), [])

    def _read_records(self, block: Block) -> Rows:
        """The block row by row."""
        lines = block.lines()
        good: list[Record] = []
        bad: list[BadRow] = []
        for record in records(lines, self._delimiter):
            if record.fields is not None and len(record.fields) == len(self._names):
                good.append(record)
            elif record.fields != []:
                width = 0 if record.fields is None else len(record.fields)
                reason = record.reason or f"has {width} values instead of {len(self._names)}"
                line, text = _place(block, lines, record)
                bad.append(BadRow(line, None, reason, text))
        texts = {
            name: pa.array([record.fields[i] for record in good if record.fields is not None], pa.string())
            for i, name in enumerate(self._names)
        }
        return self._typed(block, texts, len(good), lambda at: [_place(block, lines, good[i]) for i in at], bad)

    def _typed(self, block: Block, texts: dict[str, pa.Array], count: int, locate: Locate, bad: list[BadRow]) -> Rows:
        """Rows from texts by column; those with a text that is no value of its column's type are set aside."""
        faults: dict[int, tuple[str, str]] = {}
        arrays = []
        for column in self._columns:
            if column.name not in texts:
                arrays.append(pa.nulls(count, values.ARROW_TYPES[column.type]))
                continue
            array, wrong = values.parse(texts[column.name], column.type, self._nulls)
            arrays.append(array)
            for i in pc.indices_nonzero(wrong).to_pylist():
                if i not in faults:
                    faults[i] = (column.name, values.not_a(texts[column.name][i].as_py(), column.type))
        table = pa.table(arrays, self._schema)
        if not faults:
            return Rows(table, locate, block.line, bad)
        positions = sorted(faults)
        for i, (line, text) in zip(positions, locate(positions), strict=True):
            bad.append(BadRow(line, *faults[i], text))
        kept = pa.array(np.delete(np.arange(count), positions))
        bad.sort(key=lambda row: row.line)
        return Rows(table.take(kept).combine_chunks(), locate, block.line, bad, kept)

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


def _columns(block: Block, delimiter: str, width: int, wanted: Sequence[int]) -> list[pa.Array]:
    """Some columns of a block as texts, by position, from the rows that have as many values as they should."""
    if _is_plain(block, delimiter):
        with suppress(pa.ArrowInvalid):
            return _read_columns(block, delimiter, width, wanted, skip=True)
    rows = [r.fields for r in records(block.lines(), delimiter) if r.fields is not None and len(r.fields) == width]
    return [pa.array([row[i] for row in rows], pa.string()) for i in wanted]


def _read_columns(
    block: Block, delimiter: str, width: int, wanted: Sequence[int], skip: bool = False
) -> list[pa.Array]:
    """Some columns of a block as texts, as Arrow reads them; see `_read_csv`."""
    names = [str(i) for i in range(width)]
    options = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), null_values=[], include_columns=[names[i] for i in wanted]
    )
    return [column.combine_chunks() for column in _read_csv(block, names, delimiter, options, skip)]


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
