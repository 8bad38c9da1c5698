"""JSON lines: an object a line. Arrow reads whole blocks; what it refuses is read line by line.

A key that an object lacks is null. Objects and lists inside an object are kept as JSON text in text columns, and so
are numbers and booleans where the column is text. Texts are read as numbers, booleans and times where those are
declared. NaN and Infinity are understood.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from types import NoneType
from typing import Any, ClassVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.methods.formats import values
from levada.methods.formats.base import BadRow, FoundColumn, Rows
from levada.methods.formats.blocks import BLOCK, Block, blocks, decoded, last_line, wrong_encoding
from levada.methods.formats.content import Content
from levada.methods.formats.header import column_names
from levada.resources.conditions import Reason
from levada.resources.dataset import Column, Format

_HEAD = 1 << 20  # bytes in which keys are looked for
_PIECES = 16  # a refused block is split in so many
_LEAF = 64 << 10  # bytes that are read line by line
_DEEPEST = 200  # levels of objects and lists in one another that are read
# A text, also one that does not end. Nothing in it is tried twice, else a line that is cut off takes quadratic time.
_QUOTED = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?$)')
_BLANK = re.compile(rb"\n[ \t\r]*\n")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_INT64 = range(-(2**63), 2**63)
_NATIVE: dict[ColumnType, set[type]] = {
    ColumnType.INT64: {int},
    ColumnType.FLOAT64: {int, float},
    ColumnType.BOOLEAN: {bool},
}


class JsonLinesReader:
    """Reads JSON lines; see `Reader`."""

    sparse: ClassVar[bool] = True

    def __init__(self, format: Format) -> None:
        self._format = format

    def infer(self, content: Content, sample: int) -> list[FoundColumn]:
        block = next(self._blocks(content, sample), None)
        if block is None:
            return []
        found = _keys(content.name, block)
        names = column_names(content.name, list(found))
        return [
            FoundColumn(name, original, *_infer(cells))
            for name, (original, cells) in zip(names, found.items(), strict=True)
        ]

    def read(self, content: Content, columns: Sequence[Column], inferred: bool) -> Iterator[Rows]:
        stream = self._blocks(content)
        block = next(stream, None)
        if block is None:
            return
        known = list(_keys(content.name, block.split(_HEAD, last_line)[0], first=False))
        wanted = None if inferred else {column.name for column in columns}
        originals = dict(zip(column_names(content.name, known, wanted), known, strict=True))
        parser = _Parser(content.name, columns, [originals.get(c.name, c.name) for c in columns], inferred)
        yield from parser.rows(block)
        for block in stream:
            yield from parser.rows(block)

    def _blocks(self, content: Content, size: int = BLOCK) -> Iterator[Block]:
        stream = decoded(content.name, content.stream(), self._format.encoding)
        return blocks(content.name, stream, last_line, size)


class _Parser:
    """Reads the blocks of one file."""

    def __init__(self, name: str, columns: Sequence[Column], keys: list[str], inferred: bool) -> None:
        self._name = name
        self._columns = columns
        self._keys = keys
        self._inferred = inferred
        self._schema = values.arrow_schema(columns)
        # Arrow reads no dates, and times only if all or none have a zone.
        fields = [
            (key, pa.string() if column.type.is_temporal else values.ARROW_TYPES[column.type])
            for key, column in zip(keys, columns, strict=True)
        ]
        self._options = pa.json.ParseOptions(
            explicit_schema=pa.schema(fields), unexpected_field_behavior="error" if inferred else "ignore"
        )

    def rows(self, block: Block) -> Iterator[Rows]:
        """The rows of a block, in their order."""
        if (error := wrong_encoding(self._name, block)) is not None:
            raise error
        table = self._read(block)
        if table is not None:
            yield Rows(table, partial(_locate, block), block.line)
            return
        size = max(len(block.data) // _PIECES, _LEAF)
        pieces = block.split(size, last_line) if len(block.data) > _LEAF else []
        if len(pieces) < 2:
            yield self._read_lines(block)
        else:
            for piece in pieces:
                yield from self.rows(piece)

    def _read(self, block: Block) -> pa.Table | None:
        """The block as Arrow reads it; None where it has anything that must be looked at line by line."""
        try:
            table = pa.json.read_json(
                pa.BufferReader(block.data), pa.json.ReadOptions(block_size=len(block.data) + 1), self._options
            )
        except pa.ArrowInvalid:
            return None
        # Arrow reads several objects of a line as well, and passes over lines without any.
        simple = table.num_rows == block.data.count(b"\n") and not (
            block.data[:1].isspace() or _BLANK.search(block.data)
        )
        if not simple and table.num_rows != len(_objects(block)):
            return None
        arrays = []
        for key, column in zip(self._keys, self._columns, strict=True):
            array = _single(table[key])
            if column.type.is_temporal:
                array, wrong = values.parse(array, column.type)
                if pc.any(wrong).as_py():
                    return None
            arrays.append(array)
        return pa.table(arrays, self._schema)

    def _read_lines(self, block: Block) -> Rows:
        """The block line by line."""
        good: list[tuple[int, str]] = []
        bad: list[BadRow] = []
        cells: list[list[Any]] = [[] for _ in self._keys]
        for line, text in _objects(block):
            row, fault, reason = self._row(text)
            if reason:
                bad.append(BadRow(line, fault, reason, text))
                continue
            good.append((line, text))
            for list_, key in zip(cells, self._keys, strict=True):
                list_.append(row.get(key))
        faults = np.zeros(len(good), dtype=bool)
        arrays = []
        for column, list_ in zip(self._columns, cells, strict=True):
            array, wrong = _typed(list_, column.type)
            arrays.append(array)
            for i in np.flatnonzero(~faults & wrong):
                bad.append(BadRow(good[i][0], column.name, values.not_a(_text(list_[i]), column.type), good[i][1]))
            faults |= wrong
        table = pa.table(arrays, self._schema).filter(pa.array(~faults)).combine_chunks()
        places = [good[i] for i in np.flatnonzero(~faults)]
        return Rows(table, lambda rows: [places[i] for i in rows], block.line, sorted(bad, key=lambda row: row.line))

    def _row(self, text: str) -> tuple[dict[str, Any], str | None, str]:
        """An object; or the column at fault and why there is none."""
        try:
            row = _object(text)
        except ValueError as error:
            return {}, None, str(error)
        if self._inferred and (unknown := next((key for key in row if key not in self._keys), None)) is not None:
            return {}, unknown[:128], f"'{unknown[:80]}' is not among the inferred columns: declare them in spec.schema"
        return row, None, ""


def _object(text: str) -> dict[str, Any]:
    """The object that a line is; raises ValueError, which says what is wrong with it."""
    if _is_deep(text):
        raise ValueError(f"is nested more than {_DEEPEST} levels deep")
    try:
        row = _load(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1}") from error
    except ValueError as error:
        raise ValueError(f"holds a number of more than {sys.get_int_max_str_digits()} digits") from error
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")
    if _SURROGATE.search(text) and not _is_text(row):
        raise ValueError("is not text: it has half of a surrogate pair")
    return row


def _load(text: str) -> Any:
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)  # reads NaN and Infinity
    if isinstance(row, dict) and any(type(cell) is float and abs(cell) >= 2**63 for cell in row.values()):
        return json.loads(text)  # keeps whole numbers beyond 64 bits whole
    return row


def _is_text(value: Any) -> bool:
    """Whether all texts of some JSON can be encoded."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_deep(text: str) -> bool:
    """Whether objects and lists are nested deeper than recursion reaches."""
    if text.count("[") + text.count("{") <= _DEEPEST:
        return False
    depth = 0
    for mark in re.findall(r"[\[{\]}]", _QUOTED.sub("", text)):
        depth += 1 if mark in "[{" else -1
        if depth > _DEEPEST:
            return True
    return False


