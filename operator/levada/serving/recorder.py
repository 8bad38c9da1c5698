"""Scores on their way into the catalogue: taken in memory, written in bulk by a thread, spooled while it is away.

A request never waits for it. What is in memory is at most an interval old, unless the catalogue is slow; docs/adr says
what that means for durability.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import orjson
import structlog

from levada.errors import StoreUnavailable
from levada.serving.model import ServedModel, Values
from levada.serving.session import Array
from levada.serving.spool import Segment, Spool, read
from levada.stores.ports import BLOCK_ROWS, Catalogue, ScoreBlock, ScoreRow

log = structlog.get_logger()

INTERVAL = 0.2  # seconds between writes
SLOW = 1.0  # seconds after which a write that is under way counts as one to a catalogue that is away
BACK_OFF = (0.2, 5.0)  # seconds between attempts while the catalogue is away: first, longest
MOST_WRITTEN = 10_000  # rows in one write; when so many wait, the next write begins at once
MOST_WAITING = 20_000  # rows in memory while a write is under way; beyond, they are spooled


class ScoreIds(NamedTuple):
    """The ids of the scores of a request: `<source>:<number>`, whose numbers follow each other."""

    source: str
    first: int
    rows: int

    def texts(self) -> list[str]:
        if self.rows == 1:
            return [f"{self.source}:{self.first}"]
        return [f"{self.source}:{number}" for number in range(self.first, self.first + self.rows)]

    def to_bytes(self) -> bytes:
        """The same as a BYTES tensor of the Open Inference Protocol."""
        numbers = np.arange(self.first, self.first + self.rows)
        parts = []
        while len(numbers):  # those of as many digits
            digits = len(str(numbers[0]))
            some, numbers = numbers[numbers < 10**digits], numbers[numbers >= 10**digits]
            before = f"{self.source}:".encode()
            before = (len(before) + digits).to_bytes(4, "little") + before
            texts = np.empty((len(some), len(before) + digits), np.uint8)
            texts[:, : len(before)] = np.frombuffer(before, np.uint8)
            texts[:, len(before) :] = some[:, None] // 10 ** np.arange(digits - 1, -1, -1) % 10 + ord("0")
            parts.append(texts.tobytes())
        return b"".join(parts)


@dataclass(slots=True)
class Scored:
    """The scores of a request of several rows, whose blocks are made when they are written."""

    model: ServedModel
    version: int
    first: int
    at: datetime
    rows: int
    values: Array | None
    labels: list[str] | None
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
        self._writing: list[ScoreRow | ScoreBlock] = []
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
        rows: int,
        values: Array | None,
        labels: list[str] | None,
        columns: Sequence[Values] | None,
    ) -> ScoreIds:
        """Take the scores of a request."""
        at = datetime.now(UTC)
        with self._lock:
            first = self._next
            self._next += rows
            self.state.waiting += rows
            self._waiting.append(Scored(model, version, first, at, rows, values, labels, columns))
        return ScoreIds(self.source, first, rows)

    def record_one(
        self,
        model: ServedModel,
        version: int,
        values: Array | None,
        labels: list[str] | None,
        request: Sequence[object] | None,
    ) -> ScoreIds:
        """The same for a request of one row, of JSON values. Its score row is made at once: later, what it is made of
        would have left the processor's cache."""
        value = None if values is None else values.item(0)
        label = None if labels is None else labels[0]
        candidate, names, at = model.manifest.candidate, model.signature.names, datetime.now(UTC)
        kept = None if request is None else orjson.dumps(dict(zip(names, request, strict=True)))
        with self._lock:
            number = self._next
            self._next += 1
            self.state.waiting += 1
            self._waiting.append(
                ScoreRow(self.source, number, *self._identity, version, candidate, at, value, label, kept)
            )
        return ScoreIds(self.source, number, 1)

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

    def _put(self, future: Future[int], scores: list[ScoreRow | ScoreBlock], segment: Segment | None) -> None:
        try:
            dropped = self._put_scores(scores)
            if segment is not None:
                dropped += self._put_scores(read(segment))
            future.set_result(dropped)
        except BaseException as error:  # whatever it is, the recorder has to know
            future.set_exception(error)
        if self.state.waiting >= MOST_WRITTEN:
            self._wake.set()

    def _put_scores(self, scores: list[ScoreRow | ScoreBlock]) -> int:
        """Record scores; how many the catalogue would not take. Those are found by halving."""
        if not scores:
            return 0
        try:
            self._catalogue.record_scores(scores)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(scores) > 1:
                middle = len(scores) // 2
                return self._put_scores(scores[:middle]) + self._put_scores(scores[middle:])
            one = scores[0]
            if isinstance(one, ScoreBlock) and one.rows > 1:
                return sum(self._put_scores([half]) for half in one.halves())
            number = one.first if isinstance(one, ScoreBlock) else one.seq
            log.error("the catalogue refuses a score", id=f"{one.source}:{number}", error=str(error))
            return 1
        return 0

    def _finish(self, write: Future[int]) -> None:
        """Take note of how a write ended."""
        scores, segment = self._writing, self._segment
        self._write, self._writing, self._segment = None, [], None
        error = write.exception()
        if error is None:
            if self.state.catalogue_away:
                log.info("scores are recorded again", spooled=self._spool.rows)
            if segment is not None:
                self._spool.remove(segment)
            dropped = write.result()
            self.state.recorded += _rows_of(scores) + (segment.rows if segment else 0) - dropped
            self.state.dropped += dropped
            self.state.spooled = self._spool.rows
            self.state.catalogue_away, self._back_off = False, 0.0
            return
        self._away(str(error))
        self._back_off = min(self._back_off * 2 or BACK_OFF[0], BACK_OFF[1])
        self._try_at = time.monotonic() + self._back_off
        self._keep(scores)

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

    def _keep(self, scores: list[ScoreRow | ScoreBlock]) -> None:
        """Put scores into the spool."""
        if not scores:
            return
        try:
            self._spool.append(scores)
        except OSError as error:
            rows = _rows_of(scores)
            self.state.dropped += rows
            log.error("scores are lost: they can be neither recorded nor spooled", rows=rows, error=str(error))
        self.state.spooled = self._spool.rows

    def _take(self, most: int | None = None) -> list[ScoreRow | ScoreBlock]:
        """What waits, or the first of it: not many more rows than `most`."""
        with self._lock:
            taken, self._waiting = self._waiting, []
            self.state.waiting = 0
        scores: list[ScoreRow | ScoreBlock] = []
        rows = 0
        for place, scored in enumerate(taken):
            if most is not None and rows >= most:
                self._put_back(taken[place:])
                break
            if isinstance(scored, ScoreRow):
                scores.append(scored)
            else:
                scores += self._blocks(scored)
            rows += scored.rows
        return scores

    def _put_back(self, scored: list[ScoreRow | Scored]) -> None:
        with self._lock:
            self._waiting = scored + self._waiting
            self.state.waiting += _rows_of(scored)

    def _blocks(self, scored: Scored) -> Iterator[ScoreBlock]:
        """Its scores in blocks, with the request's columns where they are kept."""
        numbers: dict[str, Array] = {}
        others: dict[str, Sequence[object]] = {}
        for column, values in zip(scored.model.signature.columns, scored.columns or (), strict=False):
            if not isinstance(values, np.ndarray):
                others[column.name] = values or [None] * scored.rows
            elif column.is_number:
                numbers[column.name] = values
            else:
                others[column.name] = column.plain(values)
        wide = np.column_stack(list(numbers.values())) if numbers else None
        rows = list(zip(*others.values(), strict=True))
        candidate = scored.model.manifest.candidate
        values = None if scored.values is None else scored.values.astype(np.float64)
        for start in range(0, scored.rows, BLOCK_ROWS):
            some = slice(start, min(start + BLOCK_ROWS, scored.rows))
            yield ScoreBlock(
                self.source,
                scored.first + start,
                *self._identity,
                scored.version,
                candidate,
                scored.at,
                some.stop - start,
                None if values is None else values[some],
                None if scored.labels is None else scored.labels[some],
                tuple(numbers),
                None if wide is None else wide[some],
                tuple(others),
                orjson.dumps(rows[some]) if others else None,
            )


def _rows_of(scores: Iterable[ScoreRow | ScoreBlock | Scored]) -> int:
    return sum(score.rows for score in scores)
