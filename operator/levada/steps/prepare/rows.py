"""The rows of a version on their way into the object store: checked, derived features added, written in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from levada.artifacts import FeatureColumn, StoredFile
from levada.errors import Stalled
from levada.features.model import OnnxModel
from levada.features.tensors import ARROW_TYPES, from_tensor, to_tensor
from levada.features.types import ColumnType
from levada.resources.conditions import Reason
from levada.steps.parquet import ParquetFile
from levada.steps.prepare.engine import BATCH_ROWS
from levada.steps.stages import Stage, in_order, prefetch
from levada.stores.ports import Objects


class Derivation:
    """Gives rows their derived features, and refuses values that models cannot be given exactly."""

    def __init__(self, columns: Sequence[FeatureColumn], model: bytes | None) -> None:
        self.schema = pa.schema([(column.name, ARROW_TYPES[column.type]) for column in columns])
        self._model = None if model is None else OnnxModel(model)
        inputs = set(self._model.inputs) if self._model else set()
        given = [column for column in columns if column.origin != "derived"]
        self._given = [column.name for column in given]
        self._derived = [column for column in columns if column.origin == "derived"]
        self._bounded = [
            column
            for column in given
            if column.name in inputs or column.type is ColumnType.INT64 or column.type.is_temporal
        ]

    def __call__(self, batch: pa.RecordBatch) -> pa.Table:
        """The rows with all columns of `schema`; raises Stalled."""
        try:
            tensors = {c.name: to_tensor(batch.column(c.name), c.type, c.name) for c in self._bounded}
        except ValueError as error:
            raise Stalled(Reason.INVALID_DATA, f"spec.query: {error}") from error
        arrays = [batch.column(name).cast(self.schema.field(name).type) for name in self._given]
        if self._model is not None:
            outputs = self._model.run(tensors, [column.name for column in self._derived])
            arrays += [from_tensor(outputs[column.name], column.type) for column in self._derived]
        return pa.Table.from_arrays(arrays, schema=self.schema)


@dataclass
class Parts:
    """Writes rows into so many files of equal size, one after the other, as they come.

    `total` is how many rows will come; without it there is one file.
    """

    objects: Objects
    prefix: str
    schema: pa.Schema
    count: int
    total: int | None

    def write(self, tables: Iterator[pa.Table]) -> list[StoredFile]:
        """The files of all rows."""
        files: list[StoredFile] = []
        rows, rest = 0, next(tables, None)
        for end in self._ends():
            if rest is None or end == rows:
                continue  # fewer rows than files
            with ParquetFile(
                self.objects, self.prefix, f"rows/part-{len(files):05}.parquet", self.schema, BATCH_ROWS
            ) as file:
                while rest is not None and (end is None or rows < end):
                    taken = rest if end is None else rest.slice(0, end - rows)
                    file.write(taken)
                    rows += taken.num_rows
                    rest = rest.slice(taken.num_rows)
                    if rest.num_rows == 0:
                        rest = next(tables, None)
            assert file.stored is not None, "a file has rows"
            files.append(file.stored)
        return files

    def _ends(self) -> list[int | None]:
        """After how many rows each file ends; None: after all of them."""
        return [None] if self.total is None else [self.total * (i + 1) // self.count for i in range(self.count)]


@dataclass
class Counts:
    """What is counted while rows pass by in their order."""

    keys: Sequence[str]  # key columns, and the timestamp
    rows: int = 0
    nulls: dict[str, int] = field(default_factory=dict)
    repeated: int = 0  # rows that have the keys and time of the row before
    _last: pa.Table | None = None

    def add(self, table: pa.Table) -> None:
        for name in table.column_names:
            self.nulls[name] = self.nulls.get(name, 0) + table.column(name).null_count
        self.rows += table.num_rows
        keys = table.select(self.keys)
        if self._last is not None:
            keys = pa.concat_tables([self._last, keys])
        self.repeated += _repeated(keys)
        self._last = keys.slice(keys.num_rows - 1)


def write_rows(
    parts: Parts,
    batches: Iterator[pa.RecordBatch],
    derivation: Derivation,
    counts: Counts,
    workers: int,
    progress: Callable[[int], None],
) -> list[StoredFile]:
    """Derive and write all rows, counting them; reading, deriving and writing go on beside one another."""
    # Closed here and not some time later: the engine goes when this ends, and nobody may read from it then.
    read = prefetch(batches, depth=2)
    with ThreadPoolExecutor(workers, "derive") as pool, Stage(parts.write, depth=2) as written, closing(read):
        for table in in_order(pool, derivation, read, workers + 1):
            if table.num_rows == 0:
                continue
            counts.add(table)
            written.put(table)
            progress(counts.rows)
    return written.result


def _repeated(keys: pa.Table) -> int:
    """How many rows equal the one before; nulls equal nothing."""
    same = None
    for column in keys.columns:
        column = column.combine_chunks()
        equal = pc.equal(column.slice(0, len(column) - 1), column.slice(1))
        same = equal if same is None else pc.and_kleene(same, equal)
    return int(pc.sum(same).as_py() or 0)
