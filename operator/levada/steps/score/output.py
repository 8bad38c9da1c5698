"""From a model's outputs to rows: those of the Parquet files, and those of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from levada.artifacts import ModelManifest
from levada.stores.postgres.scores import SCHEMA

ROW, VALUE, LABEL, PROBABILITIES = "row", "value", "label", "probabilities"
OWN = (ROW, VALUE, LABEL, PROBABILITIES)
SEPARATOR = "|"  # between the keys of an entity
Arrays = Mapping[str, npt.NDArray[Any]]


class Layout:
    """What score rows look like.

    `row`: number of the row in the whole input, int64; the copied columns; `value`: probability of the last class,
    prediction, or distance, float32; `label`: class or cluster; `probabilities`: float32 of each class, in the order of
    the manifest's classes. All are the model's own outputs to the bit: a boolean class is 0 or 1.
    """

    def __init__(self, model: ModelManifest, copied: Sequence[str], keys: Sequence[str], timestamp: str | None) -> None:
        self._names = {output.kind: output.name for output in model.outputs}
        self.copied = list(copied)
        self.keys = list(keys)
        self.timestamp = timestamp

    @property
    def columns(self) -> list[str]:
        """Columns of the input that are needed."""
        return list(dict.fromkeys([*self.copied, *self.keys, *([self.timestamp] if self.timestamp else [])]))

    def rows(self, first: int, batch: pa.RecordBatch, found: Arrays) -> pa.RecordBatch:
        """Score rows of a batch of the input, whose first row has the number `first`."""
        columns: dict[str, pa.Array] = {ROW: pa.array(np.arange(first, first + batch.num_rows))}
        columns |= {name: plain(batch.column(name)) for name in self.copied}
        by_kind = {kind: found[name] for kind, name in self._names.items()}
        if "probabilities" in by_kind:
            probabilities = np.ascontiguousarray(by_kind["probabilities"])
            columns[VALUE] = pa.array(probabilities[:, -1])
            columns[LABEL] = pa.array(by_kind["label"])
            columns[PROBABILITIES] = pa.FixedSizeListArray.from_arrays(
                pa.array(probabilities.ravel()), probabilities.shape[1]
            )
        elif "prediction" in by_kind:
            columns[VALUE] = pa.array(by_kind["prediction"][:, 0])
        else:
            if "distance" in by_kind:
                columns[VALUE] = pa.array(by_kind["distance"][:, 0])
            columns[LABEL] = pa.array(by_kind["cluster"])
        return pa.RecordBatch.from_pydict(columns)

    def catalogue_rows(self, batch: pa.RecordBatch, scored: pa.RecordBatch) -> pa.RecordBatch:
        """The same as rows of the catalogue."""
        count = scored.num_rows

        def column(name: str, type: pa.DataType) -> pa.Array:
            if name not in scored.schema.names:
                return pa.nulls(count, type)
            return scored.column(name).cast(type)

        keys = [pc.coalesce(plain(batch.column(key)).cast(pa.string()), "") for key in self.keys]
        return pa.RecordBatch.from_arrays(
            [
                scored.column(ROW),
                column(VALUE, pa.float64()),
                column(LABEL, pa.string()),
                pc.binary_join_element_wise(*keys, SEPARATOR) if keys else pa.nulls(count, pa.string()),
                self._times(batch),
            ],
            schema=SCHEMA,
        )

    def _times(self, batch: pa.RecordBatch) -> pa.Array:
        wanted = SCHEMA.field("event_time").type
        if self.timestamp is None:
            return pa.nulls(batch.num_rows, wanted)
        times = batch.column(self.timestamp)
        if pa.types.is_date(times.type):
            times = times.cast(pa.timestamp("us"))
        return pc.assume_timezone(times, "UTC").cast(wanted) if times.type.tz is None else times.cast(wanted)


def plain(values: pa.Array) -> pa.Array:
    """A column without a dictionary."""
    return values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
