"""Scores of scorers: small batches, often, from a process that has better things to do."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from psycopg import errors

from levada.stores.ports import ScoreRow
from levada.stores.postgres import copyformat
from levada.stores.postgres.connection import Connection

Scorers = dict[tuple[str, str, str, int, str], int]
"""Numbers of scorers by source, namespace, deployment, version, candidate."""

_SCORER = """
WITH made AS (
    INSERT INTO scorers (source, namespace, deployment, version, candidate) VALUES (%(s)s, %(n)s, %(d)s, %(v)s, %(c)s)
    ON CONFLICT DO NOTHING RETURNING scorer
)
SELECT scorer FROM made UNION ALL
SELECT scorer FROM scorers
WHERE source = %(s)s AND namespace = %(n)s AND deployment = %(d)s AND version = %(v)s AND candidate = %(c)s
"""
_COPY = "COPY {} (scorer, seq, scored_at, value, label, request) FROM STDIN (FORMAT binary)"
_STAGING = "CREATE TEMPORARY TABLE staged_scores (LIKE online_score_rows) ON COMMIT DROP"
_MERGE = "INSERT INTO online_score_rows SELECT * FROM staged_scores ON CONFLICT DO NOTHING"

_START = struct.Struct(">hiiiqiq")  # fields, then length and value of scorer, seq, scored_at
_VALUE = struct.Struct(">id")
_LENGTH = struct.Struct(">i")
_NULL = _LENGTH.pack(-1)


def insert(connection: Connection, rows: Sequence[ScoreRow], scorers: Scorers) -> None:
    """Insert rows, leaving those alone that are there. `connection` commits by itself; `scorers` is a cache."""
    data = encode(rows, [_scorer(connection, row, scorers) for row in rows])
    try:
        _copy(connection, "online_score_rows", data)
    except errors.UniqueViolation:
        # Some are there already, because an earlier attempt got through without its answer coming back.
        with connection.transaction():
            connection.execute(_STAGING)
            _copy(connection, "staged_scores", data)
            connection.execute(_MERGE)


def encode(rows: Sequence[ScoreRow], numbers: Sequence[int]) -> bytes:
    """Rows in the binary COPY format, header and trailer included."""
    parts = [copyformat.HEADER]
    for row, number in zip(rows, numbers, strict=True):
        microseconds = round(row.scored_at.timestamp() * 1e6) - copyformat.EPOCH
        parts.append(_START.pack(6, 4, number, 8, row.seq, 8, microseconds))
        parts.append(_NULL if row.value is None else _VALUE.pack(8, row.value))
        for text in (None if row.label is None else row.label.encode(), row.request):
            if text is None:
                parts.append(_NULL)
            else:
                parts += (_LENGTH.pack(len(text)), text)
    parts.append(copyformat.TRAILER)
    return b"".join(parts)


def _scorer(connection: Connection, row: ScoreRow, scorers: Scorers) -> int:
    key = (row.source, row.namespace, row.deployment, row.version, row.candidate)
    number = scorers.get(key)
    while number is None:
        found = connection.execute(_SCORER, dict(zip("sndvc", key, strict=True))).fetchone()
        if found is not None:  # None: another made it after this statement began
            number = scorers[key] = int(found[0])
    return number


def _copy(connection: Connection, table: str, data: bytes) -> None:
    with connection.cursor().copy(_COPY.format(table).encode()) as copy:
        copy.write(data)
