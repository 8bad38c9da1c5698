"""What a step's code is handed: its input and index, the stores, scratch space, and a way to say how far it is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from levada import names
from levada.artifacts import Artifact
from levada.errors import StoreUnavailable, printable
from levada.events import Event, EventType
from levada.steps.io import ProgressRecord, StepInput
from levada.stores.ports import Catalogue, Objects, OnlineFeatures


@dataclass
class ProgressFile:
    """Appends progress as JSON lines, at most ten a second; without a path it does nothing."""

    path: Path | None
    _last: float = 0.0

    def __call__(self, phase: str, done: int, total: int | None = None, unit: str = "rows") -> None:
        """Say how far a phase is; the last record of a phase (done == total) is always written."""
        if self.path is None:
            return
        now = time.monotonic()
        if now - self._last < 0.1 and done != total:
            return
        self._last = now
        record = ProgressRecord(phase=phase, done=done, total=total, unit=unit)
        with self.path.open("a") as file:
            file.write(json.dumps(record.document()) + "\n")


@dataclass
class ProgressObject:
    """Keeps the last progress where an engine on another machine sees it: rarely, and never of a step that is quick.

    What cannot be written is left out: the step has more important things to say.
    """

    put: Callable[[bytes], None]
    seconds: float  # between two of them
    _last: float = field(default_factory=time.monotonic)

    def __call__(self, phase: str, done: int, total: int | None = None, unit: str = "rows") -> None:
        """Say how far a phase is."""
        now = time.monotonic()
        if now - self._last < self.seconds:
            return
        self._last = now
        record = ProgressRecord(phase=phase, done=done, total=total, unit=unit)
        with suppress(StoreUnavailable):
            self.put(json.dumps(record.document()).encode())


@dataclass
class StepContext:
    """Everything a step touches; stores are opened when first used, so a step with nothing to do stays quick."""

    input: StepInput
    index: int
    scratch: Path  # an empty folder that is removed afterwards
    open_objects: Callable[[], Objects]
    open_catalogue: Callable[[], Catalogue]
    open_online: Callable[[], OnlineFeatures]
    allow_file_sources: bool = False
    memory_limit_bytes: int | None = None
    progress: ProgressFile | ProgressObject = field(default_factory=lambda: ProgressFile(None))
    warnings: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)

    @cached_property
    def objects(self) -> Objects:
        return self.open_objects()

    @cached_property
    def catalogue(self) -> Catalogue:
        return self.open_catalogue()

    @cached_property
    def online(self) -> OnlineFeatures:
        return self.open_online()

    def now(self) -> datetime:
        """The time, UTC, in whole milliseconds."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def warn(self, message: str) -> None:
        """Say something that a person should see in the resource's status."""
        self.warnings.append(printable(message))

    def event(self, type: EventType, key: tuple[str, ...], time: datetime, data: dict[str, Any]) -> Event:
        """What is announced of the resource that the step works for; the same `key` makes it the same event."""
        owner = self.input.owner
        return Event(
            id=names.event_id(type, *key),
            type=type,
            kind=owner.kind,
            namespace=owner.namespace,
            name=owner.name,
            time=time,
            data=data,
        )

    def put_manifest(self, key: str, manifest: Artifact) -> tuple[bytes, bool]:
        """Create a manifest unless one is there. The bytes that stand there now, and whether they are these."""
        data = manifest.to_bytes()
        if self.objects.put_if_absent(key, data):
            return data, True
        return self.objects.get(key), False
