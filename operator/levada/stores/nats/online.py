"""Online features over NATS KV; see `levada.stores.ports.OnlineFeatures`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

from nats.js import JetStreamContext, api
from nats.js.errors import BucketNotFoundError, NotFoundError
from nats.js.kv import KV_DEL, KV_OP, KV_PURGE, KeyValue

from levada import names
from levada.settings import Settings
from levada.stores.failpoints import after_write
from levada.stores.nats import entries
from levada.stores.nats.connection import Connection, connection_of
from levada.stores.nats.publish import publish_all
from levada.stores.ports import OnlineRow


class NatsOnlineFeatures:
    """A KV bucket per feature set, which is made when first used."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(
        self,
        namespace: str,
        feature_set: str,
        version: str,
        rows: Iterable[OnlineRow],
        ttl: timedelta | None = None,
    ) -> int:
        bucket = names.kv_bucket(namespace, feature_set)
        with self._connection.errors():
            jetstream = await self._connection.jetstream()
            await _ensure_bucket(jetstream, bucket, ttl)
            count = await publish_all(jetstream, (_message(bucket, row, version) for row in rows), seconds=30)
        after_write(f"put {count} rows online")
        return count

    async def get(self, namespace: str, feature_set: str, key: tuple[Any, ...]) -> list[OnlineRow]:
        bucket = names.kv_bucket(namespace, feature_set)
        encoded = entries.encode_key(key)
        with self._connection.errors():
            jetstream = await self._connection.jetstream()
            try:
                store = await jetstream.key_value(bucket)
            except (BucketNotFoundError, NotFoundError):
                return []
            rows = []
            for keys in (encoded, f"{encoded}.*"):
                watcher = await store.watch(keys, ignore_deletes=True)
                try:
                    async for entry in watcher:
                        if entry is None:
                            break
                        rows.append(_row(entry))
                finally:
                    await watcher.stop()  # type: ignore[no-untyped-call]
        found = [row for row in rows if row.key == key]
        return sorted(found, key=lambda row: row.timestamp or 0)

    async def watch(self, namespace: str, feature_set: str) -> AsyncIterator[OnlineRow | None]:
        bucket = names.kv_bucket(namespace, feature_set)
        with self._connection.errors():
            jetstream = await self._connection.jetstream()
            store = await _ensure_bucket(jetstream, bucket, None)
            watcher = await store.watchall()
        try:
            async for entry in watcher:
                yield None if entry is None else _row(entry)
        finally:
            await watcher.stop()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self._connection.close()


def _message(bucket: str, row: OnlineRow, version: str) -> tuple[str, bytes, dict[str, str] | None]:
    subject = f"$KV.{bucket}.{entries.entry_key(row)}"
    if row.deleted:
        return subject, b"", {KV_OP: KV_DEL}
    return subject, entries.encode_values(row, version), None


def _row(entry: KeyValue.Entry) -> OnlineRow:
    key, timestamp = entries.decode_key(entry.key)
    if entry.operation in (KV_DEL, KV_PURGE) or not entry.value:
        return OnlineRow(key, timestamp, {}, deleted=True)
    return OnlineRow(key, timestamp, entries.decode_values(entry.value))


async def _ensure_bucket(jetstream: JetStreamContext, bucket: str, ttl: timedelta | None) -> KeyValue:
    """The bucket, made if it is not there. A `ttl` that differs from the bucket's replaces it."""
    seconds = ttl.total_seconds() if ttl else None
    try:
        store = await jetstream.key_value(bucket)
    except (BucketNotFoundError, NotFoundError):
        return await jetstream.create_key_value(api.KeyValueConfig(bucket, ttl=seconds, direct=True))
    return store


def open_online(settings: Settings) -> NatsOnlineFeatures:
    """The online features that the settings name."""
    return NatsOnlineFeatures(connection_of(settings))
