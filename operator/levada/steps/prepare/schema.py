"""The columns of a version: their types, where they come from, what they are for. Pure; every fault is one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from levada.artifacts import FeatureColumn, FeatureManifest, LookupColumn, LookupSpec
from levada.errors import Stalled
from levada.features.lookups import quote
from levada.features.rules import nearest
from levada.features.types import ColumnType
from levada.resources.conditions import Reason
from levada.resources.featureset import FeatureSetSpec, Lookup

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

# DuckDB's types, and what brings them to the form in which a version holds them; '{}' is the column.
_AS_IT_IS = "{}"
_NO_NAN = "nullif({}::DOUBLE, 'nan'::DOUBLE)"  # a NaN is a null wherever models look
TYPES: dict[str, tuple[ColumnType, str]] = {
    **dict.fromkeys(
        ("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "UHUGEINT"),
        (ColumnType.INT64, "{}::BIGINT"),
    ),
    "BIGINT": (ColumnType.INT64, _AS_IT_IS),
    **dict.fromkeys(("FLOAT", "DOUBLE"), (ColumnType.FLOAT64, _NO_NAN)),
    **dict.fromkeys(("DECIMAL", "NULL"), (ColumnType.FLOAT64, "{}::DOUBLE")),
    "VARCHAR": (ColumnType.STRING, _AS_IT_IS),
    **dict.fromkeys(("ENUM", "JSON", "UUID"), (ColumnType.STRING, "{}::VARCHAR")),
    "BOOLEAN": (ColumnType.BOOLEAN, _AS_IT_IS),
    "DATE": (ColumnType.DATE, _AS_IT_IS),
    "TIMESTAMP": (ColumnType.TIMESTAMP, _AS_IT_IS),
    **dict.fromkeys(
        ("TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"),
        (ColumnType.TIMESTAMP, "{}::TIMESTAMP"),
    ),
}


@dataclass(frozen=True)
class QueryColumn:
    """A column that the query gives. `expression`: SQL that makes the stored value of it."""

    name: str
    type: ColumnType
    expression: str


def query_columns(described: Sequence[tuple[str, str]]) -> list[QueryColumn]:
    """The columns of a query from their names and DuckDB's types, in order; raises Stalled."""
    columns: list[QueryColumn] = []
    seen: dict[str, str] = {}
    for name, duckdb_type in described:
        if not NAME.fullmatch(name):
            raise _query(
                f"the column '{name}' needs a name of at most 128 letters, digits and '_': write {name} AS some_name"
            )
        if name.lower() in seen:
            raise _query(
                f"two columns are named '{name}': name one of them otherwise with AS, or leave it out"
                if seen[name.lower()] == name
                else f"the columns '{seen[name.lower()]}' and '{name}' differ in nothing but case: rename one with AS"
            )
        seen[name.lower()] = name
        base = duckdb_type if duckdb_type.endswith("]") else duckdb_type.partition("(")[0].strip('"')
        if base not in TYPES:
            raise _query(
                f"the column '{name}' is of type {duckdb_type}, but a column is a number, a text, a boolean, a date or "
                "a timestamp: convert it in the query, or leave it out"
            )
        type, expression = TYPES[base]
        columns.append(QueryColumn(name, type, expression.format(quote(name))))
    return columns


def completed(
    index: int, wanted: Lookup, spec: LookupSpec, other: FeatureManifest, columns: Mapping[str, ColumnType]
) -> LookupSpec:
    """A lookup with what only the other version's manifest knows. `columns`: of this query. Raises Stalled."""
    field = f"spec.lookups[{index}]"
    theirs = {column.name: column for column in other.columns}
    types = [theirs[key].type for key in spec.keys]
    for name, key, type in zip(spec.on, spec.keys, types, strict=True):
        mine = _known(f"{field}.keys", name, columns)
        if mine is not type:
            raise _spec(
                f"{field}.keys: the column '{name}' is {mine}, but the key '{key}' of FeatureSet {other.feature_set} "
                f"is {type}: cast one of them in its query"
            )
    if spec.as_of is not None and not _known(f"{field}.asOf", spec.as_of, columns).is_temporal:
        raise _spec(
            f"{field}.asOf: the column '{spec.as_of}' is {columns[spec.as_of]}, not a time: cast it in the query"
        )
    if wanted.columns is None:
        sources = [column.name for column in other.columns if column.role == "feature"]
        if not sources:
            raise _spec(f"{field}: FeatureSet {other.feature_set} has no features; name in columns what to take of it")
    else:
        sources = wanted.columns
    prefix = wanted.prefix if wanted.prefix is not None else wanted.feature_set.replace("-", "_") + "_"
    taken = []
    for source in sources:
        if source not in theirs:
            raise _spec(
                f"{field}.columns: FeatureSet {other.feature_set} has no column '{source}'{_hint(source, theirs)}"
            )
        taken.append(LookupColumn(source=source, name=prefix + source, type=theirs[source].type))
    return spec.model_copy(update={"key_types": types, "columns": taken})


