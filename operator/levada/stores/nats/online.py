"""Online features over NATS KV; see `levada.stores.ports.OnlineFeatures`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any

import stamina
from nats.js import api
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, NotFoundError
from nats.js.kv import KV_DEL, KV_OP

from levada import names
from levada.errors import StoreUnavailable
from levada.settings import Settings
from levada.stores.failpoints import after_write
from levada.stores.nats import entries
from levada.stores.nats.connection import Connection, connection_of, ensure_stream
from levada.stores.nats.publish import publish_all
from levada.stores.nats.reading import Reading
from levada.stores.ports import OnlineRow

_DEDUPLICATED_SECONDS = 120.0
_PATIENCE_SECONDS = 600.0  # with a server that was there and is not now
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
            client, jetstream = await self._connection.client(), await self._connection.jetstream()
            wanted = _config(bucket, ttl)
            if (await ensure_stream(jetstream, wanted)).max_age != wanted.max_age:
                await jetstream.update_stream(wanted)
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
            except BucketNotFoundError:
                return []
            with suppress(KeyNotFoundError):
                value = (await store.get(encoded)).value
                return [_row(encoded, value)] if value else []
            # Not that of a feature set without a time.
            rows = []
            watcher = await store.watch(f"{encoded}.*", ignore_deletes=True)
            try:
                async for entry in watcher:
                    if entry is None:
                        break
                    rows.append(_row(entry.key, entry.value))
            finally:
                await watcher.stop()  # type: ignore[no-untyped-call]
        # A longer key has its beginning in common with a shorter one and a time.
        return sorted((row for row in rows if row.key == key), key=lambda row: row.timestamp or 0)

    async def watch(self, namespace: str, feature_set: str) -> AsyncIterator[OnlineRow | None]:
        bucket = names.kv_bucket(namespace, feature_set)
        prefix = f"$KV.{bucket}."
        # Patient with a server that was there and is not now, but not with one that never was.
        attempts: int | None = 1
        complete = False
        while True:
            async for attempt in stamina.retry_context(StoreUnavailable, attempts=attempts, timeout=_PATIENCE_SECONDS):
                with attempt:
                    with self._connection.errors():
                        await ensure_stream(await self._connection.jetstream(), _config(bucket, None))
                    reading = await Reading.begin(self._connection, bucket)
            attempts = None
            async with aclosing(reading.batches()) as batches:
                async for batch in batches:
                    for message in batch or ():
                        yield _row(message.subject.removeprefix(prefix), message.data)
                    if batch is None and not complete:
                        complete = True
                        yield None

    async def forget(self, namespace: str, feature_set: str) -> None:
        with self._connection.errors():
            jetstream = await self._connection.jetstream()
            try:
                await jetstream.delete_stream(f"KV_{names.kv_bucket(namespace, feature_set)}")
            except NotFoundError:
                return
        after_write(f"forget {namespace}/{feature_set} online")

    async def close(self) -> None:
        await self._connection.close()


def _message(bucket: str, row: OnlineRow, version: str) -> tuple[str, bytes, dict[str, str] | None]:
    subject = f"$KV.{bucket}.{entries.entry_key(row)}"
    if row.deleted:
        return subject, b"", {KV_OP: KV_DEL}
    return subject, entries.encode_values(row, version), None


def _row(key: str, value: bytes | None) -> OnlineRow:
    """A row; markers of deletion and of a time that is over have no value."""
    parts, timestamp = entries.decode_key(key)
    if not value:
        return OnlineRow(parts, timestamp, {}, deleted=True)
    return OnlineRow(parts, timestamp, entries.decode_values(value))


def _config(bucket: str, ttl: timedelta | None) -> api.StreamConfig:
    """A KV bucket as nats-py makes it, but for two things: what it holds can be rebuilt from the objects, so writing
    it to disk may lag behind; and watchers are told of rows whose time is over."""
    seconds = ttl.total_seconds() if ttl else 0
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
