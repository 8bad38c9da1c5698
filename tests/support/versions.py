"""Feature set versions as the prepare step leaves them, written from a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from levada import names
from levada.artifacts import FeatureColumn, FeatureManifest, LookupSpec, StoredFile
from levada.features.export import compile_derived
from levada.features.model import OnnxModel
from levada.features.tensors import from_tensor, to_tensor
from levada.features.types import ColumnType
from levada.resources.status import InputVersion
from levada.stores.ports import Objects

NAMESPACE = "default"
BATCHES = [InputVersion(kind="Dataset", name="source", ids=["batch-0123456789abcdef"])]


def column_type(type: pa.DataType) -> ColumnType:
    """The column type of an Arrow type."""
    if pa.types.is_timestamp(type):
        return ColumnType.TIMESTAMP
    kinds = {pa.bool_(): ColumnType.BOOLEAN, pa.string(): ColumnType.STRING, pa.float64(): ColumnType.FLOAT64}
    return kinds.get(type, ColumnType.INT64)


def write_version(
    objects: Objects,
    table: pa.Table,
    *,
    name: str = "things",
    label: str | None = "label",
    keys: Sequence[str] = (),
    timestamp: str | None = None,
    features: Sequence[str] | None = None,
    derive: Sequence[tuple[str, str]] = (),
    lookups: Sequence[LookupSpec] = (),
    files: int = 1,
    row_group_rows: int = 50_000,
) -> FeatureManifest:
    """Write a version; its prefix is `prefix_of(manifest)`. Columns of lookups are those that the lookups name."""
    kinds = {field.name: column_type(field.type) for field in table.schema}
    version = names.derived_id(names.Prefix.FEATURES, [name, table.schema.to_string(), table.num_rows, label, derive])
    prefix = names.features_prefix(NAMESPACE, name, version)
    origins: dict[str, Any] = dict.fromkeys(table.column_names, "query")
    origins |= {column.name: "lookup" for lookup in lookups for column in lookup.columns}
    if derive:
        model = compile_derived(derive, kinds)
        objects.put(prefix + "derive.onnx", model.SerializeToString(deterministic=True))
        inputs = {v.name: to_tensor(table.column(v.name), kinds[v.name], v.name) for v in model.graph.input}
        for feature, values in OnnxModel(model.SerializeToString()).run_all(inputs).items():
            kinds[feature] = ColumnType.STRING if values.dtype == object else ColumnType.FLOAT64
            table = table.append_column(feature, from_tensor(values, kinds[feature]))
            origins[feature] = "derived"

    def role(column: str) -> Any:
        if column == label:
            return "label"
        if features is not None:
            return "feature" if column in features else "key" if column in keys else "other"
        if column in keys:
            return "key"
        return "timestamp" if kinds[column].is_temporal else "feature"

    stored = []
    rows = -(-table.num_rows // files)
    for number in range(files):
        part = table.slice(number * rows, rows)
        buffer = io.BytesIO()
        pq.write_table(part, buffer, row_group_size=row_group_rows)
        data = buffer.getvalue()
        key = f"rows/part-{number:05d}.parquet"
        objects.put(prefix + key, data)
        stored.append(StoredFile(key=key, bytes=len(data), digest=names.digest(data), rows=part.num_rows))
    manifest = FeatureManifest(
        version=version,
        namespace=NAMESPACE,
        feature_set=name,
        columns=[
            FeatureColumn(name=column, type=kinds[column], origin=origins[column], role=role(column))
            for column in table.column_names
        ],
        keys=list(keys),
        timestamp=timestamp,
        label=label,
        rows=table.num_rows,
        files=stored,
        inputs=BATCHES,
        lookups=list(lookups),
        derive=[(feature, expression) for feature, expression in derive],
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
    )
    objects.put(prefix + names.MANIFEST, manifest.to_bytes())
    return manifest


def prefix_of(manifest: FeatureManifest) -> str:
    """Where a version lies."""
    return names.features_prefix(manifest.namespace, manifest.feature_set, manifest.version)
