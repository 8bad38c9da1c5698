"""Looked-up columns of a request: the key of a row, found in a table in memory.

A table holds the rows of the feature set version that training saw and, where the lookup is online, those that reach
the online store afterwards. Versions that look up the same share it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from levada import names
from levada.artifacts import FeatureManifest, LookupSpec
from levada.errors import StoreUnavailable
from levada.features.cells import DTYPES, Cell
from levada.features.lookups import LookupTable
from levada.serving.errors import ModelError
from levada.serving.session import Array
from levada.stores.ports import ObjectNotFound, Objects, OnlineFeatures, OnlineRow

log = structlog.get_logger()

WARM_SECONDS = 10.0  # how long a version waits for the online store's rows before it serves without
RETRY_SECONDS = 2.0


class Lookup:
    """A lookup of a model in `feature_set`: `names` are the columns that it brings."""

    def __init__(self, spec: LookupSpec, table: LookupTable, index: dict[str, int]) -> None:
        """`index`: place of each request column. Raises ModelError if the request does not bring the key."""
        for name in [*spec.on, *([spec.as_of] if spec.as_of else [])]:
            if name not in index:
                raise ModelError(
                    f"the lookup of '{spec.feature_set}' needs the column '{name}', which no request brings"
                )
        self.feature_set = spec.feature_set
        self.names = tuple(column.name for column in spec.columns)
        self._find = table.find
        self._keys = tuple(index[name] for name in spec.on)
        self._as_of = index[spec.as_of] if spec.as_of else None
        self._dtypes = tuple(DTYPES[column.type] for column in spec.columns)
        self._are_numbers = set(self._dtypes) == {np.float64}

    def find(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """What is found for a row of cells in the order of the request's columns: nulls where nothing is."""
        key = tuple([cells[i] for i in self._keys])
        return self._find(key, None if self._as_of is None else cells[self._as_of])  # type: ignore[arg-type]

    def find_all(self, arrays: Sequence[Array]) -> list[Array]:
        """The same for arrays [N]: an array [N] for each of `names`."""
        keys = zip(*(arrays[i].tolist() for i in self._keys), strict=True)
        if self._as_of is None:
            found = list(map(self._find, keys))
        else:
            found = list(map(self._find, keys, arrays[self._as_of].tolist()))
        if self._are_numbers:
            width = len(self.names)
            return list(np.fromiter(chain.from_iterable(found), np.float64, len(found) * width).reshape(-1, width).T)
        return [np.array(column, dtype) for column, dtype in zip(zip(*found, strict=True), self._dtypes, strict=True)]


class Tables:
    """The tables of all versions."""

    def __init__(
        self, objects: Callable[[], Objects], online: Callable[[], OnlineFeatures], left_out: Counter[str]
    ) -> None:
        """`left_out`: counts rows of the online store that do not fit, by feature set."""
        self._objects = objects
        self._online = online
        self._left_out = left_out
        self._tables: dict[str, tuple[LookupTable, _Watch | None]] = {}

    def get(self, spec: LookupSpec) -> LookupTable:
        """The table of a lookup, loaded when first asked for.

        Raises ModelError if its version is not there or does not fit, StoreUnavailable.
        """
        key = _key(spec)
        if key not in self._tables:
            table = LookupTable(spec)
            rows = _load(table, spec, self._objects())
            watch = _Watch(spec, table, self._online, self._left_out) if spec.online else None
            if watch is not None and not watch.warm.wait(WARM_SECONDS):
                log.warning("an online lookup is served from its stored version for now", feature_set=spec.feature_set)
            log.info("lookup loaded", feature_set=spec.feature_set, version=spec.version, rows=rows, keys=len(table))
            self._tables[key] = table, watch
        return self._tables[key][0]

    def retain(self, specs: Iterable[LookupSpec]) -> None:
        """Forget all tables but these."""
        wanted = {_key(spec) for spec in specs}
        for key in self._tables.keys() - wanted:
            _, watch = self._tables.pop(key)
            if watch is not None:
                watch.stop()


def _key(spec: LookupSpec) -> str:
    return names.canonical(spec.document()).decode()


def _load(table: LookupTable, spec: LookupSpec, objects: Objects) -> int:
    try:
        manifest = FeatureManifest.from_bytes(objects.get(spec.prefix + names.MANIFEST))
        return table.load(_batches(spec, manifest, objects))
    except ObjectNotFound as error:
        raise ModelError(f"the feature set version {spec.version} that is looked up is not there: {error}") from error
    except (ValueError, KeyError, pa.ArrowException) as error:
        raise ModelError(f"the feature set version {spec.version} cannot be looked up: {error}") from error


def _batches(spec: LookupSpec, manifest: FeatureManifest, objects: Objects) -> Iterator[pa.RecordBatch]:
    columns = [*spec.keys, *([spec.timestamp] if spec.timestamp else []), *(column.source for column in spec.columns)]
    for file in manifest.files:
        with objects.reader(spec.prefix + file.key) as stream:
            yield from pq.ParquetFile(stream).iter_batches(columns=list(dict.fromkeys(columns)))


class _Watch:
    """Follows the online store of a lookup in a thread of its own; `warm` is set when all its rows have come once."""

    def __init__(
        self, spec: LookupSpec, table: LookupTable, online: Callable[[], OnlineFeatures], left_out: Counter[str]
    ) -> None:
        self.warm = threading.Event()
        self._spec = spec
        self._table = table
        self._online = online
        self._left_out = left_out
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._follow())
        threading.Thread(target=self._run, name=f"lookup-{spec.feature_set}", daemon=True).start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _follow(self) -> None:
        feature_set = self._spec.feature_set
        while True:
            try:
                await self._watch(self._online())
            except StoreUnavailable as error:
                log.warning("an online lookup stands still", feature_set=feature_set, error=str(error))
            except Exception:
                log.exception("an online lookup failed inside; it begins anew", feature_set=feature_set)
            await asyncio.sleep(RETRY_SECONDS)

    async def _watch(self, store: OnlineFeatures) -> None:
        try:
            async for row in store.watch(self._spec.namespace, self._spec.feature_set):
                if row is None:
                    self.warm.set()
                else:
                    self._take(row)
        finally:
            await store.close()

    def _take(self, row: OnlineRow) -> None:
        """Put a row into the table, unless it is of another shape: the feature set may have been edited since."""
        feature_set = self._spec.feature_set
        try:
            if len(row.key) != len(self._spec.keys):
                raise ValueError(f"its key has {len(row.key)} values, not {len(self._spec.keys)}")
            self._table.upsert(row.key, row.timestamp, row.values)  # a deleted row has none: all null
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            if not self._left_out[feature_set]:
                log.warning(
                    "a row of the online store does not fit the lookup and is left out, as others like it will be",
                    feature_set=feature_set,
                    key=row.key,
                    error=str(error),
                )
            self._left_out[feature_set] += 1