def _objects(block: Block) -> list[tuple[int, str]]:
    """The lines of a block that are not empty, with their numbers."""
    lines = block.data.decode().split("\n")
    return [(block.line + i, line.rstrip("\r")) for i, line in enumerate(lines) if line.strip()]


def _keys(name: str, block: Block, *, first: bool = True) -> dict[str, list[Any]]:
    """The keys of a block's objects in the order in which they are first seen, with their values that are not null.

    Raises Stalled where `first` and no line is an object: later, with known columns, such lines are set aside.
    """
    if (error := wrong_encoding(name, block)) is not None:
        raise error
    found: dict[str, list[Any]] = {}
    fault, any_object = "", False
    for line, text in _objects(block):
        if line == 1 and text.lstrip().startswith("["):
            raise Stalled(
                Reason.INVALID_DATA, f"{name} is a JSON array: write an object a line, as format.type jsonl needs"
            )
        try:
            row = _object(text)
        except ValueError as error:
            fault = fault or f"line {line} {error}"
            continue
        any_object = True
        for key, value in row.items():
            cells = found.setdefault(key, [])
            if value is not None:
                cells.append(value)
    if first and fault and not any_object:
        raise Stalled(
            Reason.INVALID_DATA,
            f"{name} holds no JSON lines ({fault}): write an object a line, or correct format.type",
        )
    return found


def _infer(cells: list[Any]) -> tuple[ColumnType | None, str | None]:
    kinds = {type(cell) for cell in cells}
    if not kinds:
        return None, None
    if kinds == {str}:
        inferred, _ = values.infer(pa.array(cells, pa.string()))
        # A number in quotes was meant as a text.
        return (inferred if inferred is not None and inferred.is_temporal else ColumnType.STRING), None
    if kinds == {bool}:
        return ColumnType.BOOLEAN, None
    if kinds == {int}:
        return ColumnType.INT64 if all(cell in _INT64 for cell in cells) else ColumnType.STRING, None
    if kinds <= {int, float}:
        return ColumnType.FLOAT64, None
    numbers = sum(type(cell) in (int, float) for cell in cells)
    odd = next(cell for cell in cells if type(cell) not in (int, float))
    return ColumnType.STRING, _text(odd) if numbers * 2 > len(cells) else None


def _typed(cells: list[Any], wanted: ColumnType) -> tuple[pa.Array, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Values of JSON as a typed column, and a mask of those that are none (null there)."""
    kinds = set(map(type, cells)) - {NoneType}
    if kinds <= _NATIVE.get(wanted, {str}) and not wanted.is_temporal:
        with suppress(pa.ArrowInvalid, OverflowError):
            return pa.array(cells, values.ARROW_TYPES[wanted]), np.zeros(len(cells), bool)
    texts = [cell if isinstance(cell, str) or cell is None else _text(cell) for cell in cells]
    if wanted is ColumnType.STRING:
        return pa.array(texts, pa.string()), np.zeros(len(cells), bool)
    array, wrong = values.parse(pa.array(texts, pa.string()), wanted)
    # What a text would be read as, a value of another kind is not: 1.0 is no int64, 1 no boolean, 2013 no date.
    fitting = {str, NoneType} | _NATIVE.get(wanted, set())
    alien = [type(cell) not in fitting for cell in cells]
    return array, np.asarray(wrong) | np.array(alien, bool)


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)


def _single(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _locate(block: Block, positions: Sequence[int]) -> list[tuple[int, str]]:
    """Line number and raw text of rows of a block that Arrow has read."""
    objects = _objects(block)
    return [objects[i] for i in positions]
