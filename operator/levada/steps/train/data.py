"""What training reads: the columns that features are made of, and the label, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pyarrow.compute as pc

from levada.artifacts import FeatureColumn, FeatureManifest
from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.resources.conditions import Reason
from levada.resources.trainingrun import Task
from levada.steps.rows import ParquetRows, tensors
from levada.stores.ports import ObjectNotFound, Objects

DERIVED = "derive.onnx"  # beside the rows of a feature set version
MANY_CLASSES = 1000


@dataclass(frozen=True)
class Label:
    """The label of every row. `values` [N]: int64 or str (object) of classes, float64 of a regression. `present` [N]:
    where it is not missing; elsewhere values mean nothing."""

    name: str
    values: npt.NDArray[Any]
    present: npt.NDArray[np.bool_]
    is_boolean: bool = False


@dataclass
class Version:
    """A feature set version as training sees it."""

    manifest: FeatureManifest
    rows: ParquetRows
    derived: onnx.ModelProto | None = None
    _columns: dict[str, FeatureColumn] = field(init=False)

    def __post_init__(self) -> None:
        self._columns = {column.name: column for column in self.manifest.columns}

    def column(self, name: str) -> FeatureColumn:
        """The column of a name; raises Stalled."""
        if name not in self._columns:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"the version {self.manifest.version} of the feature set '{self.manifest.feature_set}' has no column "
                f"'{name}' (it has: {', '.join(self._columns)})",
            )
        return self._columns[name]

    def features(self) -> list[FeatureColumn]:
        """The columns that models see; raises Stalled if there is none, or one that a model cannot see."""
        found = [column for column in self.manifest.columns if column.role == "feature"]
        for column in found:
            if column.type.is_temporal:
                raise Stalled(
                    Reason.INVALID_SPEC,
                    f"the feature '{column.name}' of the feature set '{self.manifest.feature_set}' is a {column.type}, "
                    "which a model cannot see: derive numbers from it, such as hour(...) or isodow(...), and list "
                    "those in features",
                )
        if not found:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"the feature set '{self.manifest.feature_set}' has no features: every column is a key, a time or the "
                "label",
            )
        return found

    def inputs(self, features: list[FeatureColumn]) -> list[FeatureColumn]:
        """The stored columns that features are made of, in the version's order."""
        needed = {column.name for column in features if column.origin != "derived"}
        if self.derived is not None:
            needed.update(value.name for value in self.derived.graph.input)
        return [column for column in self.manifest.columns if column.name in needed]

    def read(self, columns: list[FeatureColumn]) -> dict[str, npt.NDArray[Any]]:
        """Whole columns as tensors [N, 1]."""
        try:
            return tensors(self.rows.read([column.name for column in columns]), columns)
        except ValueError as error:
            raise Stalled(Reason.INVALID_DATA, self._about(error)) from error

    def label(self, name: str, task: Task) -> Label:
        """The label, fit for the task; raises Stalled if it is not."""
        column = self.column(name)
        values = self.rows.read([name]).column(name).combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # of no rows
            values = pa.array([], values.type)
        if task == "classification":
            return _classes(column, values)
        return _numbers(column, values)

    def _about(self, error: ValueError) -> str:
        return f"the version {self.manifest.version} of the feature set '{self.manifest.feature_set}': {error}"


def open_version(objects: Objects, prefix: str, name: str) -> Version:
    """The version below a prefix; raises Stalled if it is gone."""
    from levada.names import MANIFEST

    try:
        manifest = FeatureManifest.from_bytes(objects.get(prefix + MANIFEST))
    except ObjectNotFound as error:
        raise Stalled(
            Reason.SOURCE_NOT_FOUND,
            f"the feature set version {name} is not there any more ({objects.uri(prefix)}): prepare the features anew",
        ) from error
    derived = onnx.load_from_string(objects.get(prefix + DERIVED)) if manifest.derive else None
    return Version(manifest, ParquetRows(objects, prefix, manifest.files), derived)


def _classes(column: FeatureColumn, values: pa.Array) -> Label:
    if column.type not in (ColumnType.BOOLEAN, ColumnType.STRING, ColumnType.INT64):
        raise Stalled(
            Reason.INVALID_SPEC,
            f"the label '{column.name}' is of type {column.type}, and a classification needs a boolean, a text or a "
            "whole number: use the task regression, or make classes of it in the query",
        )
    distinct = pc.count_distinct(values).as_py()
    if distinct > MANY_CLASSES:
        raise Stalled(
            Reason.INVALID_SPEC,
            f"the label '{column.name}' has {distinct} different values, too many for a classification (at most "
            f"{MANY_CLASSES}): use the task regression, or make classes of it in the query",
        )
    present = values.is_valid().to_numpy(zero_copy_only=False)
    if column.type is ColumnType.STRING:
        filled = values.fill_null("").to_numpy(zero_copy_only=False)
        return Label(column.name, filled.astype(object), present)
    numbers = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return Label(column.name, numbers, present, is_boolean=column.type is ColumnType.BOOLEAN)


def _numbers(column: FeatureColumn, values: pa.Array) -> Label:
    if column.type not in (ColumnType.INT64, ColumnType.FLOAT64):
        hint = "use the task classification" if column.type is not ColumnType.TIMESTAMP else "make a number of it"
        raise Stalled(
            Reason.INVALID_SPEC,
            f"the label '{column.name}' is of type {column.type}, and a regression needs a number: {hint}",
        )
    numbers = values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        raise Stalled(
            Reason.INVALID_DATA,
            f"the label '{column.name}' is infinite in row {infinite[0]}: filter such rows out in the query",
        )
    return Label(column.name, numbers, ~np.isnan(numbers))
