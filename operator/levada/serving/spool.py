"""Scores on disk while the catalogue does not answer.

A folder of segments with a line of JSON per score, or per block of scores; a line that a crash cut off is left out when
it is read. A process holds a lock on its own segments, so that another one can tell what a dead process left behind,
and records it. A score that is recorded twice is one score: source and number identify it.
"""

from __future__ import annotations

import fcntl
import re
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson

from levada.serving.session import Array
from levada.stores.ports import ScoreBlock, ScoreRow

SEGMENT_BYTES = 4 * 1024 * 1024
_LINE = re.compile(rb'^(?:\[|\{"rows":(\d+))', re.MULTILINE)  # of a score, or of a block of so many


@dataclass(frozen=True)
class Segment:
    """A file of scores that no one writes to any more."""

    path: Path
    rows: int
    bytes: int


class SpoolFull(OSError):
    """The spool has reached its limit."""


class Spool:
    """The segments of one Deployment's scorers on this machine. One thread at a time."""

    def __init__(self, folder: Path, source: str, limit_bytes: int) -> None:
        """Take over what dead processes left in `folder`; raises OSError if it cannot be written."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._source = source
        self._limit = limit_bytes
        self._locks: dict[str, BinaryIO] = {}
        self._closed: deque[Segment] = deque()
        self._file: BinaryIO | None = None
        self._rows_in_file = 0
        self._number = 0
        self._adopt()
        self._lock(source)

    @property
    def rows(self) -> int:
        """Scores that wait here."""
        return sum(segment.rows for segment in self._closed) + self._rows_in_file

    @property
    def bytes(self) -> int:
        """Their size on disk."""
        return sum(segment.bytes for segment in self._closed) + (self._file.tell() if self._file else 0)

    def append(self, scores: Sequence[ScoreRow | ScoreBlock]) -> None:
        """Write scores behind the others, out of this process (not yet onto the disk's platters); raises OSError."""
        if self.bytes >= self._limit:
            raise SpoolFull(f"the spool {self._folder} has reached its limit of {self._limit} bytes")
        if self._file is None:
            self._number += 1
            self._file = (self._folder / f"{self._source}-{self._number:06d}.scores").open("xb")
        try:
            self._file.write(b"".join(_line(score) for score in scores))
            self._file.flush()
        except OSError:
            self._rotate()  # a line that was cut off stays the last of its file
            raise
        self._rows_in_file += sum(score.rows for score in scores)
        if self._file.tell() >= SEGMENT_BYTES:
            self._rotate()

    def oldest(self) -> Segment | None:
        """The segment to be recorded next, or None if there is nothing."""
        if not self._closed:
            self._rotate()
        return self._closed[0] if self._closed else None

    def remove(self, segment: Segment) -> None:
        """Forget a segment that has been recorded."""
        self._closed.remove(segment)
        segment.path.unlink(missing_ok=True)
        source = _source_of(segment.path)
        if source != self._source and not any(_source_of(s.path) == source for s in self._closed):
            self._unlock(source)

    def close(self) -> None:
        """Let go of the segments; they stay on disk for the next process."""
        self._rotate()
        for source in list(self._locks):
            if any(_source_of(segment.path) == source for segment in self._closed):
                self._locks.pop(source).close()
            else:
                self._unlock(source)

    def _rotate(self) -> None:
        """Write no more into the file that is open, if any; never raises."""
        if self._file is None:
            return
        file, segment = self._file, Segment(Path(self._file.name), self._rows_in_file, self._file.tell())
        self._file, self._rows_in_file = None, 0
        with suppress(OSError):  # a full disk: what the file still buffers was never said to be in it
            file.close()
        if segment.rows:
            self._closed.append(segment)
        else:
            with suppress(OSError):
                segment.path.unlink()

    def _adopt(self) -> None:
        for path in sorted(self._folder.glob("*.scores")):
            source = _source_of(path)
            if source in self._locks or self._lock(source):
                with suppress(FileNotFoundError):  # its owner may have recorded it meanwhile
                    data = path.read_bytes()
                    self._closed.append(Segment(path, _rows_in(data), len(data)))

    def _lock(self, source: str) -> bool:
        file = (self._folder / f"{source}.lock").open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._locks[source] = file
        return True

    def _unlock(self, source: str) -> None:
        (self._folder / f"{source}.lock").unlink(missing_ok=True)
        self._locks.pop(source).close()


def read(segment: Segment) -> list[ScoreRow | ScoreBlock]:
    """The scores of a segment, without lines that a crash of process or machine has damaged."""
    scores = []
    for line in segment.path.read_bytes().split(b"\n"):
        with suppress(ValueError, TypeError, KeyError):
            scores.append(_score(line))
    return scores


def _rows_in(data: bytes) -> int:
    return sum(int(line[1] or 1) for line in _LINE.finditer(data))


def _source_of(path: Path) -> str:
    return path.stem.rpartition("-")[0]


def _line(score: ScoreRow | ScoreBlock) -> bytes:
    if isinstance(score, ScoreBlock):
        arrays = {"values": _packed(score.values), "numbers": _packed(score.numbers)}
        others = None if score.others is None else score.others.decode()
        return orjson.dumps({"rows": score.rows} | score._asdict() | arrays | {"others": others}) + b"\n"
    request = None if score.request is None else score.request.decode()
    identity = [score.source, score.seq, score.deployment, score.namespace, score.version, score.candidate]
    return orjson.dumps([*identity, score.scored_at, score.value, score.label, request]) + b"\n"


def _score(line: bytes) -> ScoreRow | ScoreBlock:
    found = orjson.loads(line)
    if isinstance(found, dict):
        block = ScoreBlock(**found)
        columns = tuple(block.number_columns)
        return block._replace(
            scored_at=_time(found["scored_at"]),
            values=_unpacked(found["values"], block.rows),
            number_columns=columns,
            numbers=_unpacked(found["numbers"], block.rows, len(columns)),
            other_columns=tuple(block.other_columns),
            others=None if found["others"] is None else found["others"].encode(),
        )
    source, seq, deployment, namespace, version, candidate, at, value, label, request = found
    body = None if request is None else request.encode()
    return ScoreRow(source, seq, deployment, namespace, version, candidate, _time(at), value, label, body)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _packed(array: Array | None) -> str | None:
    """The bits of an array of doubles: JSON has neither NaN nor infinity."""
    return None if array is None else b64encode(array.astype("<f8").tobytes()).decode()


def _unpacked(text: str | None, *shape: int) -> Array | None:
    return None if text is None else np.frombuffer(b64decode(text), "<f8").reshape(shape)
