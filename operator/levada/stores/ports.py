"""The stores as Levada's own code sees them: verbs of the domain, documented errors, no client library's types.

Adapters: objects.py (S3 through obstore), postgres/ (psycopg), nats/ (nats-py). Each port has one contract suite
that runs against the real server. Every adapter turns its client's connection errors into StoreUnavailable.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from levada.artifacts import (
    BatchManifest,
    EvaluationManifest,
    FeatureManifest,
    ModelManifest,
    ScoresManifest,
    SplitManifest,
)
from levada.errors import StoreUnavailable
from levada.events import Event
from levada.resources import Ref

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy import float64
    from numpy.typing import NDArray


class ObjectNotFound(LookupError):
    """No object has that key."""


class ObjectChanged(OSError):
    """An object was replaced while a reader was reading it."""


class BadKey(ValueError):
    """A key, or one below a prefix, is none that the store's client can name, such as one with a tab."""


class StoreRefused(StoreUnavailable):
    """A store answers, but not to these credentials; the message names neither key nor password."""


class BucketNotFound(StoreUnavailable):
    """The object store has no such bucket."""


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    bytes: int
    etag: str
    modified: datetime


class Objects(Protocol):
    """A bucket. Keys are relative to it; `uri(key)` is how the outside names them."""

    def uri(self, key: str) -> str:
        """`s3://bucket/key`."""

    def key(self, uri: str) -> str:
        """The key of a URI of this bucket; raises ValueError if it is of another."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole (visible at once or not at all), replacing what was there."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless one is there; whether it was written. Of two writers exactly one gets True."""

    def put_file(self, key: str, path: Path) -> None:
        """Write an object from a local file, streaming (multipart where large)."""

    def writer(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A writable stream; the object appears when the block ends without an error, and not otherwise."""

    def get(self, key: str) -> bytes:
        """The object's bytes; raises ObjectNotFound."""

    def get_file(self, key: str, path: Path) -> None:
        """Copy an object to a local file, streaming; raises ObjectNotFound, and then leaves no file."""

    def reader(self, key: str) -> BinaryIO:
        """A readable, seekable stream that fetches ranges; raises ObjectNotFound."""

    def info(self, key: str) -> ObjectInfo | None:
        """Size and etag, or None."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects below a prefix, in the order of their keys."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, as far as they are there."""

    def delete_prefix(self, prefix: str) -> int:
        """Delete everything below a prefix; how many objects there were."""


class ScoreRow(NamedTuple):  # a dataclass takes four times as long to make, and there is one for each score
    """An online score; its id is `<source>:<seq>`."""

    source: str  # id of the scorer's process
    seq: int
    deployment: str
    namespace: str
    version: int
    candidate: str
    scored_at: datetime
    value: float | None  # probability of the last class, prediction, or distance
    label: str | None  # class or cluster
    request: bytes | None  # the row's request columns as JSON

    @property
    def rows(self) -> int:
        return 1


class ScoreBlock(NamedTuple):
    """Online scores of rows of one request that follow each other; the id of each is `<source>:<first + its place>`."""

    source: str  # id of the scorer's process
    first: int
    deployment: str
    namespace: str
    version: int
    candidate: str
    scored_at: datetime
    rows: int  # at most BLOCK_ROWS
    values: NDArray[float64] | None  # float64 [rows]: probability of the last class, prediction, or distance
    labels: Sequence[str] | None  # classes or clusters
    number_columns: tuple[str, ...] = ()  # the request's columns, where they are kept
    numbers: NDArray[float64] | None = None  # float64 [rows, number_columns]; NaN is a null
    other_columns: tuple[str, ...] = ()
    others: bytes | None = None  # JSON: for each row a list of their values

    def halves(self) -> tuple[ScoreBlock, ScoreBlock]:
        """The same scores as two blocks, of a row or more each."""
        middle = self.rows // 2
        return self._part(0, middle), self._part(middle, self.rows)

    def _part(self, start: int, stop: int) -> ScoreBlock:
        return self._replace(
            first=self.first + start,
            rows=stop - start,
            values=None if self.values is None else self.values[start:stop],
            labels=None if self.labels is None else self.labels[start:stop],
            numbers=None if self.numbers is None else self.numbers[start:stop],
            others=None if self.others is None else json.dumps(json.loads(self.others)[start:stop]).encode(),
        )


BLOCK_ROWS = 256
"""Most rows of a ScoreBlock: reading the request of one of its rows takes time in proportion."""


@dataclass(frozen=True)
class LineageNode:
    """Something in the history of a score: its id, what it is, and what it was made from."""

    id: str
    type: str  # score, scores, candidate, evaluation, split, features, batch, source
    name: str
    created_at: datetime | None
    parents: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


class Catalogue(Protocol):
    """What exists and where it came from. Every `commit_…` writes the row, its lineage and its event in one
    transaction, and does nothing at all if the row is there already (returns False then)."""

    def migrate(self) -> list[str]:
        """Bring the schema up to date; the names of the migrations that were applied. Many may call it at once."""

    def commit_batch(self, manifest: BatchManifest, uri: str, digest: str, event: Event) -> bool: ...

    def commit_features(self, manifest: FeatureManifest, uri: str, digest: str, event: Event) -> bool: ...

    def commit_split(self, manifest: SplitManifest, uri: str, digest: str, event: Event) -> bool: ...

    def commit_candidate(self, manifest: ModelManifest, uri: str, digest: str, event: Event) -> bool: ...

    def commit_evaluation(self, manifest: EvaluationManifest, uri: str, digest: str, event: Event) -> bool: ...

    def commit_scores(self, manifest: ScoresManifest, uri: str, digest: str, event: Event) -> bool: ...

    def copy_scores(
        self,
        manifest: ScoresManifest,
        part: int,
        first_row: int,
        rows: Iterable[pa.RecordBatch],
    ) -> int:
        """Bulk-load the score rows of one part, replacing what an earlier attempt left of it (one transaction);
        how many. Batches have the columns of `stores/postgres/scores.py`: SCHEMA; their rows follow each other from
        `first_row` on, else ValueError. They are seen by `lineage` and in the view `scores` once the scores are
        committed. Raises Stalled for a text that cannot be kept."""

    def record_scores(self, scores: Sequence[ScoreRow | ScoreBlock]) -> None:
        """Online scores, in bulk; what is there already (same source, and seq or first) is left alone."""

    def record_decision(self, ref: Ref, actor: str, action: str, reason: str, message: str, event: Event) -> bool:
        """Audit: who decided what and why; the event's id makes it one."""

    def audit(self, ref: Ref | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest decisions, newest first."""

    def lineage(self, id: str) -> list[LineageNode]:
        """Everything that something was made from, itself first, in one query; empty if the id is unknown.

        The id may be that of a score (`<execution or scorer>:<row>`), of scores, a candidate, an evaluation, a split,
        a feature set version or a batch; `<namespace>/<id>` where several namespaces have one. What was forgotten
        meanwhile still stands there, without a time."""

    def pending_events(self, limit: int = 1000) -> list[Event]:
        """Events of the outbox that are not yet published, oldest first."""

    def mark_published(self, ids: Sequence[str]) -> None:
        """Take events out of the outbox."""

    def forget(self, ref: Ref) -> list[str]:
        """Delete what a resource produced from the catalogue (scores included); the object prefixes that may go too."""

    def close(self) -> None: ...


class Bus(Protocol):
    """Messages, at least once."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Publish events and wait until the stream has them; a repeated id within its window is dropped there."""

    def subscribe(self, subject: str, durable: str) -> AsyncIterator[tuple[Event, Callable[[], Any]]]:
        """Events of a subject as they come, each with its acknowledgement (await it when done with the event)."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class TriggerMessage:
    """A message of anybody's that asks for an execution; what it says does not matter."""

    id: str  # the publisher's (`Nats-Msg-Id`), or that of its place in the stream
    published_at: datetime
    acknowledge: Callable[[], Awaitable[None]]


class Triggers(Protocol):
    """Messages on subjects of others, kept from the moment on that somebody listens, whether or not he is there."""

    def listen(self, subject: str, listener: str) -> AsyncIterator[TriggerMessage | None]:
        """Messages as they come, each again and again until it is acknowledged, also after a restart.

        None at first, and whenever there was none for a while: there is a connection.

        Raises StoreUnavailable; StoreRefused where a stream of somebody else's keeps only a part of the subject.
        """

    async def forget(self, subject: str, listener: str) -> None:
        """Listen no more."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class OnlineRow:
    """A row of a feature set in the online store. `deleted` rows have no values."""

    key: tuple[Any, ...]  # values of the entity's keys
    timestamp: int | None  # microseconds since the epoch, or None where the feature set has no time
    values: dict[str, Any]
    deleted: bool = False


class OnlineFeatures(Protocol):
    """The newest rows of feature sets, for scorers to hold in memory. Can be rebuilt from the objects at any time."""

    async def put(
        self,
        namespace: str,
        feature_set: str,
        version: str,
        rows: Iterable[OnlineRow],
        ttl: timedelta | None = None,
    ) -> int:
        """Replicate rows (a row per key, and time where there is one); how many. `ttl`: how long rows are kept."""

    async def get(self, namespace: str, feature_set: str, key: tuple[Any, ...]) -> list[OnlineRow]:
        """The rows of a key, oldest first."""

    def watch(self, namespace: str, feature_set: str) -> AsyncIterator[OnlineRow | None]:
        """Every row there is, then None once, then each row that changes; all rows again after a lost connection."""

    async def forget(self, namespace: str, feature_set: str) -> None:
        """Delete all that is held for a feature set."""

    async def close(self) -> None: ...
