"""From the inputs of a preparation to a version: its rows, its graph, its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from levada.artifacts import FeatureColumn, FeatureManifest, LookupSpec, StoredFile
from levada.errors import Stalled
from levada.features.export import compile_derived
from levada.features.expressions import derive
from levada.features.lookups import lookup_sql, quote, repeated_keys_sql
from levada.features.query import check_query
from levada.features.types import ColumnType, ExpressionError
from levada.resources.conditions import Reason
from levada.resources.featureset import FeatureSetSpec
from levada.resources.status import InputVersion
from levada.steps.context import StepContext
from levada.steps.cores import cores
from levada.steps.io import PrepareWork
from levada.steps.prepare import engine, schema
from levada.steps.prepare.inputs import Input, Version, stage
from levada.steps.prepare.order import depends_on_order
from levada.steps.prepare.rows import Counts, Derivation, Parts, write_rows
from levada.steps.prepare.timing import timed

DERIVED = "derive.onnx"
ROWS = f"{engine.SCHEMA}.rows"
ENGINE_SHARE = 0.6  # of the step's memory; the rest is for rows that are derived and written
UNITS = {"Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True)
class Design:
    """What a version will be: its columns, complete lookups, the graph of derived features, and SQL for all else."""

    columns: list[FeatureColumn]
    lookups: list[LookupSpec]
    model: bytes | None
    sql: str


def make(context: StepContext, work: PrepareWork, prefix: str) -> FeatureManifest:
    """Write the rows of a version below `prefix`, and its graph; its manifest, which is not written yet.

    Raises Stalled as `run`; what was written until then stays.
    """
    spec, owner = work.spec, context.input.owner
    query = spec.query or f"SELECT * FROM {quote(work.inputs[0].alias)}"
    check_query(query, [given.alias for given in work.inputs])
    with timed(context, "stage"):
        inputs, versions = stage(context, work)
    threads = 1 if depends_on_order(query, _integers(inputs)) else cores()
    in_parts = spec.partitions > 1
    with (
        timed(context, "rows"),
        engine.opened(context.scratch, threads, _memory(context, work), keeps_order=in_parts) as connection,
    ):
        relations = _add_tables(connection, inputs, versions)
        design = _design(connection, work, query, versions, relations)
        files, counts = _write(context, connection, spec, design, prefix)
    if counts.rows == 0:
        read = ", ".join(f"{given.dataset} ({given.rows:,} rows)" for given in inputs)
        raise Stalled(Reason.NO_ROWS, f"spec.query: it gives no row from {read}")
    if design.model is not None:
        context.objects.put(prefix + DERIVED, design.model)
    return FeatureManifest(
        version=work.version,
        namespace=owner.namespace,
        feature_set=owner.name,
        columns=design.columns,
        keys=spec.entity.keys,
        timestamp=spec.entity.timestamp,
        label=spec.label,
        rows=counts.rows,
        files=files,
        inputs=_used(work),
        lookups=design.lookups,
        derive=[(derived.name, derived.expression) for derived in spec.derive],
        warnings=_warnings(counts, design.columns, design.lookups),
        created_at=context.now(),
    )


def _design(
    connection: duckdb.DuckDBPyConnection,
    work: PrepareWork,
    query: str,
    versions: Mapping[str, Version],
    relations: Mapping[str, str],
) -> Design:
    """Judge everything that can be judged before a row is read; raises Stalled."""
    spec = work.spec
    given = schema.query_columns(engine.add_query(connection, query))
    schema.check_entity(spec, given)
    types = {column.name: column.type for column in given}
    lookups = [
        schema.completed(index, wanted, lookup, versions[lookup.prefix].manifest, types)
        for index, (wanted, lookup) in enumerate(zip(spec.lookups, work.lookups, strict=True))
    ]
    schema.check_names(given, lookups)
    types |= {column.name: column.type for lookup in lookups for column in lookup.columns}
    derived, model = _derived(spec, types)
    columns = schema.version_columns(spec, given, lookups, derived)
    values = ", ".join(f"{column.expression} AS {quote(column.name)}" for column in given)
    connection.execute(f"CREATE VIEW {ROWS} AS SELECT {values} FROM {engine.QUERY}")
    looked_up = [(lookup, relations[lookup.prefix]) for lookup in lookups]
    _refuse_repeated_keys(connection, looked_up)
    sql = _ordered(lookup_sql(ROWS, looked_up), spec, [column.name for column in given])
    return Design(columns, lookups, model, sql)


def _write(
    context: StepContext, connection: duckdb.DuckDBPyConnection, spec: FeatureSetSpec, design: Design, prefix: str
) -> tuple[list[StoredFile], Counts]:
    """Write all rows; their files, and what was counted."""
    counts = Counts([*spec.entity.keys, *([spec.entity.timestamp] if spec.entity.timestamp is not None else [])])
    derivation = Derivation(design.columns, design.model)
    sql, total = design.sql, None
    with engine.watched(connection, context) as first_rows:
        if spec.partitions > 1:
            with engine.explained():
                sql, total = _kept(connection, sql)

        def progress(rows: int) -> None:
            first_rows.set()
            context.progress("write", rows, total)

        parts = Parts(context.objects, prefix, derivation.schema, spec.partitions, total)
        files = write_rows(parts, engine.stream(connection, sql), derivation, counts, cores(), progress)
    context.progress("write", counts.rows, counts.rows)
    return files, counts


def _add_tables(
    connection: duckdb.DuckDBPyConnection, inputs: Sequence[Input], versions: Mapping[str, Version]
) -> dict[str, str]:
    """Make all relations, and shut the engine off; the relations of versions by prefix."""
    for given in inputs:
        engine.add_input(connection, given.table, given.columns, given.files)
    relations = {
        prefix: engine.add_version(connection, number, version.files)
        for number, (prefix, version) in enumerate(versions.items())
    }
    files = [given.files for given in inputs] + [version.files for version in versions.values()]
    engine.lock(connection, [file for each in files for file in each])
    return relations


def _integers(inputs: Sequence[Input]) -> set[str]:
    """Names of columns that are whole wherever they are, in lower case."""
    whole: dict[str, bool] = {}
    for given in inputs:
        for name, type in given.columns.items():
            whole[name.lower()] = whole.get(name.lower(), True) and type in (ColumnType.INT64, ColumnType.BOOLEAN)
    return {name for name, is_whole in whole.items() if is_whole}


def _memory(context: StepContext, work: PrepareWork) -> int | None:
    """Bytes that the engine may use: what the spec says, and its share of what the step has."""
    limits = []
    if work.spec.engine.memory is not None:
        limits.append(int(work.spec.engine.memory[:-2]) * UNITS[work.spec.engine.memory[-2:]])
    if context.memory_limit_bytes is not None:
        limits.append(int(context.memory_limit_bytes * ENGINE_SHARE))
    return min(limits, default=None)


def _derived(spec: FeatureSetSpec, columns: Mapping[str, ColumnType]) -> tuple[dict[str, ColumnType], bytes | None]:
    """Types of the derived features, and the graph that makes them."""
    if not spec.derive:
        return {}, None
    pairs = [(derived.name, derived.expression) for derived in spec.derive]
    try:
        return derive(pairs, columns).types, compile_derived(pairs, columns).SerializeToString(deterministic=True)
    except ExpressionError as error:
        raise Stalled(Reason.INVALID_EXPRESSION, f"spec.derive: {error}") from error


def _refuse_repeated_keys(connection: duckdb.DuckDBPyConnection, lookups: Sequence[tuple[LookupSpec, str]]) -> None:
    """A version without a time has one row a key, or it is not clear which to take."""
    for index, (spec, relation) in enumerate(lookups):
        if spec.timestamp is not None:
            continue
        with engine.explained():
            found = connection.execute(
                f"SELECT *, count(*) OVER () FROM ({repeated_keys_sql(spec, relation)}) LIMIT 1"
            ).fetchall()
        if found:
            *key, times, count = found[0]
            shown = ", ".join(f"{name} = {value!r}" for name, value in zip(spec.keys, key, strict=True))
            raise Stalled(
                Reason.INVALID_DATA,
                f"spec.lookups[{index}]: FeatureSet {spec.feature_set} has {count:,} keys that stand in more than one "
                f"row ({shown} in {times:,}), so it is not clear which to take: give it an entity.timestamp, or one "
                "row a key",
            )


def _ordered(sql: str, spec: FeatureSetSpec, columns: Sequence[str]) -> str:
    """The same rows by time, then keys, then the rest (by its hash, which is as good an order as any and short)."""
    order = [*([spec.entity.timestamp] if spec.entity.timestamp is not None else []), *spec.entity.keys]
    rest = ", ".join(map(quote, columns))
    return f"SELECT * FROM ({sql}) ORDER BY {', '.join(map(quote, order))}, hash({rest})"


def _kept(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[str, int]:
    """A SELECT of the same rows in the same order from a table of the engine, which has to keep it; how many."""
    connection.execute(f"CREATE TEMP TABLE kept AS {sql}")
    [(count,)] = connection.execute("SELECT count(*) FROM kept").fetchall()
    return "SELECT * FROM kept", count


def _used(work: PrepareWork) -> list[InputVersion]:
    used = {
        **{("Dataset", i.dataset): InputVersion(kind="Dataset", name=i.dataset, ids=i.batches) for i in work.inputs},
        **{
            ("FeatureSet", i.feature_set): InputVersion(kind="FeatureSet", name=i.feature_set, ids=[i.version])
            for i in work.lookups
        },
    }
    return list(used.values())


def _warnings(counts: Counts, columns: Sequence[FeatureColumn], lookups: Sequence[LookupSpec]) -> list[str]:
    """What a person should look at, though the version is whole."""
    found = []
    if counts.repeated:
        found.append(
            f"{counts.repeated:,} rows have the same {' and '.join(counts.keys)} as another one: a row stands for an "
            "entity at a time, and of such rows a lookup finds the last"
        )
    for name in counts.keys:
        if counts.nulls[name]:
            found.append(f"{counts.nulls[name]:,} rows have no '{name}', so no lookup finds them")
    empty = {name for name, nulls in counts.nulls.items() if nulls == counts.rows}
    for index, lookup in enumerate(lookups):
        brought = {column.name for column in lookup.columns}
        if brought <= empty:
            empty -= brought
            found.append(
                f"spec.lookups[{index}]: nothing was found in FeatureSet {lookup.feature_set} for any of the "
                f"{counts.rows:,} rows: compare {', '.join([*lookup.on, *([lookup.as_of] if lookup.as_of else [])])} "
                "with what it holds"
            )
    for column in columns:
        if column.name in empty:
            found.append(f"the column '{column.name}' ({column.type}) has no value in any of the {counts.rows:,} rows")
    return found
