"""Scores of batches: Arrow record batches into PostgreSQL's binary COPY, without touching a row in Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from levada.artifacts import ScoresManifest
from levada.errors import Stalled
from levada.resources.conditions import Reason
from levada.stores.postgres import copyformat
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

_COPY = "COPY score_rows (run, row, value, event_time, label, entity) FROM STDIN (FORMAT binary)"
_ROWS = 16_384  # at once: a megabyte or two, which stays in the processor's cache
_NULL = np.array(-1, ">i4")

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
_OLD_PART = "DELETE FROM score_parts WHERE run = %s AND part = %s RETURNING first_row, rows"
_OLD_ROWS = "DELETE FROM score_rows WHERE run = %s AND row >= %s AND row < %s"
_NEW_PART = "INSERT INTO score_parts (run, part, first_row, rows) VALUES (%s, %s, %s, %s)"


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
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", [run, part])
    old = connection.execute(_OLD_PART, [run, part]).fetchone()
    if old is not None:
        connection.execute(_OLD_ROWS, [run, old[0], old[0] + old[1]])
    count = 0
    try:
        with connection.cursor().copy(_COPY) as copy:
            copy.write(copyformat.HEADER)
            for batch in batches:
                for start in range(0, batch.num_rows, _ROWS):
                    copy.write(encode(batch.slice(start, _ROWS), run))
                count += batch.num_rows
            copy.write(copyformat.TRAILER)
    except psycopg.DataError as error:
        reason = str(error).splitlines()[0]
        raise Stalled(
            Reason.INVALID_DATA, f"scores from row {first_row} on cannot be kept in the catalogue: {reason}"
        ) from error
    connection.execute(_NEW_PART, [run, part, first_row, count])
    return count


def encode(batch: pa.RecordBatch, run: int) -> memoryview:
    """Rows of SCHEMA as tuples of binary COPY, in the order of columns of `_COPY`."""
    columns = {field.name: _column(batch, field) for field in SCHEMA}
    tuples = _Tuples(batch.num_rows, fields=6)
    tuples.constant(np.array(4, ">i4"), np.array(run, ">i4"))
    tuples.numbers(columns["row"], ">i8")
    tuples.numbers(columns["value"], ">f8")
    tuples.numbers(_since_2000(columns["event_time"]), ">i8")
    tuples.texts(columns["label"])
    tuples.texts(columns["entity"])
    return tuples.bytes()


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    if field.name not in batch.schema.names:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(field.name)
    if not field.nullable and column.null_count:
        raise ValueError(f"a score has no {field.name}")
    return column.cast(field.type, safe=not pa.types.is_timestamp(field.type))


def _since_2000(times: pa.Array) -> pa.Array:
    return pc.subtract(times.cast(pa.int64()), copyformat.EPOCH)


class _Tuples:
    """Builds tuples column by column: what has the same width in every row is gathered in one block, and blocks and
    texts are woven together by Arrow."""

    def __init__(self, rows: int, fields: int) -> None:
        self._rows = rows
        self._block: list[np.ndarray[Any, Any]] = []
        self._pieces: list[pa.Array] = []
        self.constant(np.array(fields, ">i2"))

    def constant(self, *values: np.ndarray[Any, Any]) -> None:
        self._block += values

    def numbers(self, column: pa.Array, type: str) -> None:
        """A column of 8-byte numbers."""
        if column.null_count == len(column):
            self.constant(_NULL)
        elif column.null_count == 0:
            self.constant(np.array(8, ">i4"), column.to_numpy(zero_copy_only=False).astype(type))
        else:
            there = column.is_valid().to_numpy(zero_copy_only=False)
            self._block.append(np.where(there, 8, -1).astype(">i4"))
            self._end_block()
            values = column.drop_null().to_numpy(zero_copy_only=False).astype(type)
            offsets = np.concatenate(([0], np.cumsum(there * 8))).astype(np.int32)
            self._pieces.append(_binary(offsets, values))

    def texts(self, column: pa.Array) -> None:
        if column.null_count == len(column):
            self.constant(_NULL)
            return
        binary = column.cast(pa.binary())
        lengths = pc.fill_null(pc.binary_length(binary), -1)
        self._block.append(lengths.to_numpy(zero_copy_only=False).astype(">i4"))
        self._end_block()
        self._pieces.append(binary)

    def bytes(self) -> memoryview:
        self._end_block()
        if len(self._pieces) == 1:
            return memoryview(self._pieces[0].buffers()[2])
        woven = pc.binary_join_element_wise(*self._pieces, b"", null_handling="replace", null_replacement=b"")
        stop = np.frombuffer(woven.buffers()[1], np.int32)[self._rows]
        return memoryview(woven.buffers()[2])[:stop]

    def _end_block(self) -> None:
        if not self._block:
            return
        block = np.empty(self._rows, np.dtype([(f"f{i}", values.dtype) for i, values in enumerate(self._block)]))
        for name, values in zip(block.dtype.names or (), self._block, strict=True):
            block[name] = values
        self._block = []
        self._pieces.append(_binary(np.arange(self._rows + 1, dtype=np.int32) * block.itemsize, block))


def _binary(offsets: np.ndarray[Any, Any], data: np.ndarray[Any, Any]) -> pa.Array:
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data.view(np.uint8))]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
