"""What a person sees while `levada run` works: a live table on a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from levada.engines.local.engine import LocalEngine
from levada.engines.local.jobs import Pace
from levada.resources import AnyResource, Ref
from levada.resources.conditions import ConditionType, condition_of, is_true

PLAIN_EVERY = 2.0  # seconds between two progress lines of one resource where there is no terminal


@dataclass(frozen=True)
class Row:
    """A resource as the display shows it."""

    ref: Ref
    state: str
    progress: str
    message: str
    warnings: tuple[str, ...] = ()


class Display(Protocol):
    """Shows rows; used as a context manager around the engine's run."""

    def __enter__(self) -> Display: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, rows: list[Row]) -> None: ...


def rows_of(engine: LocalEngine) -> list[Row]:
    """The engine's resources as rows, in the order of the pipeline."""
    running = dict(engine.jobs.progress())
    return [
        row_of(engine.records[ref].resource, running.get(ref)) for ref in sorted(engine.records, key=pipeline_order)
    ]


def summary(resource: AnyResource) -> tuple[str, str]:
    """State and message of a resource, from its conditions."""
    conditions = resource.status.conditions
    for type, state in (
        (ConditionType.FAILED, "Failed"),
        (ConditionType.STALLED, "Stalled"),
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


def row_of(resource: AnyResource, pace: Pace | None = None) -> Row:
    """A resource as a row; `pace` is that of its job, if one runs."""
    state, message = summary(resource)
    progress = describe(pace) if pace is not None else ""
    return Row(resource.ref, state, progress, message, tuple(resource.status.warnings))


def describe(pace: Pace) -> str:
    """`prepare 120,000 of 336,776 rows, 60,000/s, 4 s left`."""
    record, rate = pace.record, pace.rate
    text = f"{record.phase} {record.done:,}"
    if record.total is not None:
        text += f" of {record.total:,}"
    text += f" {record.unit}"
    if rate >= 1:
        text += f", {rate:,.0f}/s"
    if rate > 0 and record.total is not None and record.total > record.done:
        text += f", {_duration((record.total - record.done) / rate)} left"
    return text


def _duration(seconds: float) -> str:
    """`4 s`, `3 min`, `1 h 05 min`."""
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"


_STYLES = {"Ready": "green", "Complete": "green", "Stalled": "red", "Failed": "red", "Running": "yellow"}


def table(rows: Iterable[Row]) -> Table:
    """Rows as a table."""
    shown = list(rows)
    progress = any(row.progress for row in shown)
    grid = Table(box=None, pad_edge=False)
    for heading in ("KIND", "NAME", "STATE", *(["PROGRESS"] if progress else []), "MESSAGE"):
        grid.add_column(heading, no_wrap=heading in ("KIND", "NAME", "STATE"), overflow="fold")
    for row in shown:
        state = Text(row.state, _STYLES.get(row.state, "dim"))
        # As texts: what stands in brackets in a message is no markup.
        cells = [Text(row.progress)] if progress else []
        grid.add_row(row.ref.kind.value, row.ref.name, state, *cells, Text(row.message))
    return grid


def overview(rows: Iterable[Row]) -> Group:
    """Rows as a table, and below it what they warn of."""
    shown = list(rows)
    return Group(table(shown), *warnings((row.ref, row.warnings) for row in shown))


def warnings(found: Iterable[tuple[Ref, Iterable[str]]]) -> list[Text]:
    """What resources warn of: a heading and a line for each sentence; nothing where there is none."""
    lines = [Text(f"{ref}: {warning}") for ref, sentences in found for warning in sentences]
    return [Text("\nWarnings:"), *lines] if lines else []


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
        self._live.update(overview(rows))


@dataclass
class PlainDisplay:
    """A line whenever something changed, and now and then one for what is under way."""

    console: Console
    _said: dict[Ref, tuple[str, str]] = field(default_factory=dict)
    _warned: dict[Ref, tuple[str, ...]] = field(default_factory=dict)
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
                self._say(row, row.state, row.message)
            elif row.progress and now - self._progress_at.get(row.ref, 0.0) >= PLAIN_EVERY:
                self._progress_at[row.ref] = now
                self._say(row, row.state, row.progress)
            before, self._warned[row.ref] = self._warned.get(row.ref, ()), row.warnings
            for warning in row.warnings:
                if warning not in before:
                    self._say(row, "Warning", warning)

    def _say(self, row: Row, state: str, text: str) -> None:
        self.console.print(
            f"{row.ref.kind.value:<14} {row.ref.name:<32} {state:<9} {text}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
