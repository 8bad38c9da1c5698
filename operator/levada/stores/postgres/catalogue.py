"""The catalogue: what exists and where it came from; see `levada.stores.ports.Catalogue`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb
from pydantic import ValidationError

from levada import names
from levada.artifacts import (
    BatchManifest,
    EvaluationManifest,
    FeatureManifest,
    ModelManifest,
    ScoresManifest,
    SplitManifest,
)
from levada.errors import StoreUnavailable, printable
from levada.events import Event
from levada.names import Kind
from levada.resources import Ref
from levada.settings import Settings
from levada.stores.failpoints import after_write
from levada.stores.ports import LineageNode, ScoreBlock, ScoreRow
from levada.stores.postgres import lineage, migrations, records
from levada.stores.postgres.connection import Database
from levada.stores.postgres.records import Record, Type

if TYPE_CHECKING:
    import pyarrow as pa


# One statement is one transaction and one round trip: where the row exists already, nothing follows from it.
_COMMIT = """
WITH made AS (
    INSERT INTO artifacts (key, type, namespace, owner, id, uri, digest, rows, created_at, details)
    VALUES (%(key)s, %(type)s, %(namespace)s, %(owner)s, %(id)s, %(uri)s, %(digest)s, %(rows)s, %(created_at)s,
            %(details)s)
    ON CONFLICT DO NOTHING
    RETURNING key
), edges AS (
    INSERT INTO lineage (child, parent) SELECT DISTINCT key, unnest(%(parents)s::text[]) FROM made
    ON CONFLICT DO NOTHING
), announced AS (
    INSERT INTO outbox (id, event) SELECT %(event_id)s, %(event)s FROM made ON CONFLICT DO NOTHING
)
SELECT count(*) FROM made
"""

_DECIDE = """
WITH made AS (
    INSERT INTO audit (id, at, kind, namespace, name, actor, action, reason, message, data)
    VALUES (%(event_id)s, %(at)s, %(kind)s, %(namespace)s, %(name)s, %(actor)s, %(action)s, %(reason)s, %(message)s,
            %(data)s)
    ON CONFLICT DO NOTHING
    RETURNING id
), announced AS (
    INSERT INTO outbox (id, event) SELECT id, %(event)s FROM made ON CONFLICT DO NOTHING
)
SELECT count(*) FROM made
"""

_AUDIT = """
SELECT id, at AS time, kind, namespace, name, actor, action, reason, message, data FROM audit
WHERE %(kind)s::text IS NULL OR (kind = %(kind)s AND namespace = %(namespace)s AND name = %(name)s)
ORDER BY position DESC LIMIT %(limit)s
"""

_FORGET = """
WITH gone AS (
    DELETE FROM artifacts WHERE type = ANY(%(types)s) AND namespace = %(namespace)s AND owner = %(name)s
    RETURNING key, type, namespace, owner, id
), edges AS (
    DELETE FROM lineage WHERE child IN (SELECT key FROM gone)
)
SELECT type, namespace, owner, id FROM gone ORDER BY key
"""
_FORGET_SCORING_RUN = """
WITH runs AS (
    DELETE FROM score_runs WHERE namespace = %(namespace)s AND scoring_run = %(name)s RETURNING run
)
DELETE FROM score_blocks WHERE run IN (SELECT run FROM runs)
"""
_FORGET_DEPLOYMENT = """
WITH gone AS (
    DELETE FROM scorers WHERE namespace = %(namespace)s AND deployment = %(name)s RETURNING scorer
), blocks AS (
    DELETE FROM online_score_blocks WHERE scorer IN (SELECT scorer FROM gone)
)
DELETE FROM online_score_rows WHERE scorer IN (SELECT scorer FROM gone)
"""


class PostgresCatalogue:
    """The catalogue in a PostgreSQL database; connects when first used, and threads may share it."""

    def __init__(self, dsn: str) -> None:
        self._database = Database(dsn)
        self._scorers: dict[tuple[str, str, str, int, str], int] = {}

    def migrate(self) -> list[str]:
        with self._database.connection() as connection, connection.transaction():
            applied = migrations.migrate(connection, migrations.scripts())
        if applied:
            after_write("migrate the catalogue")
        return applied

    def commit_batch(self, manifest: BatchManifest, uri: str, digest: str, event: Event) -> bool:
        return self._commit(records.of_batch(manifest), uri, digest, event)

    def commit_features(self, manifest: FeatureManifest, uri: str, digest: str, event: Event) -> bool:
        return self._commit(records.of_features(manifest), uri, digest, event)

    def commit_split(self, manifest: SplitManifest, uri: str, digest: str, event: Event) -> bool:
        return self._commit(records.of_split(manifest), uri, digest, event)

    def commit_candidate(self, manifest: ModelManifest, uri: str, digest: str, event: Event) -> bool:
        return self._commit(records.of_candidate(manifest), uri, digest, event)

    def commit_evaluation(self, manifest: EvaluationManifest, uri: str, digest: str, event: Event) -> bool:
        return self._commit(records.of_evaluation(manifest), uri, digest, event)

    def commit_scores(self, manifest: ScoresManifest, uri: str, digest: str, event: Event) -> bool:
        return self._commit(records.of_scores(manifest), uri, digest, event)

    def _commit(self, record: Record, uri: str, digest: str, event: Event) -> bool:
        values = {
            "key": record.key,
            "type": record.type.value,
            "namespace": record.namespace,
            "owner": record.owner,
            "id": record.id,
            "uri": uri,
            "digest": digest,
            "rows": record.rows,
            "created_at": record.created_at,
            "details": _json(record.details),
            "parents": list(record.parents),
        }
        return self._write(_COMMIT, values, event, f"commit {record.key}")

    def record_decision(self, ref: Ref, actor: str, action: str, reason: str, message: str, event: Event) -> bool:
        values = {
            "at": event.time,
            "kind": ref.kind.value,
            "namespace": ref.namespace,
            "name": ref.name,
            "actor": actor,
            "action": action,
            "reason": reason,
            "message": printable(message),
            "data": _json(event.data),
        }
        return self._write(_DECIDE, values, event, f"decide {action} for {ref}")

    def _write(self, statement: str, values: dict[str, Any], event: Event, what: str) -> bool:
        event.check()
        values |= {"event_id": event.id, "event": _json(event.document())}
        with self._database.connection() as connection:
            row = connection.execute(statement.encode(), values).fetchone()
        written = row is not None and row[0] == 1
        if written:
            after_write(what)
        return written

    def copy_scores(self, manifest: ScoresManifest, part: int, first_row: int, rows: Iterable[pa.RecordBatch]) -> int:
        from levada.stores.postgres import scores  # pyarrow is not everywhere where a catalogue is

        with self._database.connection() as connection:
            run = scores.run_of(connection, manifest)
            after_write(f"number the scores of {manifest.execution}")
            with connection.transaction():
                count = scores.replace_part(connection, run, part, first_row, rows)
        after_write(f"copy scores of {manifest.execution}, part {part}")
        return count

    def record_scores(self, scores: Sequence[ScoreRow | ScoreBlock]) -> None:
        from levada.stores.postgres import online  # nor is numpy

        rows = [score for score in scores if isinstance(score, ScoreRow)]
        if rows:
            with self._database.connection() as connection:
                online.insert_rows(connection, rows, self._scorers)
            after_write(f"record {len(rows)} scores")
        blocks = [score for score in scores if isinstance(score, ScoreBlock)]
        if blocks:
            with self._database.connection() as connection:
                online.insert_blocks(connection, blocks, self._scorers)
            after_write(f"record {len(blocks)} blocks of scores")

    def audit(self, ref: Ref | None = None, limit: int = 100) -> list[dict[str, Any]]:
        values = {
            "kind": ref.kind.value if ref else None,
            "namespace": ref.namespace if ref else None,
            "name": ref.name if ref else None,
            "limit": limit,
        }
        with self._database.connection() as connection:
            cursor = connection.execute(_AUDIT, values)
            columns = [column.name for column in cursor.description or ()]
            return [dict(zip(columns, row, strict=True)) for row in cursor]

    def lineage(self, id: str) -> list[LineageNode]:
        with self._database.connection() as connection:
            return lineage.of(connection, id)

    def pending_events(self, limit: int = 1000) -> list[Event]:
        with self._database.connection() as connection:
            rows = connection.execute("SELECT event FROM outbox ORDER BY position LIMIT %s", [limit]).fetchall()
        return [event for (document,) in rows if (event := _event(document)) is not None]

    def mark_published(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        with self._database.connection() as connection:
            connection.execute("DELETE FROM outbox WHERE id = ANY(%s)", [list(ids)])
        after_write(f"take {len(ids)} events out of the outbox")

    def forget(self, ref: Ref) -> list[str]:
        types = records.TYPES[ref.kind]
        values = {"types": [type.value for type in types], "namespace": ref.namespace, "name": ref.name}
        with self._database.transaction(f"forget {ref}") as connection:
            gone = connection.execute(_FORGET, values).fetchall()
            if ref.kind is Kind.SCORING_RUN:
                connection.execute(_FORGET_SCORING_RUN, values)
            if ref.kind is Kind.DEPLOYMENT:
                connection.execute(_FORGET_DEPLOYMENT, values)
        if ref.kind is Kind.DEPLOYMENT:
            self._scorers.clear()
        return [records.prefix(Type(type), namespace, owner, id) for type, namespace, owner, id in gone]

    def close(self) -> None:
        self._database.close()


def _json(document: Any) -> Jsonb:
    return Jsonb(document, dumps=_dumped)


def _dumped(document: Any) -> bytes:
    """Canonical JSON with a sign for NUL in its place, which data may hold and jsonb does not take."""
    return names.canonical(document).replace(rb"\u0000", rb"\u2400")


def open_catalogue(settings: Settings) -> PostgresCatalogue:
    """The catalogue that the settings name."""
    dsn = settings.postgres_dsn.get_secret_value()
    if not dsn:
        raise StoreUnavailable("LEVADA_POSTGRES_DSN is not set, so there is no catalogue")
    return PostgresCatalogue(dsn)


def _event(document: dict[str, Any]) -> Event | None:
    """An event of the outbox; None for one that this version of Levada does not know: it waits and blocks no other."""
    try:
        return Event.model_validate(document)
    except ValidationError as error:
        import structlog  # takes its time to load, which a step without work has no use for

        log = structlog.get_logger()
        log.error("event cannot be published", id=document.get("id"), error=str(error.errors()[0]["msg"]))
        return None
