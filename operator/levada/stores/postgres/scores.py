"""Scores of batches: Arrow record batches into PostgreSQL's binary COPY, without touching a row in Python."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from levada.artifacts import ScoresManifest
from levada.errors import Stalled
from levada.resources.conditions import Reason
from levada.stores.postgres import copyformat
from levada.stores.postgres.arrays import Elements
from levada.stores.postgres.connection import Connection

SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("label", pa.string()),
        pa.field("entity", pa.string()),
        pa.field("event_time", pa.timestamp("us", tz="UTC")),
    ]
)
"""The columns of `copy_scores`: number of the row in the whole input, probability of the last class (or prediction, or
distance), class or cluster, key of the entity as text, time of the row. Other widths of the same types are cast."""

BLOCK_ROWS = 1024
"""Most rows of a block. lineage.py looks for a row in the block that begins at most so many rows before it."""

_ROWS_AT_ONCE = 16 * BLOCK_ROWS  # a megabyte or two, which stays in the processor's cache
_COPY = """
COPY score_blocks (run, first_row, part, rows, values, labels, entities, event_times) FROM STDIN (FORMAT binary)
"""
_START = struct.Struct(">hiiiqiiii")  # fields, then length and value of run, first_row, part, rows

_RUN = """
WITH made AS (
    INSERT INTO score_runs (namespace, scoring_run, execution, candidate)
    VALUES (%(namespace)s, %(scoring_run)s, %(execution)s, %(candidate)s)
    ON CONFLICT DO NOTHING RETURNING run
)
SELECT run FROM made UNION ALL
SELECT run FROM score_runs
WHERE namespace = %(namespace)s AND scoring_run = %(scoring_run)s AND execution = %(execution)s
"""
_FORGET_PARTS = """
WITH gone AS (
    DELETE FROM score_parts WHERE run = %(run)s AND {} RETURNING part, first_row, rows
)
DELETE FROM score_blocks b USING gone
WHERE b.run = %(run)s AND b.part = gone.part AND b.first_row >= gone.first_row
  AND b.first_row < gone.first_row + gone.rows
"""
_FORGET_PART = _FORGET_PARTS.format("part = %(part)s")
# Parts are disjoint, so one that overlaps is left of an attempt that divided the rows otherwise.
_FORGET_OVERLAPPING = _FORGET_PARTS.format(
    "part <> %(part)s AND first_row < %(first)s::bigint + %(rows)s AND first_row + rows > %(first)s"
)
_NEW_PART = "INSERT INTO score_parts (run, part, first_row, rows) VALUES (%(run)s, %(part)s, %(first)s, %(rows)s)"


def run_of(connection: Connection, manifest: ScoresManifest) -> int:
    """The number that stands for an execution in its rows; made when first asked for, in a transaction of its own, so
    that parts that are loaded at the same time do not wait for each other."""
    values = manifest.model_dump(include={"namespace", "scoring_run", "execution", "candidate"})
    while True:
        found = connection.execute(_RUN, values).fetchone()
        if found is not None:  # None: another made it after this statement began
            return int(found[0])


def replace_part(connection: Connection, run: int, part: int, first_row: int, batches: Iterable[pa.RecordBatch]) -> int:
    """Load a part's rows in place of what was loaded of it before; how many. Runs inside the caller's transaction."""
    values = {"run": run, "part": part, "first": first_row}
    connection.execute("SELECT pg_advisory_xact_lock(%(run)s, %(part)s)", values)
    connection.execute(_FORGET_PART.encode(), values)
    count = 0
    try:
        with connection.cursor().copy(_COPY.encode()) as copy:
            copy.write(copyformat.HEADER)
            for batch in batches:
                for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                    some = batch.slice(start, _ROWS_AT_ONCE)
                    copy.write(encode(some, run, part, first_row + count))
                    count += some.num_rows
            copy.write(copyformat.TRAILER)
    except psycopg.DataError as error:
        reason = str(error).splitlines()[0]
        raise Stalled(
            Reason.INVALID_DATA, f"scores from row {first_row} on cannot be kept in the catalogue: {reason}"
        ) from error
    values["rows"] = count
    connection.execute(_FORGET_OVERLAPPING.encode(), values)
    connection.execute(_NEW_PART, values)
    return count


def encode(batch: pa.RecordBatch, run: int, part: int, first_row: int) -> bytes:
    """Rows of SCHEMA as tuples of binary COPY, a block each. Raises ValueError if they do not follow each other from
    `first_row` on."""
    columns = {field.name: _column(batch, field) for field in SCHEMA}
    rows = columns["row"].to_numpy(zero_copy_only=False)
    if not np.array_equal(rows, np.arange(first_row, first_row + len(rows))):
        raise ValueError(f"the rows of a part of scores must follow each other; these should be {first_row} and on")
    fields = [
        Elements(columns["value"], copyformat.FLOAT8),
        *(_elements(columns[name], copyformat.TEXT) for name in ("label", "entity")),
        _elements(pc.subtract(columns["event_time"].cast(pa.int64()), copyformat.EPOCH), copyformat.TIMESTAMPTZ),
    ]
    pieces: list[bytes | memoryview] = []
    for start in range(0, len(rows), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(rows))
        pieces.append(_START.pack(4 + len(fields), 4, run, 8, first_row + start, 4, part, 4, stop - start))
        for elements in fields:
            pieces += [copyformat.NULL] if elements is None else elements.field(start, stop)
    return b"".join(pieces)


def _elements(column: pa.Array, oid: int) -> Elements | None:
    """The elements of a column, or None if all are null."""
    return None if column.null_count == len(column) else Elements(column, oid)


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    if field.name not in batch.schema.names:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(field.name)
    if not field.nullable and column.null_count:
        raise ValueError(f"a score has no {field.name}")
    return column.cast(field.type, safe=not pa.types.is_timestamp(field.type))
