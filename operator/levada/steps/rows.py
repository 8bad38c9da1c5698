"""The rows of a feature set version, or of any sequence of Parquet objects that make one table."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from levada.artifacts import SplitManifest, StoredFile
from levada.features.tensors import to_tensor
from levada.features.types import ColumnType
from levada.resources.dataset import Column
from levada.stores.ports import Objects

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class ParquetRows:
    """Parquet objects whose rows, one file after the other, are numbered from 0. `coded`: texts that `batches` gives as
    dictionaries, as they mostly stand in the files."""

    objects: Objects
    prefix: str
    files: Sequence[StoredFile]
    coded: Sequence[str] = ()

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(self._rows())

    def read(self, columns: Sequence[str]) -> pa.Table:
        """All rows of some columns."""
        tables = []
        for file in self.files:
            with self.objects.reader(self.prefix + file.key) as stream:
                tables.append(pq.read_table(stream, columns=list(columns)))
        return pa.concat_tables(tables)

    def batches(
        self, columns: Sequence[str], start: int = 0, stop: int | None = None, size: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Rows [start, stop) of some columns, in batches of at most `size`; reads no more row groups than it must."""
        stop = self.count if stop is None else stop
        starts = list(accumulate(self._rows(), initial=0))
        number = max(bisect_right(starts, start) - 1, 0)
        while number < len(self.files) and starts[number] < stop:
            with self.objects.reader(self.prefix + self.files[number].key) as stream:
                yield from _slices(
                    pq.ParquetFile(stream, read_dictionary=list(self.coded)),
                    columns,
                    start - starts[number],
                    stop - starts[number],
                    size,
                )
            number += 1

    def selected(
        self, columns: Sequence[str], numbers: npt.NDArray[np.int64], size: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """The rows of some ascending numbers, in batches of at most `size`."""
        if not len(numbers):
            return
        first = int(numbers[0])
        if len(numbers) == numbers[-1] + 1 - first:
            yield from self.batches(columns, first, first + len(numbers), size)
            return
        position = first
        for batch in self.batches(columns, first, int(numbers[-1]) + 1, size):
            low, high = np.searchsorted(numbers, [position, position + batch.num_rows])
            if low < high:
                yield batch.take(pa.array(numbers[low:high] - position))
            position += batch.num_rows

    def _rows(self) -> list[int]:
        return [file.rows or 0 for file in self.files]


def _slices(file: pq.ParquetFile, columns: Sequence[str], start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
    first = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if first + rows > start and first < stop:
            position = first
            for batch in file.iter_batches(size, row_groups=[group], columns=list(columns)):
                low, high = max(start - position, 0), min(stop - position, batch.num_rows)
                if low < high:
                    yield batch.slice(low, high - low)
                position += batch.num_rows
        first += rows


def tensors(table: pa.Table | pa.RecordBatch, columns: Sequence[Column]) -> dict[str, npt.NDArray[Any]]:
    """Columns as ONNX inputs; raises ValueError that names a column which does not fit."""
    return {column.name: _tensor(table.column(column.name), column) for column in columns}


def _tensor(values: pa.Array | pa.ChunkedArray, column: Column) -> npt.NDArray[Any]:
    if not isinstance(values, pa.DictionaryArray) or column.type is not ColumnType.STRING:
        return to_tensor(values, column.type, column.name)
    # each text becomes a Python object once, not once for every row
    texts: npt.NDArray[Any] = to_tensor(
        pa.concat_arrays([values.dictionary, pa.nulls(1, values.dictionary.type)]), column.type
    )
    codes = values.indices.fill_null(len(values.dictionary)).to_numpy(zero_copy_only=False)
    return np.asarray(np.take(texts, codes, axis=0))


def take(columns: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.int64] | slice) -> dict[str, npt.NDArray[Any]]:
    """Some rows of tensors."""
    return {name: values[rows] for name, values in columns.items()}


def numbers_of(manifest: SplitManifest, part: str, objects: Objects, prefix: str) -> npt.NDArray[np.int64]:
    """Row numbers of a part of a split, ascending; `prefix`: where the split lies."""
    found = next((p for p in manifest.parts if p.name == part), None)
    if found is None or found.rows == 0:
        return np.empty(0, dtype=np.int64)
    if found.ranges is not None:
        return np.concatenate([np.arange(start, stop, dtype=np.int64) for start, stop in found.ranges])
    assert found.file is not None, "a part has ranges or a file"
    stored = objects.get(prefix + found.file.key)
    return np.asarray(np.load(io.BytesIO(stored)), dtype=np.int64)
