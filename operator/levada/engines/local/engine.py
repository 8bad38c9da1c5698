"""The local engine: the same planners and steps as on Kubernetes, with jobs and scorers as processes of one machine.

Level-triggered like its twin: marks in, one plan per resource at a time, plans carried out, status written when it
changed. It keeps nothing in memory that the home does not hold, so it can be killed anywhere and started again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from levada.engines import decisions
from levada.engines.local.embedded import SeaweedFS
from levada.engines.local.fingerprint import source_fingerprint
from levada.engines.local.forkers import Forker
from levada.engines.local.home import Home, Record, with_status
from levada.engines.local.jobs import PROGRESS_EVERY, Jobs
from levada.engines.local.scorers import Scorers
from levada.engines.local.stores import Stores
from levada.errors import Stalled, StoreUnavailable
from levada.names import Kind
from levada.planners import plan, references_of, stalled
from levada.planners.plan import Decision, Observed, Plan
from levada.resources import AnyResource, Dataset, Deployment, Ref, ScoringRun
from levada.resources.conditions import ConditionType, Reason, is_true
from levada.resources.dataset import DatasetSpec, Source
from levada.resources.status import execution_of

log = structlog.get_logger()

ACTOR = "levada run"
_WORK = {
    Kind.DATASET: "ingest",
    Kind.FEATURE_SET: "prepare",
    Kind.TRAINING_RUN: "train",
    Kind.MODEL_CANDIDATE: "evaluate",
    Kind.SCORING_RUN: "score",
    Kind.DEPLOYMENT: "serve",
}
RETRY_AFTER = timedelta(seconds=1)  # after a store did not answer
# The longest that a timer runs: its clock stands still while the machine sleeps, schedules do not.
LOOK_AGAIN = timedelta(minutes=1)


class LocalEngine:
    """Carries out what the home's resources want; with `serve`, scorers of Deployments are kept running."""

    def __init__(
        self, home: Home, stores: Stores, forkers: Mapping[str, Forker], *, serve: bool, cores: int | None = None
    ) -> None:
        self._home = home
        self._stores = stores
        self._forkers = forkers
        self.records: dict[Ref, Record] = {record.resource.ref: record for record in home.all()}
        self.jobs = Jobs(home, stores.for_steps, cores or os.cpu_count() or 1, self._mark, self._break, forkers)
        self.scorers = Scorers(home, stores.for_steps, self._mark, self._break, forkers["serve"], keep=serve)
        self._dirty: dict[Ref, None] = {}  # an ordered set
        self._woken = asyncio.Event()
        self._timers: dict[Ref, asyncio.TimerHandle] = {}
        self._retrying: set[Ref] = set()
        self._error: BaseException | None = None  # of something in the background; it ends the run

    def apply(self, resources: Iterable[AnyResource]) -> None:
        """Take over manifests, all or none; raises Unchangeable where a field changed that may not."""
        given = list(resources)
        for resource in given:
            self._home.check(resource)
        for resource in given:
            self._put(self._home.apply(resource))

    async def run(self, settled: Callable[[], Awaitable[bool]]) -> None:
        """Reconcile until there is nothing left to do and `settled`, awaited then, says not to go on.

        It may be awaited many times. Raises what went wrong in the background, such as a server that does not start.
        """
        self.jobs.retry_failed()
        for ref in self.records:
            self._mark(ref)
        watching = asyncio.create_task(self._stores.watch())
        watching.add_done_callback(self._watched)
        try:
            while True:
                while self._dirty and self._error is None:
                    ref = next(iter(self._dirty))
                    del self._dirty[ref]
                    await self._reconcile(ref)
                if self._error is not None:
                    raise self._error
                if self._settled() and not await settled():
                    return
                await self._woken.wait()
                self._woken.clear()
        finally:
            watching.cancel()
            await self._stop()

    def _watched(self, watching: asyncio.Task[None]) -> None:
        if not watching.cancelled() and (error := watching.exception()) is not None:
            self._break(error)

    def _settled(self) -> bool:
        return not (self._dirty or self._retrying or self.jobs.active or self.scorers.starting)

    async def _stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        await self.jobs.stop()
        await self.scorers.stop()
        for forker in set(self._forkers.values()):
            await forker.stop()
        # Statuses must not go on saying that something is served. Not by a plan: it may decide something anew, and
        # decisions are recorded before they are carried out.
        for record in list(self.records.values()):
            resource = record.resource
            if isinstance(resource, Deployment) and resource.status.url is not None:
                self._save(with_status(record, resource.status.model_copy(update={"url": None})))

    # --- one resource ----------------------------------------------------------------------------------------------

    async def _reconcile(self, ref: Ref) -> None:
        source = await self._look_at_source(ref)
        record = self.records.get(ref)
        if record is None:
            self._retrying.discard(ref)
            return
        planned = self._plan(record, source)
        try:
            await self._carry_out(record, planned)
            self._retrying.discard(ref)
        except StoreUnavailable as error:
            log.warning("store unavailable, trying again", resource=str(ref), error=str(error))
            self._retrying.add(ref)
            self._later(ref, RETRY_AFTER)
            return
        waits = [planned.requeue_after, timedelta(seconds=PROGRESS_EVERY) if self.jobs.runs(ref) else None]
        if known := [wait for wait in waits if wait is not None]:
            self._later(ref, min(known))

    async def _look_at_source(self, ref: Ref) -> str | None:
        """What tells that the source of a Dataset changed, or the files that a ScoringRun scores. While these are read
        nobody asks: what changes meanwhile is seen at the end."""
        record = self.records.get(ref)
        spec = _read_from(record.resource) if record is not None else None
        if spec is None or self.jobs.runs(ref):
            return None
        return await asyncio.to_thread(source_fingerprint, spec)

    def _plan(self, record: Record, source: str | None) -> Plan:
        resource, now = record.resource, datetime.now(UTC)
        observed = Observed(
            resources={ref: other.resource for ref, other in self.records.items()},
            jobs=self.jobs.of(resource.ref),
            serving=self.scorers.observe(record) if resource.ref.kind == Kind.DEPLOYMENT else None,
            source=source,
            bucket=SeaweedFS.BUCKET,
            local=True,
        )
        try:
            return plan(resource, observed, now)
        except Exception as error:  # a fault of Levada's own: it holds up this resource, and not the others
            what = " ".join(f"{type(error).__name__}: {error}".split())
            said = f"planning it failed with {what}; this is a fault of Levada: report it with what the log says"
            failed = stalled(resource, Stalled(Reason.STEP_FAILED, said), now)
            if failed.status != resource.status:
                log.exception("planning failed, the others go on", resource=str(resource.ref))
            return failed

    async def _carry_out(self, record: Record, planned: Plan) -> None:
        """Decisions before what they decide, and the status last: killed in between, the same plan comes again."""
        resource = record.resource
        if any(self.jobs.is_new(job) for job in planned.jobs):
            # Beside the servers, which the decisions below start; and for what will follow.
            unfinished = (ref.kind for ref, other in self.records.items() if not succeeded(other.resource))
            await self.jobs.warm_up({_WORK[kind] for kind in unfinished})
        for decision in planned.decisions:
            record = await self._record_decision(record, decision)
        for child in planned.children:
            self._put(self._home.apply(child, owner=resource.ref))
        await self.jobs.end_all_but(resource.ref, {job.name for job in planned.jobs} | set(planned.keep))
        for job in planned.jobs:
            self.jobs.ensure(job)
        if planned.serving is not None:
            self.scorers.ensure(planned.serving, record)
        self._write_status(record, planned)
        was, run = execution_of(resource.status), execution_of(planned.status)
        if run is not None and run != was and run.state == "Succeeded":
            await self.jobs.prune(resource.ref, {run.job, *planned.keep, *(job.name for job in planned.jobs)})

    async def _record_decision(self, record: Record, decision: Decision) -> Record:
        resource = record.resource
        event = decisions.event_of(resource, decision, datetime.now(UTC))
        if event.id in record.recorded:
            return record
        catalogue = await self._stores.catalogue()
        await asyncio.to_thread(decisions.record, catalogue, resource, decision, event, ACTOR)
        record = replace(record, recorded=record.recorded | {event.id})
        self._home.save(record)
        self.records[resource.ref] = record
        return record

    def _write_status(self, record: Record, planned: Plan) -> None:
        record = self.records.get(record.resource.ref, record)
        checked = self.scorers.checked(record)
        if planned.status == record.resource.status and checked == record.checked_serving:
            return
        self._save(replace(with_status(record, planned.status), checked_serving=checked))

    def _save(self, record: Record) -> None:
        self._home.save(record)
        self._put(record)

    # --- marks -----------------------------------------------------------------------------------------------------

    def _put(self, record: Record) -> None:
        """Keep a record and mark everything that looks at it."""
        ref = record.resource.ref
        if self.records.get(ref) == record:
            return
        self.records[ref] = record
        self._mark(ref)
        if record.owner is not None:
            self._mark(record.owner)
        for other in self.records.values():
            if ref in references_of(other.resource):
                self._mark(other.resource.ref)

    def _mark(self, ref: Ref) -> None:
        self._dirty[ref] = None
        self._woken.set()

    def _later(self, ref: Ref, after: timedelta) -> None:
        if ref in self._timers:
            self._timers[ref].cancel()
        seconds = min(after, LOOK_AGAIN).total_seconds()
        self._timers[ref] = asyncio.get_running_loop().call_later(seconds, self._mark, ref)

    def _break(self, error: BaseException) -> None:
        self._error = self._error or error
        self._woken.set()


def _read_from(resource: AnyResource) -> DatasetSpec | None:
    """What a resource reads from outside, as a Dataset would have it."""
    match resource:
        case Dataset(spec=spec):
            return spec
        case ScoringRun(spec=spec) if spec.input.object is not None:
            source = Source(type="object", object=spec.input.object)
            return DatasetSpec(source=source, format=spec.input.object.format)
    return None


def succeeded(resource: AnyResource) -> bool:
    """Whether a resource is as its spec wants it: Ready, or Complete for what ends."""
    status = resource.status
    return status.observed_generation == resource.metadata.generation and (
        is_true(status.conditions, ConditionType.READY) or is_true(status.conditions, ConditionType.COMPLETE)
    )
