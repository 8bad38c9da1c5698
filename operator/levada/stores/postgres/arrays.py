"""Arrow columns as elements of PostgreSQL's arrays in binary form, without touching a value in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from levada.stores.postgres import copyformat


class Elements:
    """A column's elements, any stretch of which can be had as an array field."""

    def __init__(self, column: pa.Array, oid: int) -> None:
        """`column` has strings, float64 or int64; `oid` is PostgreSQL's type of the elements."""
        self._oid = oid
        self._nulls = column.null_count > 0
        if column.null_count == 0 and not pa.types.is_string(column.type):
            elements = np.empty(len(column), [("length", ">i4"), ("value", _big_endian(column.type))])
            elements["length"], elements["value"] = 8, column
            self._bytes = memoryview(elements.tobytes())
            self._offsets: np.ndarray[Any, Any] = np.arange(len(column) + 1) * elements.itemsize
        else:
            there = column.is_valid().to_numpy(zero_copy_only=False)
            values = column.cast(pa.binary()) if pa.types.is_string(column.type) else _as_binary(column, there)
            lengths = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False)
            lengths = np.where(there, lengths, -1).astype(">i4")
            prefixes = _binary(np.arange(len(column) + 1) * 4, lengths)
            woven = pc.binary_join_element_wise(prefixes, values, b"", null_handling="replace", null_replacement=b"")
            self._offsets = np.frombuffer(woven.buffers()[1], np.int32)[: len(column) + 1]
            self._bytes = memoryview(woven.buffers()[2])

    def field(self, start: int, stop: int) -> tuple[bytes, memoryview]:
        """The array of the rows [start, stop): its length and header, and its elements."""
        elements = self._bytes[self._offsets[start] : self._offsets[stop]]
        return copyformat.array_head(self._oid, stop - start, len(elements), nulls=self._nulls), elements


def _as_binary(column: pa.Array, there: np.ndarray[Any, Any]) -> pa.Array:
    """8-byte numbers as big-endian bytes; a null has none."""
    values = column.drop_null().to_numpy(zero_copy_only=False).astype(_big_endian(column.type))
    return _binary(np.concatenate(([0], np.cumsum(there * 8))), values)


def _binary(offsets: np.ndarray[Any, Any], data: np.ndarray[Any, Any]) -> pa.Array:
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data.view(np.uint8))]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def _big_endian(type: pa.DataType) -> str:
    return ">f8" if pa.types.is_floating(type) else ">i8"
