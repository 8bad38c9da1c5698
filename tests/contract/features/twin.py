"""An expression's answers by its ONNX graph and by DuckDB, in one form that can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa

from levada.features.export import compile_derived
from levada.features.tensors import ARROW_TYPES, from_tensor, to_tensor
from levada.features.types import ColumnType

COLUMNS = {
    **dict.fromkeys(("i", "j", "k"), ColumnType.INT64),
    **dict.fromkeys(("x", "y"), ColumnType.FLOAT64),
    **dict.fromkeys(("s", "r"), ColumnType.STRING),
    **dict.fromkeys(("b", "c"), ColumnType.BOOLEAN),
    **dict.fromkeys(("ts", "us"), ColumnType.TIMESTAMP),
    **dict.fromkeys(("d", "e"), ColumnType.DATE),
}
Answer = float | int | str | bool | None


def table(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Rows with a column for each of COLUMNS, null where `columns` has none."""
    rows = len(next(iter(columns.values())))
    return pa.table(
        {name: pa.array(columns.get(name, [None] * rows), ARROW_TYPES[kind]) for name, kind in COLUMNS.items()}
    )


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def tensors(rows: pa.Table, names: Sequence[str]) -> dict[str, Any]:
    return {name: to_tensor(rows[name], COLUMNS[name], name) for name in names}


def run(expression: str, rows: pa.Table) -> Any:
    """The raw output tensor of an expression's graph."""
    running = session(compile_derived([("answer", expression)], COLUMNS))
    (result,) = running.run(None, tensors(rows, [entry.name for entry in running.get_inputs()]))
    assert result.shape == (rows.num_rows, 1)
    return result


def by_onnx(expression: str, rows: pa.Table, column_type: ColumnType) -> list[Answer]:
    return comparable(from_tensor(run(expression, rows), column_type))


def by_duckdb(connection: duckdb.DuckDBPyConnection, expression: str, rows: pa.Table) -> list[Answer]:
    connection.register("rows", rows)
    answers = connection.sql(f"SELECT {expression} AS answer FROM rows").to_arrow_table()["answer"]
    if pa.types.is_decimal(answers.type):  # DuckDB's own cast, not Arrow's, which is not to the nearest double
        answers = connection.sql(f"SELECT ({expression})::DOUBLE AS answer FROM rows").to_arrow_table()["answer"]
    return comparable(answers)


def comparable(column: pa.Array | pa.ChunkedArray) -> list[Answer]:
    """Plain values; times in microseconds, NaN as null, which it is in a tensor."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return [None if isinstance(v, float) and math.isnan(v) else v for v in column.to_pylist()]


def distance(left: float, right: float) -> int:
    """Units in the last place between two doubles; 0.0 and -0.0 are the same."""
    ordered = [int(np.float64(value).view(np.int64)) for value in (left, right)]
    a, b = (bits if bits >= 0 else -(bits + 2**63) for bits in ordered)
    return abs(a - b)


def differences(ours: list[Answer], theirs: list[Answer], ulps: int = 0, absolute: float = 0.0) -> list[str]:
    """Rows whose answers differ; doubles may by `ulps` units in the last place, or by `absolute`."""
    found = []
    for row, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if isinstance(mine, float) and isinstance(other, float):
            same = distance(mine, other) <= ulps or abs(mine - other) <= absolute
        else:
            same = mine == other and (mine is None) == (other is None)
        if not same:
            found.append(f"row {row}: {mine!r}, DuckDB has {other!r}")
    return found
