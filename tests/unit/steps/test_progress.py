"""How a step says how far it is where nobody reads its files."""

from __future__ import annotations

import json
from typing import Any

from levada.engines.progress import combined
from levada.errors import StoreUnavailable
from levada.steps.context import ProgressObject
from levada.steps.io import ProgressRecord


def test_x4_a_quick_step_writes_no_progress() -> None:
    written: list[bytes] = []
    progress = ProgressObject(written.append, seconds=1000.0)

    progress("ingest", 1, 2)
    progress("ingest", 2, 2)

    assert not written


def test_x4_progress_is_written_again_only_after_a_while() -> None:
    written: list[Any] = []
    progress = ProgressObject(lambda data: written.append(json.loads(data)), seconds=1000.0, _last=-10_000.0)

    progress("ingest", 1, 2)
    progress("ingest", 2, 2)

    assert written == [{"phase": "ingest", "done": 1, "total": 2, "unit": "rows", "details": {}}]


def test_x4_progress_that_cannot_be_written_is_left_out() -> None:
    def refuse(_: bytes) -> None:
        raise StoreUnavailable("no store")

    ProgressObject(refuse, seconds=0.0, _last=-1.0)("ingest", 1, 2)


def test_x4_the_progress_of_a_job_is_that_of_its_indexes() -> None:
    def said(done: int, total: int | None = 10, phase: str = "write") -> ProgressRecord:
        return ProgressRecord(phase=phase, done=done, total=total)

    assert combined([], 2) is None
    assert combined([said(3), said(4)], 2) == said(7, 20)
    assert combined([said(3), said(4)], 3) == said(7, None)  # one has not said how much it has to do
    assert combined([said(3), said(1, 9, "stage"), said(4)], 3) == said(7, None)
