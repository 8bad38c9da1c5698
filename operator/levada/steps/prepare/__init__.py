"""Prepare: run a FeatureSet's query, look up other feature sets, derive features, and keep the rows as a version.

Below the version's prefix: `rows/part-00000.parquet` … (ordered by the entity's time, then its keys), `derive.onnx`
where features are derived, and last of all `manifest.json`. Same inputs, same bytes: rows have a total order, and a
query whose answer depends on the order of rows runs on one thread (order.py).

| module     | what it holds                                                          |
|------------|------------------------------------------------------------------------|
| inputs.py  | batches and looked-up versions on the local disk                       |
| order.py   | whether a query may use several threads and still give the same answer |
| engine.py  | DuckDB, shut off from files and network                                |
| schema.py  | the version's columns, and what is wrong with them                     |
| rows.py    | deriving, checking and writing rows                                    |
| online.py  | rows into the online store                                             |
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb

from levada import names
from levada.artifacts import FeatureColumn, FeatureManifest, LookupSpec
from levada.errors import Stalled
from levada.events import Event, EventType
from levada.features.export import compile_derived
from levada.features.expressions import derive
from levada.features.lookups import lookup_sql, quote, repeated_keys_sql
from levada.features.query import check_query
from levada.features.types import ColumnType, ExpressionError
from levada.names import Kind
from levada.resources.conditions import Reason
from levada.resources.status import InputVersion
from levada.steps.context import StepContext
from levada.steps.cores import cores
from levada.steps.io import PrepareOutput, PrepareWork
from levada.steps.prepare import engine, schema
from levada.steps.prepare.inputs import Input, Version, stage
from levada.steps.prepare.online import replicate
from levada.steps.prepare.order import depends_on_order
from levada.steps.prepare.rows import Counts, Derivation, Parts, write_rows
from levada.stores.ports import ObjectNotFound

DERIVED = "derive.onnx"
ROWS = f"{engine.SCHEMA}.rows"
ENGINE_SHARE = 0.6  # of the step's memory; the rest is for rows that are derived and written
UNITS = {"Mi": 2**20, "Gi": 2**30}


def run(context: StepContext) -> PrepareOutput | None:
    """Prepare a version, or find it prepared.

    Raises Stalled, with one sentence that names the field or the column, for whatever only the user can put right;
    StoreUnavailable and other errors may be tried again.
    """
    work = context.input.work
    assert isinstance(work, PrepareWork)
    owner = context.input.owner
    prefix = names.features_prefix(owner.namespace, owner.name, work.version)
    try:
        data = context.objects.get(prefix + names.MANIFEST)
    except ObjectNotFound:
        try:
            manifest = _prepare(context, work, prefix)
        except Stalled:
            context.objects.delete_prefix(prefix)
            raise
        data, _ = context.put_manifest(prefix + names.MANIFEST, manifest)
    return _commit(context, work, prefix, data)


def _commit(context: StepContext, work: PrepareWork, prefix: str, data: bytes) -> PrepareOutput:
    """What a version whose manifest stands there still needs: its rows online, its row in the catalogue."""
    manifest, digest, uri = FeatureManifest.from_bytes(data), names.digest(data), context.objects.uri(prefix)
    if work.spec.online.enabled:
        with _timed(context, "replicate"):
            replicate(context, manifest, prefix, work.spec.online)
    event = Event(
        id=names.event_id(EventType.FEATURES_GENERATED, manifest.namespace, manifest.feature_set, manifest.version),
        type=EventType.FEATURES_GENERATED,
        kind=Kind.FEATURE_SET,
        namespace=manifest.namespace,
        name=manifest.feature_set,
        time=manifest.created_at,
        data={
            "version": manifest.version,
            "uri": uri,
            "digest": digest,
            "rows": manifest.rows,
            "columns": len(manifest.columns),
            "inputs": [used.document() for used in manifest.inputs],
        },
    )
    context.catalogue.commit_features(manifest, uri, digest, event)
    for warning in manifest.warnings:
        context.warn(warning)
    return PrepareOutput(prefix=prefix, digest=digest, manifest=manifest)


def _prepare(context: StepContext, work: PrepareWork, prefix: str) -> FeatureManifest:
    """Write the rows; the manifest, which is not written yet."""
    spec, owner = work.spec, context.input.owner
    sql = spec.query or f"SELECT * FROM {quote(work.inputs[0].alias)}"
    check_query(sql, [given.alias for given in work.inputs])
    with _timed(context, "stage"):
        inputs, versions = stage(context, work)
    threads = 1 if depends_on_order(sql, _integers(inputs)) else cores()
    with (
        _timed(context, "query"),
        engine.opened(context.scratch, threads, _memory(context, work)) as connection,
    ):
        relations = _add_tables(connection, inputs, versions)
        query = schema.query_columns(engine.add_query(connection, sql))
        schema.check_entity(spec, query)
        types = {column.name: column.type for column in query}
        lookups = [
            schema.completed(index, wanted, given, versions[given.prefix].manifest, types)
            for index, (wanted, given) in enumerate(zip(spec.lookups, work.lookups, strict=True))
        ]
        schema.check_names(query, lookups)
        types |= {column.name: column.type for lookup in lookups for column in lookup.columns}
        derived, model = _derived(work, types)
        columns = schema.version_columns(spec, query, lookups, derived)
        values = ", ".join(f"{column.expression} AS {quote(column.name)}" for column in query)
        connection.execute(f"CREATE VIEW {ROWS} AS SELECT {values} FROM {engine.QUERY}")
        looked_up = [(lookup, relations[lookup.prefix]) for lookup in lookups]
        _refuse_repeated_keys(connection, looked_up)
        ordered = _ordered(lookup_sql(ROWS, looked_up), work, [column.name for column in query])
        keys = [*spec.entity.keys, *([spec.entity.timestamp] if spec.entity.timestamp is not None else [])]
        counts = Counts(keys)
        with engine.watched(connection, context) as first_rows:
            total = None
            if spec.partitions > 1:
                with engine.explained():
                    ordered, total = _kept(connection, ordered)

            def progress(rows: int) -> None:
                first_rows.set()
                context.progress("write", rows, total)

            derivation = Derivation(columns, model)
            files = write_rows(
                Parts(context.objects, prefix, context.scratch, derivation.schema, spec.partitions, total),
                engine.stream(connection, ordered),
                derivation,
                counts,
                workers=cores(),
                progress=progress,
            )
    if counts.rows == 0:
        read = ", ".join(f"{given.dataset} ({given.rows:,} rows)" for given in inputs)
        raise Stalled(Reason.NO_ROWS, f"spec.query: it gives no row from {read}")
    context.progress("write", counts.rows, counts.rows)
    if model is not None:
        context.objects.put(prefix + DERIVED, model)
    return FeatureManifest(
        version=work.version,
        namespace=owner.namespace,
        feature_set=owner.name,
        columns=columns,
        keys=spec.entity.keys,
        timestamp=spec.entity.timestamp,
        label=spec.label,
        rows=counts.rows,
        files=files,
        inputs=_used(work),
        lookups=lookups,
        derive=[(derived.name, derived.expression) for derived in spec.derive],
        warnings=_warnings(counts, columns, lookups),
        created_at=context.now(),
    )


def _add_tables(
    connection: duckdb.DuckDBPyConnection, inputs: Sequence[Input], versions: dict[str, Version]
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


def _derived(work: PrepareWork, columns: dict[str, ColumnType]) -> tuple[dict[str, ColumnType], bytes | None]:
    """Types of the derived features, and the graph that makes them."""
    if not work.spec.derive:
        return {}, None
    pairs = [(derived.name, derived.expression) for derived in work.spec.derive]
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


def _ordered(sql: str, work: PrepareWork, columns: Sequence[str]) -> str:
    """The same rows by time, then keys, then the rest (by its hash, which is as good an order as any and short)."""
    entity = work.spec.entity
    order = [*([entity.timestamp] if entity.timestamp is not None else []), *entity.keys]
    rest = ", ".join(map(quote, columns))
    return f"SELECT * FROM ({sql}) ORDER BY {', '.join(map(quote, order))}, hash({rest})"


def _kept(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[str, int]:
    """A SELECT of the same rows from a table of the engine, and how many there are."""
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


@contextmanager
def _timed(context: StepContext, phase: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    context.timings[phase] = round(time.perf_counter() - started, 3)
