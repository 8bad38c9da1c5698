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

_DEDUPLICATED_SECONDS = 120.0
_MARKER_SECONDS = 3600.0  # how long a bucket remembers that a row's time was over


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
            await _ensure_bucket(await self._connection.jetstream(), bucket, ttl)
            client = await self._connection.client()
            count = await publish_all(client, (_message(bucket, row, version) for row in rows))
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
    """The bucket, made if it is not there; a `ttl` that is given becomes the bucket's."""
    config = _config(bucket, ttl)
    try:
        info = await jetstream.stream_info(f"KV_{bucket}")
    except NotFoundError:
        await jetstream.add_stream(config)
    else:
        if ttl and info.config.max_age != config.max_age:
            await jetstream.update_stream(config)
    return await jetstream.key_value(bucket)


def _config(bucket: str, ttl: timedelta | None) -> api.StreamConfig:
    """A KV bucket as nats-py makes it, but for two things: what it holds can be rebuilt from the objects, so writing
    it to disk may lag behind; and watchers are told of rows whose time is over."""
    seconds = ttl.total_seconds() if ttl else None
    return api.StreamConfig(
        name=f"KV_{bucket}",
        subjects=[f"$KV.{bucket}.>"],
        allow_direct=True,
        allow_msg_ttl=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
        discard=api.DiscardPolicy.NEW,
        duplicate_window=min(_DEDUPLICATED_SECONDS, seconds or _DEDUPLICATED_SECONDS),
        max_age=seconds,
        max_msgs_per_subject=1,
        persist_mode=api.PersistMode.ASYNC,
        subject_delete_marker_ttl=_MARKER_SECONDS if seconds else None,
    )


def open_online(settings: Settings) -> NatsOnlineFeatures:
    """The online features that the settings name."""
    return NatsOnlineFeatures(connection_of(settings))
