"""Arrow columns as ONNX tensors and back: the one place where whole columns change form.

`types.py` says how values and nulls stand in tensors; `cells.py` does the same for single JSON values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from levada.features.types import DAY, MAX_INTEGER, MAX_TIME, MIN_TIME, NULL_STRING, NULL_TIME, ColumnType

Tensor = npt.NDArray[Any]
MICROSECONDS = pa.timestamp("us")
ARROW_TYPES = {
    ColumnType.INT64: pa.int64(),
    ColumnType.FLOAT64: pa.float64(),
    ColumnType.STRING: pa.string(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.TIMESTAMP: MICROSECONDS,
    ColumnType.DATE: pa.date32(),
}


def to_tensor(values: pa.Array | pa.ChunkedArray, column_type: ColumnType, name: str = "value") -> Tensor:
    """A column as a tensor of shape [N, 1]; doubles and microseconds in one chunk without nulls share their memory.

    Integers, decimals and floats become doubles; a timestamp is taken as UTC whether or not it has a time zone, and cut
    to microseconds; a float column of type int64 has to hold whole numbers.

    Raises:
        ValueError: the column is of another type, or a value does not fit; the sentence names the column.
    """
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    cells = [_cells(chunk, column_type, name) for chunk in chunks]
    if not cells:
        cells = [_cells(pa.array([], values.type), column_type, name)]
    return (cells[0] if len(cells) == 1 else np.concatenate(cells)).reshape(-1, 1)


def from_tensor(tensor: Tensor, column_type: ColumnType) -> pa.Array:
    """A tensor of N cells, of shape [N, 1] or [N], as an Arrow column; of timestamps in microseconds without a zone."""
    cells = tensor.reshape(-1)
    if column_type is ColumnType.STRING:
        return pa.array(cells, pa.string(), mask=np.asarray(cells == NULL_STRING, dtype=bool))
    if column_type.is_temporal:
        return pa.array(cells, pa.int64(), mask=cells == NULL_TIME).cast(MICROSECONDS).cast(ARROW_TYPES[column_type])
    array = pa.array(cells, pa.float64(), from_pandas=True)  # NaN is null
    return array if column_type is ColumnType.FLOAT64 else array.cast(ARROW_TYPES[column_type])


def _cells(array: pa.Array, column_type: ColumnType, name: str) -> Tensor:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        array = array.cast(ARROW_TYPES[column_type])
    if column_type is ColumnType.STRING:
        return _texts(array, name)
    if column_type.is_temporal:
        return _times(array, column_type, name)
    return _numbers(array, column_type, name)


def _texts(array: pa.Array, name: str) -> Tensor:
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise _unfit(array, ColumnType.STRING, name)
    texts: Tensor = array.fill_null(NULL_STRING).to_numpy(zero_copy_only=False)
    return texts


def _times(array: pa.Array, column_type: ColumnType, name: str) -> Tensor:
    kind = array.type
    if pa.types.is_timestamp(kind) and column_type is ColumnType.TIMESTAMP:
        unit = {"s": 1_000_000, "ms": 1000}.get(kind.unit, 1)
    elif pa.types.is_date(kind):
        unit = DAY if pa.types.is_date32(kind) else 1000
    else:
        raise _unfit(array, column_type, name)
    counts = array.view(pa.int32()).cast(pa.int64()) if pa.types.is_date32(kind) else array.view(pa.int64())
    cells: Tensor = (counts.fill_null(0) if counts.null_count else counts).to_numpy()
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        cells = cells // 1000
    if cells.size and not (int(cells.min()) * unit >= MIN_TIME and int(cells.max()) * unit <= MAX_TIME):
        raise ValueError(f"column '{name}' has times outside of the years 1 to 9999")
    if unit != 1:
        cells = cells * unit
    if array.null_count:
        cells = np.where(array.is_null().to_numpy(zero_copy_only=False), NULL_TIME, cells)
    return cells


def _numbers(array: pa.Array, column_type: ColumnType, name: str) -> Tensor:
    kind = array.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (pa.types.is_boolean(kind) if column_type is ColumnType.BOOLEAN else numeric):
        raise _unfit(array, column_type, name)
    if pa.types.is_integer(kind) and kind.bit_width == 64:
        _refuse_inexact(array, name)
    if pa.types.is_decimal(kind):
        cells = _decimals(array)
    else:
        doubles = array if pa.types.is_float64(kind) else array.cast(pa.float64())
        cells = doubles.to_numpy(zero_copy_only=False)  # a null becomes NaN
    if column_type is ColumnType.INT64 and not pa.types.is_integer(kind):
        _refuse_broken(cells, name)
    return cells


def _decimals(array: pa.Array) -> Tensor:
    """The doubles nearest to decimals, which is what their digits mean in a request. (Arrow's own cast multiplies by
    an inexact power of ten.)"""
    scale = array.type.scale
    array = array.cast(pa.decimal128(38, scale))
    halves = np.frombuffer(array.buffers()[1], np.int64).reshape(-1, 2)
    low, high = halves[array.offset : array.offset + len(array)].T
    cells: Tensor = low / 10.0**scale
    large = ((low < -MAX_INTEGER) | (low > MAX_INTEGER) | (high != low >> 63)) & array.is_valid().to_numpy(False)
    for row in np.flatnonzero(large) if scale <= 22 else range(len(array)):
        cells[row] = float(array[int(row)].as_py() or "nan")
    cells[array.is_null().to_numpy(False)] = np.nan
    return cells


def _refuse_inexact(array: pa.Array, name: str) -> None:
    bounds = pc.min_max(array).as_py()
    for value in (bounds["min"], bounds["max"]):
        if value is not None and abs(value) > MAX_INTEGER:
            raise ValueError(f"column '{name}' has {value}, which is beyond 2**53, up to which integers are exact")


def _refuse_broken(cells: Tensor, name: str) -> None:
    with np.errstate(invalid="ignore"):
        broken = ~(np.isnan(cells) | ((cells == np.floor(cells)) & (np.abs(cells) <= MAX_INTEGER)))
    if broken.any():
        raise ValueError(
            f"column '{name}' is of integers, but has {cells[broken][0]} in row {int(broken.argmax()) + 1}"
        )


def _unfit(array: pa.Array, column_type: ColumnType, name: str) -> ValueError:
    return ValueError(f"column '{name}' is of Arrow's type {array.type}, which is no {column_type}")
