"""When something runs, and runs again: the one place that decides it.

An execution answers an occurrence: the first time, new inputs, a tick of the schedule, a message, a request by hand.
Its id is derived from what it works on, so that planning it twice is planning it once. A changed spec starts anew at
once; anything else waits until the running execution has ended (or as the schedule's concurrency policy says). With a
schedule or triggers, new inputs alone start nothing: the next tick or message takes them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from levada import names
from levada.errors import Waiting
from levada.planners import schedule
from levada.planners.conditions import clipped
from levada.planners.course import INITIAL, NEW_INPUTS, Course, Runnable
from levada.planners.plan import Observed
from levada.resources.base import RunPolicy, Schedule, Trigger
from levada.resources.status import Execution


@dataclass(frozen=True)
class Asked:
    """Occurrences that are due, and what the status says once they are answered (`answers`)."""

    trigger: str | None
    by_hand: bool
    ticked: bool
    seen: dict[str, Any]  # what the status says in any case
    answers: dict[str, Any]
    messages: tuple[str, ...]  # answered already
    pending: tuple[str, ...]  # answered with this


@dataclass(frozen=True)
class Decided:
    """Which execution there is to be."""

    execution: Execution | None
    started: str = ""  # why, if it was started just now
    fresh: bool = False  # its spec has not been carried out before
    outdated: bool = False  # the execution is of an earlier spec
    taken: bool = True  # what was asked is answered
    waiting: Waiting | None = None


def ask(resource: Runnable, observed: Observed, now: datetime) -> Asked:
    """What is due by schedule, message or request, the last of them winning."""
    status, plan = resource.status, _schedule_of(resource.spec)
    seen: dict[str, Any] = {}
    answers: dict[str, Any] = {}
    trigger: str | None = None
    ticked = False
    if plan is None:
        seen = {"observed_schedule": None, "last_schedule_time": None}
    else:
        tick, last, expression = schedule.latest_tick(plan, now), status.last_schedule_time, schedule.expression(plan)
        if status.observed_schedule != expression:
            # A schedule's ticks count from when it is first seen; those before it are not ticks that were missed.
            seen = {"observed_schedule": expression, "last_schedule_time": tick}
        elif tick is not None and (last is None or tick > last):
            answers["last_schedule_time"] = tick
            late = plan.starting_deadline_seconds
            if late is None or now - tick <= timedelta(seconds=late):  # one that is too late is skipped
                trigger, ticked = f"schedule {tick:%Y-%m-%dT%H:%M:%SZ}", True
    old, pending = _split_messages(observed.triggers, status.last_message)
    if not _triggers_of(resource.spec):
        old, pending = observed.triggers, ()
    if pending:
        trigger = clipped(f"message {pending[-1]}", 512)
        answers["last_message"] = pending[-1]
    request = resource.metadata.annotations.get(names.ANNOTATION_REQUESTED, "")[:256]
    by_hand = bool(request) and request != status.last_request
    if by_hand:
        trigger = f"request {request}"
        answers["last_request"] = request
    return Asked(trigger, by_hand, ticked, seen, answers, old, pending)


def _split_messages(messages: tuple[str, ...], last: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    cut = messages.index(last) + 1 if last in messages else 0
    return messages[:cut], messages[cut:]


def decide(resource: Runnable, observed: Observed, now: datetime, course: Course, asked: Asked) -> Decided:
    """Whether the present execution stays or another begins, and why."""
    spec, status = resource.spec, resource.status
    run = status.execution
    inputs = course.inputs
    hint = inputs if isinstance(inputs, Waiting) else None
    source = course.source if course.source is not None else (run.source if run is not None else None)
    suspended = bool(getattr(spec, "suspend", False))

    def begin(trigger: str, why: str, *, fresh: bool = False, again: bool = False) -> Decided:
        """Start an execution, unless it is the present one."""
        if suspended:
            return Decided(cancelled(run) if fresh else run, outdated=fresh, taken=asked.trigger is None)
        if isinstance(inputs, Waiting) and not (again and run is not None):
            return Decided(
                cancelled(run) if fresh else run, outdated=fresh, taken=asked.trigger is None, waiting=inputs
            )
        chosen = run.inputs if isinstance(inputs, Waiting) and run is not None else inputs
        assert not isinstance(chosen, Waiting)
        id = course.identify(trigger, chosen, source)
        same = run is not None and run.id == id
        if run is not None and same and run.state in ("Running", "Succeeded") and not again:
            return Decided(run, waiting=hint)
        execution = Execution(
            id=id,
            trigger=trigger,
            state="Running",
            attempt=run.attempt + 1 if run is not None and same else 1,
            job=_free_job_name(resource, observed, course, id, again),
            inputs=chosen,
            source=source,
            started_at=now,
        )
        return Decided(execution, started=why, fresh=fresh)

    if run is None:
        return begin(asked.trigger or INITIAL, "for the first time", fresh=True)
    if course.identify(run.trigger, run.inputs, run.source) != run.id:
        return begin(asked.trigger or run.trigger, "because the spec changed", fresh=True)
    if run.state == "Running":
        if asked.trigger is not None and asked.ticked and _policy(spec) != "Forbid":
            return begin(asked.trigger, f"because of {asked.trigger}")
        if source != run.source and run.job not in observed.jobs:
            return begin(run.trigger, "anew, because its source changed before it began")
        return Decided(run, taken=asked.trigger is None)
    if run.state == "Cancelled":
        return begin(asked.trigger or run.trigger, "once more, after it was cancelled", again=True)
    if asked.trigger is not None:
        return begin(asked.trigger, f"because of {asked.trigger}", again=asked.by_hand)
    if run.state == "Failed":
        if status.observed_generation != resource.metadata.generation:
            return begin(run.trigger, "once more, because the spec changed", again=True)
        if observed.local and run.job not in observed.jobs:
            return begin(run.trigger, "once more, after it failed", again=True)
    gated = _schedule_of(spec) is not None or bool(_triggers_of(spec))
    if not gated and not isinstance(inputs, Waiting):
        if course.supersede(inputs, run.inputs):
            return begin(NEW_INPUTS, "because there are new inputs")
        if source != run.source:
            return begin(NEW_INPUTS, "because its source changed")
    return Decided(run, waiting=hint)


def _free_job_name(resource: Runnable, observed: Observed, course: Course, id: str, again: bool) -> str:
    """A name for an execution's job. One that is there is the execution's own, unless it failed or is not to do."""
    number, key = 1, id
    while True:
        name = names.job_name(resource.metadata.name, course.step, key)
        job = observed.jobs.get(name)
        if job is None or (job.phase != "failed" and not again):
            return name
        number += 1
        key = f"-{names.short_hash([id, number])}"


def overlapping(resource: Runnable, observed: Observed, decided: Decided) -> tuple[str, ...]:
    """Jobs of older executions that the schedule's policy lets run on; those of an earlier spec are ended."""
    if _policy(resource.spec) != "Allow" or decided.execution is None or (decided.started and decided.fresh):
        return ()
    mine = decided.execution.job
    return tuple(name for name, job in sorted(observed.jobs.items()) if job.phase == "active" and name != mine)


def cancelled(run: Execution | None) -> Execution | None:
    """An execution whose job ends before its time; one that has ended stays as it is."""
    if run is None or run.state != "Running":
        return run
    return run.model_copy(update={"state": "Cancelled", "progress": None})


def _schedule_of(spec: RunPolicy) -> Schedule | None:
    found = getattr(spec, "schedule", None)
    return found if isinstance(found, Schedule) else None


def _triggers_of(spec: RunPolicy) -> list[Trigger]:
    return list(getattr(spec, "triggers", ()))


def _policy(spec: RunPolicy) -> str:
    plan = _schedule_of(spec)
    return plan.concurrency_policy if plan is not None else "Forbid"


def until_next_tick(spec: RunPolicy, now: datetime) -> timedelta | None:
    """How long until the schedule's next tick; None where there is none to wait for."""
    plan = _schedule_of(spec)
    if plan is None or getattr(spec, "suspend", False):
        return None
    tick = schedule.next_tick(plan, now)
    return None if tick is None else tick - now
