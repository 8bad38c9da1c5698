"""What a person sees while `levada run` works: a live table on a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from levada.engines.local.engine import LocalEngine
from levada.resources import AnyResource, Ref
from levada.resources.conditions import ConditionType, condition_of, is_true
from levada.steps.io import ProgressRecord

PLAIN_EVERY = 2.0  # seconds between two progress lines of one resource where there is no terminal


@dataclass(frozen=True)
class Row:
    """A resource as the display shows it."""

    ref: Ref
    state: str
    progress: str
    message: str


class Display(Protocol):
    """Shows rows; used as a context manager around the engine's run."""

    def __enter__(self) -> Display: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, rows: list[Row]) -> None: ...


def rows_of(engine: LocalEngine) -> list[Row]:
    """The engine's resources as rows, in the order of the pipeline."""
    running = {ref: (record, since) for ref, record, since in engine.jobs.progress()}
    return [_row(engine.records[ref].resource, running.get(ref)) for ref in sorted(engine.records, key=pipeline_order)]


def summary(resource: AnyResource) -> tuple[str, str]:
    """State and message of a resource, from its conditions."""
    conditions = resource.status.conditions
    for type, state in (
        (ConditionType.STALLED, "Stalled"),
        (ConditionType.FAILED, "Failed"),
        (ConditionType.COMPLETE, "Complete"),
        (ConditionType.READY, "Ready"),
    ):
        if is_true(conditions, type):
            found = condition_of(conditions, type)
            return state, found.message if found else ""
    ready = condition_of(conditions, ConditionType.READY)
    state = "Running" if is_true(conditions, ConditionType.RECONCILING) else "Pending"
    return state, ready.message if ready else ""


def pipeline_order(ref: Ref) -> tuple[int, str, str]:
    """Sorts resources as the pipeline passes through them."""
    return list(type(ref.kind)).index(ref.kind), ref.namespace, ref.name


def _row(resource: AnyResource, running: tuple[ProgressRecord, datetime] | None) -> Row:
    state, message = summary(resource)
    progress = ""
    if running is not None and state not in ("Ready", "Complete"):
        record, since = running
        progress = describe(record, (datetime.now(UTC) - since).total_seconds())
    return Row(resource.ref, state, progress, message)


def describe(record: ProgressRecord, seconds: float) -> str:
    """`prepare 120,000 of 336,776 rows, 60,000/s, 4 s left`."""
    rate = record.done / seconds if seconds > 0 else 0.0
    text = f"{record.phase} {record.done:,}"
    if record.total is not None:
        text += f" of {record.total:,}"
    text += f" {record.unit}"
    if rate >= 1:
        text += f", {rate:,.0f}/s"
        if record.total is not None and record.total > record.done:
            text += f", {(record.total - record.done) / rate:,.0f} s left"
    return text


_STYLES = {"Ready": "green", "Complete": "green", "Stalled": "red", "Failed": "red", "Running": "yellow"}


def table(rows: Iterable[Row], title: str | None = None) -> Table:
    """Rows as a table."""
    grid = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for heading in ("KIND", "NAME", "STATE", "PROGRESS", "MESSAGE"):
        grid.add_column(heading, no_wrap=heading in ("KIND", "NAME", "STATE"), overflow="fold")
    for row in rows:
        style = _STYLES.get(row.state, "dim")
        grid.add_row(row.ref.kind.value, row.ref.name, f"[{style}]{row.state}[/]", row.progress, row.message)
    return grid


class LiveDisplay:
    """A table that is drawn anew."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveDisplay:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, rows: list[Row]) -> None:
        self._live.update(table(rows))


@dataclass
class PlainDisplay:
    """A line whenever something changed, and now and then one for what is under way."""

    console: Console
    _said: dict[Ref, tuple[str, str]] = field(default_factory=dict)
    _progress_at: dict[Ref, float] = field(default_factory=dict)

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, rows: list[Row]) -> None:
        for row in rows:
            said = (row.state, row.message)
            now = time.monotonic()
            if self._said.get(row.ref) != said and row.state != "Pending":
                self._said[row.ref] = said
                self._say(row, row.message)
            elif row.progress and now - self._progress_at.get(row.ref, 0.0) >= PLAIN_EVERY:
                self._progress_at[row.ref] = now
                self._say(row, row.progress)

    def _say(self, row: Row, text: str) -> None:
        self.console.print(
            f"{row.ref.kind.value:<14} {row.ref.name:<24} {row.state:<9} {text}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
