"""Rows of a version into the online store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from levada.artifacts import FeatureManifest
from levada.resources.base import parse_duration
from levada.resources.featureset import Online
from levada.steps.context import StepContext
from levada.steps.rows import ParquetRows
from levada.stores.ports import OnlineRow

BATCH_ROWS = 8_192


def replicate(context: StepContext, manifest: FeatureManifest, prefix: str, online: Online) -> int:
    """Put the rows of a version into the online store; how many. Doing it again changes nothing.

    With a time to live, rows that are older than it, counted from the newest one, are left out. Rows whose key or time
    is null cannot be found by anyone, and are left out too.
    """
    ttl = None if online.ttl is None else parse_duration(online.ttl)
    return asyncio.run(_put(context, manifest, prefix, ttl))


async def _put(context: StepContext, manifest: FeatureManifest, prefix: str, ttl: timedelta | None) -> int:
    rows = _rows(context, manifest, ParquetRows(context.objects, prefix, manifest.files), ttl)
    try:
        return await context.online.put(manifest.namespace, manifest.feature_set, manifest.version, rows, ttl)
    finally:
        await context.online.close()


def _rows(
    context: StepContext, manifest: FeatureManifest, stored: ParquetRows, ttl: timedelta | None
) -> Iterator[OnlineRow]:
    timestamp = manifest.timestamp
    needed = [*manifest.keys, *([timestamp] if timestamp is not None else [])]
    values = [column.name for column in manifest.columns if column.name not in needed]
    oldest = _oldest(stored, timestamp, ttl)
    done = 0
    for batch in stored.batches([*needed, *values], size=BATCH_ROWS):
        kept = batch
        for name in needed:
            kept = kept.filter(kept.column(name).is_valid())
        if oldest is not None:
            kept = kept.filter(pc.greater_equal(kept.column(timestamp), oldest))
        times = [None] * kept.num_rows if timestamp is None else _microseconds(kept.column(timestamp))
        columns = [kept.column(name).to_pylist() for name in values]
        keys = [kept.column(name).to_pylist() for name in manifest.keys]
        for row, time in enumerate(times):
            key = tuple(column[row] for column in keys)
            yield OnlineRow(key, time, {name: column[row] for name, column in zip(values, columns, strict=True)})
        done += batch.num_rows
        context.progress("replicate", done, manifest.rows)


def _oldest(stored: ParquetRows, timestamp: str | None, ttl: timedelta | None) -> pa.Scalar | None:
    """The time before which rows are left out."""
    if timestamp is None or ttl is None:
        return None
    # Rows are ordered by time, those without one last.
    newest: datetime | None = pc.max(stored.read([timestamp]).column(timestamp)).as_py()
    return None if newest is None else pa.scalar(newest - ttl)


def _microseconds(times: pa.Array) -> list[Any]:
    counts: list[Any] = times.cast(pa.timestamp("us")).view(pa.int64()).to_pylist()
    return counts
