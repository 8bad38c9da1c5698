"""Scores of scorers: small batches, often, from a process that has better things to do."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import errors

from levada.stores.ports import ScoreBlock, ScoreRow
from levada.stores.postgres import copyformat
from levada.stores.postgres.connection import Connection
from levada.stores.postgres.copyformat import NULL

Scorers = dict[tuple[str, str, str, int, str], int]
"""Numbers of scorers by source, namespace, deployment, version, candidate."""
Data = bytes | memoryview

_SCORER = """
WITH made AS (
    INSERT INTO scorers (source, namespace, deployment, version, candidate) VALUES (%(s)s, %(n)s, %(d)s, %(v)s, %(c)s)
    ON CONFLICT DO NOTHING RETURNING scorer
)
SELECT scorer FROM made UNION ALL
SELECT scorer FROM scorers
WHERE source = %(s)s AND namespace = %(n)s AND deployment = %(d)s AND version = %(v)s AND candidate = %(c)s
"""
_ROWS, _ROW_COLUMNS = "online_score_rows", "scorer, seq, scored_at, value, label, request"
_BLOCKS, _BLOCK_COLUMNS = (
    "online_score_blocks",
    "scorer, first_seq, scored_at, rows, values, labels, number_columns, numbers, other_columns, others",
)
_COPY = "COPY {} ({}) FROM STDIN (FORMAT binary)"
_STAGING = "CREATE TEMPORARY TABLE staged_scores (LIKE {}) ON COMMIT DROP"
_MERGE = "INSERT INTO {} SELECT * FROM staged_scores ON CONFLICT DO NOTHING"

_ROW_START = struct.Struct(">hiiiqiq")  # fields, then length and value of scorer, seq, scored_at
_BLOCK_START = struct.Struct(">hiiiqiqii")  # the same, and of rows
_VALUE = struct.Struct(">id")
_LENGTH = struct.Struct(">i")
_PIECE_BYTES = 64 * 1024
_ELEMENT = np.dtype([("length", ">i4"), ("value", ">f8")])


def insert_rows(connection: Connection, rows: Sequence[ScoreRow], scorers: Scorers) -> None:
    """Insert rows, leaving those alone that are there. `connection` commits by itself; `scorers` is a cache."""
    numbers = [_scorer(connection, row, scorers) for row in rows]
    _insert(connection, _ROWS, _ROW_COLUMNS, lambda: _of_rows(rows, numbers))


def insert_blocks(connection: Connection, blocks: Sequence[ScoreBlock], scorers: Scorers) -> None:
    """The same for blocks."""
    numbers = [_scorer(connection, block, scorers) for block in blocks]
    _insert(connection, _BLOCKS, _BLOCK_COLUMNS, lambda: _of_blocks(blocks, numbers))


def _of_rows(rows: Sequence[ScoreRow], scorers: Sequence[int]) -> Iterator[list[Data]]:
    for row, scorer in zip(rows, scorers, strict=True):
        start = _ROW_START.pack(6, 4, scorer, 8, row.seq, 8, _microseconds(row.scored_at))
        value = NULL if row.value is None else _VALUE.pack(8, row.value)
        yield [start, value, *_text(None if row.label is None else row.label.encode()), *_text(row.request)]


def _of_blocks(blocks: Sequence[ScoreBlock], scorers: Sequence[int]) -> Iterator[list[Data]]:
    for block, scorer in zip(blocks, scorers, strict=True):
        at = _microseconds(block.scored_at)
        yield [
            _BLOCK_START.pack(10, 4, scorer, 8, block.first, 8, at, 4, block.rows),
            *_doubles(block.values),
            *_texts(block.labels),
            *_texts(block.number_columns or None),
            *_doubles(block.numbers),
            *_texts(block.other_columns or None),
            *_text(block.others),
        ]


def _insert(connection: Connection, table: str, columns: str, tuples: Callable[[], Iterator[list[Data]]]) -> None:
    try:
        _copy(connection, table, columns, tuples())
    except errors.UniqueViolation:
        # Some are there already, because an earlier attempt got through without its answer coming back.
        with connection.transaction():
            connection.execute(_STAGING.format(table).encode())
            _copy(connection, "staged_scores", columns, tuples())
            connection.execute(_MERGE.format(table).encode())


def _copy(connection: Connection, table: str, columns: str, tuples: Iterable[list[Data]]) -> None:
    """Piece by piece: memory for all at once would be taken anew from the system each time."""
    with connection.cursor().copy(_COPY.format(table, columns).encode()) as copy:
        piece: list[Data] = [copyformat.HEADER]
        size = 0
        for fields in tuples:
            piece += fields
            size += sum(map(len, fields))
            if size >= _PIECE_BYTES:
                copy.write(b"".join(piece))
                piece, size = [], 0
        copy.write(b"".join([*piece, copyformat.TRAILER]))


def _scorer(connection: Connection, score: ScoreRow | ScoreBlock, scorers: Scorers) -> int:
    key = (score.source, score.namespace, score.deployment, score.version, score.candidate)
    number = scorers.get(key)
    while number is None:
        found = connection.execute(_SCORER, dict(zip("sndvc", key, strict=True))).fetchone()
        if found is not None:  # None: another made it after this statement began
            number = scorers[key] = int(found[0])
    return number


# --- fields ---------------------------------------------------------------------------------------------------------


def _microseconds(at: datetime) -> int:
    return round(at.timestamp() * 1e6) - copyformat.EPOCH


def _text(text: bytes | None) -> tuple[Data, ...]:
    return (NULL,) if text is None else (_LENGTH.pack(len(text)), text)


def _doubles(values: NDArray[np.float64] | None) -> tuple[Data, ...]:
    """An array field of any shape, row after row."""
    if values is None:
        return (NULL,)
    elements: NDArray[Any] = np.empty(values.size, _ELEMENT)
    elements["length"], elements["value"] = 8, values.ravel()
    data = elements.view(np.uint8).data
    return copyformat.array_head(copyformat.FLOAT8, values.size, len(data)), data


def _texts(texts: Sequence[str] | None) -> tuple[Data, ...]:
    if texts is None:
        return (NULL,)
    encoded = {text: text.encode() for text in set(texts)}
    elements = {text: _LENGTH.pack(len(raw)) + raw for text, raw in encoded.items()}
    data = b"".join([elements[text] for text in texts])
    return copyformat.array_head(copyformat.TEXT, len(texts), len(data)), data