def check_names(query: Iterable[QueryColumn], lookups: Sequence[LookupSpec]) -> None:
    """Raise Stalled if a looked-up column has the name of another column."""
    taken = {column.name.lower(): "the query" for column in query}
    for index, spec in enumerate(lookups):
        for column in spec.columns:
            other = taken.setdefault(column.name.lower(), f"spec.lookups[{index}]")
            if other != f"spec.lookups[{index}]":
                raise _spec(
                    f"spec.lookups[{index}]: it brings a column '{column.name}', but {other} has one of that name: "
                    "give the lookup another prefix"
                )


def check_entity(spec: FeatureSetSpec, query: Sequence[QueryColumn]) -> None:
    """Raise Stalled if the query lacks the entity's columns or the label, or the timestamp is no time."""
    columns = {column.name: column.type for column in query}
    for key in spec.entity.keys:
        _known("spec.entity.keys", key, columns)
    timestamp = spec.entity.timestamp
    if timestamp is not None and not _known("spec.entity.timestamp", timestamp, columns).is_temporal:
        raise _spec(
            f"spec.entity.timestamp: the column '{timestamp}' is {columns[timestamp]}, not a time: make it one in the "
            "query, e.g. with to_timestamp() or strptime()"
        )
    if spec.label is not None:
        _known("spec.label", spec.label, columns)


def version_columns(
    spec: FeatureSetSpec,
    query: Sequence[QueryColumn],
    lookups: Sequence[LookupSpec],
    derived: Mapping[str, ColumnType],
) -> list[FeatureColumn]:
    """All columns in the order in which they are stored; raises Stalled if `features` names something else."""
    found: list[tuple[str, ColumnType, Literal["query", "lookup", "derived"]]] = [
        *((column.name, column.type, "query") for column in query),
        *((column.name, column.type, "lookup") for lookup in lookups for column in lookup.columns),
        *((name, type, "derived") for name, type in derived.items()),
    ]
    types = {name: type for name, type, _ in found}
    for name in spec.features or []:
        if name not in types:
            raise _spec(f"spec.features: there is no column '{name}'{_hint(name, types)}")
        if name == spec.label:
            raise _spec(f"spec.features: '{name}' is the label, which a model may not see")
        if types[name].is_temporal:
            raise _spec(
                f"spec.features: '{name}' is a {types[name]}, which a model cannot see: derive numbers from it, such "
                "as hour(…) or isodow(…), and name those"
            )
    return [
        FeatureColumn(name=name, type=type, origin=origin, role=_role(name, type, spec)) for name, type, origin in found
    ]


def _role(
    name: str, type: ColumnType, spec: FeatureSetSpec
) -> Literal["key", "timestamp", "label", "feature", "other"]:
    if name == spec.label:
        return "label"
    if name in (spec.features or ()):
        return "feature"  # a key may be one too; the manifest names the keys besides
    if name == spec.entity.timestamp:
        return "timestamp"
    if name in spec.entity.keys:
        return "key"
    return "feature" if spec.features is None and not type.is_temporal else "other"


def _known(field: str, name: str, columns: Mapping[str, ColumnType]) -> ColumnType:
    if name not in columns:
        raise _spec(f"{field}: the query gives no column '{name}'{_hint(name, columns)}")
    return columns[name]


def _hint(name: str, known: Mapping[str, object]) -> str:
    """The nearest name, or all of them."""
    return nearest(name, known) or f" (there are: {', '.join(known)})"


def _query(message: str) -> Stalled:
    return Stalled(Reason.INVALID_QUERY, f"spec.query: {message}")


def _spec(message: str) -> Stalled:
    return Stalled(Reason.INVALID_SPEC, message)
