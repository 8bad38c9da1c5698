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
SLOW = 1.0  # seconds after which a write that is under way counts as one to a catalogue that is away
BACK_OFF = (0.2, 5.0)  # seconds between attempts while the catalogue is away: first, longest
MOST_WRITTEN = 10_000  # rows in one write; when so many wait, the next write begins at once
MOST_WAITING = 20_000  # rows in memory while a write is under way; beyond, they are spooled


@dataclass(slots=True)
class Scored:
    """The scores of a request of several rows, whose score rows are made when they are written."""

    model: ServedModel
    version: int
    first: int
    at: datetime
    values: list[float | None]
    labels: list[str | None]
    columns: Sequence[Values] | None  # as the request brought them; None where they are not kept


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
        self._waiting: list[ScoreRow | Scored] = []
        self._write: Future[int] | None = None
        self._began = 0.0
        self._writing: list[ScoreRow] = []
        self._segment: Segment | None = None
        self._back_off = 0.0
        self._try_at = 0.0
        self._ending = False
        self._wake = threading.Event()
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
        at = datetime.now(UTC)
        with self._lock:
            first = self._next
            self._next += len(values)
            self.state.waiting += len(values)
            self._waiting.append(Scored(model, version, first, at, values, labels, columns))
        return first

    def record_one(
        self, model: ServedModel, version: int, value: float | None, label: str | None, request: Sequence[object] | None
    ) -> int:
        """The same for a request of one row, of JSON values. Its score row is made at once: later, what it is made of
        would have left the processor's cache."""
        candidate, names, at = model.manifest.candidate, model.signature.names, datetime.now(UTC)
        kept = None if request is None else orjson.dumps(dict(zip(names, request, strict=True)))
        with self._lock:
            number = self._next
            self._next += 1
            self.state.waiting += 1
            self._waiting.append(
                ScoreRow(self.source, number, *self._identity, version, candidate, at, value, label, kept)
            )
        return number

    def close(self, seconds: float = 10.0) -> None:
        """Record what is left, within so many seconds; what cannot be recorded stays in the spool."""
        self._ending = True
        self._wake.set()
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
        while not self._ending:
            try:
                self._tick()
            except Exception:  # without this thread nothing would be recorded any more, and memory would fill up
                log.exception("recording failed inside; it goes on")
            self._wake.wait(self._interval)
            self._wake.clear()

    def _tick(self) -> None:
        """Look at the write under way, and begin the next."""
        if self._write is not None:
            if not self._write.done():
                if time.monotonic() - self._began > SLOW:
                    self._away("it has not answered for a while")
                if self.state.catalogue_away or self.state.waiting > MOST_WAITING:
                    self._keep(self._take())
                return
            self._finish(self._write)
        if time.monotonic() >= self._try_at:
            self._begin()
        else:
            self._keep(self._take())

    def _begin(self) -> None:
        """Write what waits and, behind it, the oldest segment of the spool, in a thread of its own: it may hang."""
        self._writing = self._take(MOST_WRITTEN)
        self._segment = self._spool.oldest()
        if self._writing or self._segment:
            self._write, self._began = Future(), time.monotonic()
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
        if self.state.waiting >= MOST_WRITTEN:
            self._wake.set()

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
        self._away(str(error))
        self._back_off = min(self._back_off * 2 or BACK_OFF[0], BACK_OFF[1])
        self._try_at = time.monotonic() + self._back_off
        self._keep(rows)

    def _away(self, why: str) -> None:
        if not self.state.catalogue_away:
            log.warning("scores are not recorded and go to the spool", error=why)
        self.state.catalogue_away = True

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

    def _take(self, most: int | None = None) -> list[ScoreRow]:
        """What waits, or the first of it: not many more rows than `most`."""
        with self._lock:
            taken, self._waiting = self._waiting, []
            self.state.waiting = 0
        rows: list[ScoreRow] = []
        for place, scored in enumerate(taken):
            if most is not None and len(rows) >= most:
                self._put_back(taken[place:])
                break
            if isinstance(scored, ScoreRow):
                rows.append(scored)
            else:
                rows += self._rows(scored)
        return rows

    def _put_back(self, scored: list[ScoreRow | Scored]) -> None:
        with self._lock:
            self._waiting = scored + self._waiting
            self.state.waiting += sum(1 if isinstance(one, ScoreRow) else len(one.values) for one in scored)

    def _rows(self, scored: Scored) -> list[ScoreRow]:
        requests = _requests(scored)
        candidate, at = scored.model.manifest.candidate, scored.at
        return [
            ScoreRow(
                self.source, scored.first + i, *self._identity, scored.version, candidate, at, value, label, request
            )
            for i, (value, label, request) in enumerate(zip(scored.values, scored.labels, requests, strict=True))
        ]


def _requests(scored: Scored) -> list[bytes | None]:
    """The request's columns of each row as JSON."""
    rows = len(scored.values)
    if scored.columns is None:
        return [None] * rows
    signature = scored.model.signature
    columns = [
        column.plain(values) if isinstance(values, np.ndarray) else values or [None] * rows
        for column, values in zip(signature.columns, scored.columns, strict=True)
    ]
    names = signature.names
    return [orjson.dumps(dict(zip(names, row, strict=False))) for row in zip(*columns, strict=True)]
