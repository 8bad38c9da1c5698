"""Scores on their way into the catalogue: taken in memory, written in bulk by a thread, spooled while it is away.

A request never waits for it. What is in memory is at most an interval old, unless the catalogue is slow; docs/adr says
what that means for durability.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import orjson
import structlog

from levada.errors import StoreUnavailable
from levada.serving.model import ServedModel, Values
from levada.serving.spool import Segment, Spool, read
from levada.stores.ports import Catalogue, ScoreRow

log = structlog.get_logger()

INTERVAL = 0.2  # seconds between writes
BACK_OFF = (0.2, 5.0)  # seconds between attempts while the catalogue is away: first, longest
MOST_WAITING = 50_000  # rows in memory while a write is under way; beyond, they are spooled


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of a request. `columns` as the request brought them, or None where they are not kept."""

    model: ServedModel
    version: int
    first: int
    at: float  # seconds since the epoch
    values: list[float | None]
    labels: list[str | None]
    columns: Sequence[Values] | None


@dataclass
class RecorderState:
    """What metrics show."""

    recorded: int = 0
    dropped: int = 0  # neither recorded nor spooled
    waiting: int = 0  # in memory
    spooled: int = 0  # on disk
    catalogue_away: bool = False


class Recorder:
    """Records the scores of this process; their ids are `<source>:<number>`."""

    def __init__(
        self,
        catalogue: Catalogue,
        spool: Spool,
        source: str,
        namespace: str,
        deployment: str,
        interval: float = INTERVAL,
    ) -> None:
        self.source = source
        self.state = RecorderState(spooled=spool.rows)
        self._catalogue = catalogue
        self._spool = spool
        self._identity = (deployment, namespace)
        self._interval = interval
        self._lock = threading.Lock()
        self._next = 0
        self._waiting: list[Scored] = []
        self._write: Future[int] | None = None
        self._writing: list[ScoreRow] = []
        self._segment: Segment | None = None
        self._back_off = 0.0
        self._try_at = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def record(
        self,
        model: ServedModel,
        version: int,
        values: list[float | None],
        labels: list[str | None],
        columns: Sequence[Values] | None,
    ) -> int:
        """Take the scores of a request; the number of the first, the others follow."""
        with self._lock:
            first = self._next
            self._next += len(values)
            self.state.waiting += len(values)
            self._waiting.append(Scored(model, version, first, time.time(), values, labels, columns))
        return first

    def close(self, seconds: float = 10.0) -> None:
        """Record what is left, within so many seconds; what cannot be recorded stays in the spool."""
        self._ending.set()
        self._thread.join()
        until = time.monotonic() + seconds
        self._settle(until)
        while time.monotonic() < until and not self.state.catalogue_away:
            self._begin()
            if self._write is None:
                break
            self._settle(until)
        self._keep(self._writing + self._take())
        self._spool.close()

    def _run(self) -> None:
        while not self._ending.wait(self._interval):
            self._tick()

    def _tick(self) -> None:
        """Look at the write under way, and begin the next."""
        if self._write is not None:
            if not self._write.done():
                if self.state.waiting > MOST_WAITING:
                    self._keep(self._take())
                return
            self._finish(self._write)
        if time.monotonic() >= self._try_at:
            self._begin()
        else:
            self._keep(self._take())

    def _begin(self) -> None:
        """Write what waits and, behind it, the oldest segment of the spool, in a thread of its own: it may hang."""
        self._writing = self._take()
        self._segment = self._spool.oldest()
        if self._writing or self._segment:
            self._write = Future()
            arguments = (self._write, self._writing, self._segment)
            threading.Thread(target=self._put, args=arguments, name="recorder-write", daemon=True).start()

    def _put(self, future: Future[int], rows: list[ScoreRow], segment: Segment | None) -> None:
        try:
            dropped = self._put_rows(rows)
            if segment is not None:
                dropped += self._put_rows(read(segment))
            future.set_result(dropped)
        except BaseException as error:  # whatever it is, the recorder has to know
            future.set_exception(error)

    def _put_rows(self, rows: list[ScoreRow]) -> int:
        """Record rows; how many the catalogue would not take. Those are found by halving."""
        if not rows:
            return 0
        try:
            self._catalogue.record_scores(rows)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(rows) > 1:
                middle = len(rows) // 2
                return self._put_rows(rows[:middle]) + self._put_rows(rows[middle:])
            log.error("the catalogue refuses a score", id=f"{rows[0].source}:{rows[0].seq}", error=str(error))
            return 1
        return 0

    def _finish(self, write: Future[int]) -> None:
        """Take note of how a write ended."""
        rows, segment = self._writing, self._segment
        self._write, self._writing, self._segment = None, [], None
        error = write.exception()
        if error is None:
            if self.state.catalogue_away:
                log.info("scores are recorded again", spooled=self._spool.rows)
            if segment is not None:
                self._spool.remove(segment)
            dropped = write.result()
            self.state.recorded += len(rows) + (segment.rows if segment else 0) - dropped
            self.state.dropped += dropped
            self.state.spooled = self._spool.rows
            self.state.catalogue_away, self._back_off = False, 0.0
            return
        if not self.state.catalogue_away:
            log.warning("scores are not recorded and go to the spool", error=str(error))
        self.state.catalogue_away = True
        self._back_off = min(self._back_off * 2 or BACK_OFF[0], BACK_OFF[1])
        self._try_at = time.monotonic() + self._back_off
        self._keep(rows)

    def _settle(self, until: float) -> None:
        """Wait for the write under way; one that takes too long is left alone: recording twice is recording once."""
        if self._write is None:
            return
        try:
            self._write.exception(max(0.0, until - time.monotonic()))
        except TimeoutError:
            return
        self._finish(self._write)

    def _keep(self, rows: list[ScoreRow]) -> None:
        """Put rows into the spool."""
        if not rows:
            return
        try:
            self._spool.append(rows)
        except OSError as error:
            self.state.dropped += len(rows)
            log.error("scores are lost: they can be neither recorded nor spooled", rows=len(rows), error=str(error))
        self.state.spooled = self._spool.rows

    def _take(self) -> list[ScoreRow]:
        with self._lock:
            taken, self._waiting = self._waiting, []
            self.state.waiting = 0
        return [row for scored in taken for row in self._rows(scored)]

    def _rows(self, scored: Scored) -> list[ScoreRow]:
        at = datetime.fromtimestamp(scored.at, UTC)
        requests = _requests(scored)
        candidate = scored.model.manifest.candidate
        return [
            ScoreRow(
                self.source, scored.first + i, *self._identity, scored.version, candidate, at, value, label, request
            )
            for i, (value, label, request) in enumerate(zip(scored.values, scored.labels, requests, strict=True))
        ]


def _requests(scored: Scored) -> list[bytes | None]:
    """The request's columns of each row as JSON."""
    if scored.columns is None:
        return [None] * len(scored.values)
    rows = len(scored.values)
    names = scored.model.signature.names
    columns = [
        column.plain(values) if isinstance(values, np.ndarray) else values or [None] * rows
        for column, values in zip(scored.model.signature.columns, scored.columns, strict=True)
    ]
    return [orjson.dumps(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
