"""The engine for clusters: level-triggered like its local twin, with Jobs instead of subprocesses.

Watches put what they see into a picture of the cluster and mark the resources that look at it; behind the marks stands
a queue with one worker at a time for a resource. A worker plans from the picture, carries the plan out, and writes the
status over the version that it planned for, so that whoever plans from an old picture writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

import structlog

from levada.engines import decisions
from levada.engines.kubernetes import metrics
from levada.engines.kubernetes.cluster import PAGE, Cluster, Conflict, Document, Refused, Unavailable, is_invalid
from levada.engines.kubernetes.inference import ScorerPods
from levada.engines.kubernetes.jobs import StepPods, job_document
from levada.engines.kubernetes.kube_events import EventRecorder, of_decision, of_refusal, of_warnings, to_tell
from levada.engines.kubernetes.lease import LeaseLost
from levada.engines.kubernetes.patience import held_up, says_held_up
from levada.engines.kubernetes.picture import Picture, Seen
from levada.engines.kubernetes.reading import Key, as_owner, key_of, labelled, owned, ref_of
from levada.engines.kubernetes.recent import Recent
from levada.engines.kubernetes.said import read_progress, read_result
from levada.engines.kubernetes.services import NotServed, Services
from levada.engines.kubernetes.states import completed_indexes, job_state, outdated, phase_of
from levada.engines.kubernetes.triggers import TriggerListener
from levada.errors import Stalled, StoreUnavailable
from levada.events import Event
from levada.names import Kind
from levada.planners import plan, stalled
from levada.planners.plan import Decision, Job, JobState, Observed, Plan, ServingState
from levada.resources import AnyResource, Deployment, Ref
from levada.resources.conditions import Reason
from levada.resources.deployment import DeploymentStatus
from levada.resources.status import execution_of
from levada.resources.uris import below
from levada.stores.ports import Catalogue, Objects, Triggers

log = structlog.get_logger()

ACTOR = "operator"
WORKERS = 8  # resources that are worked on at the same time
FIRST_BACKOFF, LONGEST_BACKOFF = 0.2, 60.0  # seconds; doubled with each failure of a resource
DRAIN_SECONDS = 10.0  # how long the end waits for what is being worked on
SAID_AFTER = 2  # failures of a resource in a row, then its status says what is in the way
PODS_WITHIN = timedelta(seconds=5)  # a Job that has none by then is asked why
LOOK_AGAIN = timedelta(minutes=1)  # the longest that a timer runs: its clock may stand still, schedules do not


class KubernetesEngine:
    """Carries out what the resources of a cluster want. The `…_changed` methods belong to its event loop."""

    def __init__(
        self,
        cluster: Cluster,
        catalogue: Catalogue,
        objects: Objects,
        triggers: Triggers,
        pods: StepPods,
        scorers: ScorerPods,
        sources: str,
        progress_every: timedelta,
    ) -> None:
        """`sources`: below its <namespace>/ lies what resources name by a relative URI."""
        self._cluster = cluster
        self._catalogue = catalogue
        self._objects = objects
        self._pods = pods
        self._bucket = scorers.bucket
        self._picture = Picture(lambda namespace, uri: below(f"{sources}/{namespace}", uri))
        self._progress_every = progress_every
        self.services = Services(cluster, scorers, self._mark)
        self.events = EventRecorder(cluster)
        self._triggers = TriggerListener(triggers, self._mark)
        self._left: set[Ref | Key] = set()  # resources and Jobs that have gone since a list was asked for
        self._recorded = Recent[str]()  # decisions that are known to be in the catalogue
        self._dirty: dict[Ref, None] = {}  # an ordered set
        self._working: dict[Ref, asyncio.Task[None]] = {}
        self._failures: dict[Ref, int] = {}
        self._failing_since: dict[Ref, datetime] = {}
        self._timers: dict[Ref, asyncio.TimerHandle] = {}
        self._woken = asyncio.Event()
        metrics.QUEUE.set_function(lambda: len(self._dirty))

    # --- the picture -----------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """See everything, so that nothing is planned from half a picture, and what a watch missed is seen after all.

        Raises Unavailable.
        """
        for kind in Kind:
            before = self._picture.all_of(kind)
            self._left.clear()
            found = set()
            async for document in _listed(self._cluster.resources, kind):
                found.add(ref := ref_of(kind, document))
                if ref not in self._left:
                    self.resource_changed(kind, document)
            for ref in before:
                if ref not in found:
                    self._gone(ref)
        before_jobs = self._picture.job_keys()
        before_pods = self._picture.pod_keys() | self.services.pod_keys()
        self._left.clear()
        jobs = set()
        async for document in _listed(self._cluster.jobs):
            jobs.add(key := key_of(document))
            if key not in self._left:
                self.job_changed(document)
        for key in before_jobs - jobs:
            self._mark(*self._picture.drop_job(key))
        pods = set()
        async for document in _listed(self._cluster.pods):
            pods.add(key_of(document))
            self.pod_changed(document)
        self._mark(*self._picture.drop_pods(before_pods - pods))
        self.services.drop_pods(before_pods - pods)
        await self.services.look()
        # Who waits may wait for what it refers to at two removes, of whose changes it is not told.
        self._mark(*self._picture.unready())

    def resource_changed(self, kind: Kind, document: Document, *, gone: bool = False) -> None:
        """Take note of a resource."""
        if gone:
            self._gone(ref_of(kind, document))
        else:
            self._mark(*self._picture.put(kind, document))

    def _gone(self, ref: Ref) -> None:
        self._left.add(ref)
        self._failures.pop(ref, None)
        self._failing_since.pop(ref, None)
        self._triggers.gone(ref)
        if (timer := self._timers.pop(ref, None)) is not None:
            timer.cancel()
        self._mark(*self._picture.drop(ref))

    def job_changed(self, document: Document, *, gone: bool = False) -> None:
        """Take note of a Job of Levada's."""
        if gone:
            self._left.add(key_of(document))
        self._mark(*(self._picture.drop_job(key_of(document)) if gone else self._picture.put_job(document)))

    def pod_changed(self, document: Document, *, gone: bool = False) -> None:
        """Take note of a pod of a Job of Levada's, or of a scorer."""
        owner = labelled(document["metadata"])
        if owner is not None and owner.kind is Kind.DEPLOYMENT:
            self.services.pod_changed(owner, document, gone=gone)
        else:
            self._mark(*self._picture.put_pod(document, gone=gone))

    # --- the queue -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reconcile until cancelled."""
        try:
            while True:
                free = [ref for ref in self._dirty if ref not in self._working][: WORKERS - len(self._working)]
                for ref in free:
                    del self._dirty[ref]
                    task = self._working[ref] = asyncio.create_task(self._work(ref), name=str(ref))
                    task.add_done_callback(partial(self._worked, ref))
                await self._woken.wait()
                self._woken.clear()
        finally:
            for timer in self._timers.values():
                timer.cancel()
            # What has begun to write ends in good order, so that nothing of it comes after what another will write.
            tasks = list(self._working.values())
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
                for task in late:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._triggers.close()

    def _mark(self, *refs: Ref) -> None:
        self._dirty.update(dict.fromkeys(refs))
        self._woken.set()

    def _worked(self, ref: Ref, _: asyncio.Task[None]) -> None:
        del self._working[ref]
        self._woken.set()

    def _later(self, ref: Ref, after: timedelta) -> None:
        if (timer := self._timers.pop(ref, None)) is not None:
            timer.cancel()
        seconds = min(after, LOOK_AGAIN).total_seconds()
        self._timers[ref] = asyncio.get_running_loop().call_later(seconds, self._mark, ref)

    async def _work(self, ref: Ref) -> None:
        try:
            with metrics.reconciling(ref.kind):
                requeue = await self._reconcile(ref)
        except (Conflict, NotServed):
            requeue = self._back_off(ref)  # what changed is on its way here; what is not served stands in the status
        except LeaseLost:
            return  # the process is ending
        except (Unavailable, StoreUnavailable) as error:
            requeue = self._back_off(ref)
            log.warning("trying again", resource=str(ref), after=requeue.total_seconds(), error=str(error))
            if isinstance(error, StoreUnavailable):
                await self._say_held_up(ref, Reason.STORE_UNAVAILABLE, str(error))
        except Refused as error:
            requeue = self._back_off(ref)
            log.error("the API server refuses", resource=str(ref), error=str(error))
            await self._say_held_up(ref, Reason.RETRYING, f"the API server refuses: {error}")
        except Exception as error:
            requeue = self._back_off(ref)
            log.exception("a reconciliation failed", resource=str(ref))
            said = f"the operator fails with {type(error).__name__}: {error}; its log has more"
            await self._say_held_up(ref, Reason.RETRYING, said)
        else:
            self._failures.pop(ref, None)
            self._failing_since.pop(ref, None)
        if requeue is not None:
            self._later(ref, requeue)

    async def _say_held_up(self, ref: Ref, reason: Reason, message: str) -> None:
        """Say in the status what is in the way, once, and not of what a second attempt gets over."""
        now = datetime.now(UTC)
        since = self._failing_since.setdefault(ref, now)
        seen = self._picture.seen(ref)
        if seen is None or self._failures.get(ref, 0) < SAID_AFTER or says_held_up(seen.resource.status, reason):
            return
        told = f"tried again since {since:%Y-%m-%dT%H:%M:%SZ}: {message}"
        status = held_up(seen.resource, seen.resource.status, reason, told, now)
        with suppress(Conflict, Unavailable, Refused, LeaseLost):
            await self._write_status_of(seen, Plan(status))

    def _back_off(self, ref: Ref) -> timedelta:
        failures = self._failures[ref] = self._failures.get(ref, 0) + 1
        return timedelta(seconds=min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(failures - 1, 16)))

    # --- one resource ----------------------------------------------------------------------------------------------

    async def _reconcile(self, ref: Ref) -> timedelta | None:
        if (problem := self._picture.unreadable.get(ref)) is not None:
            await self._refuse(ref, *problem)
            return None
        seen = self._picture.seen(ref)
        if seen is None:
            return None
        resource = seen.resource
        now = datetime.now(UTC)
        if (beyond := _beyond(resource)) is not None:
            await self._carry_out(seen, stalled(resource, beyond, now))
            return None
        self._triggers.listen(resource)
        observed = Observed(
            self._picture.resources,
            jobs=await self._states(ref, now),
            serving=self.services.state(ref) if ref.kind is Kind.DEPLOYMENT else None,
            triggers=self._triggers.pending(ref),
            bucket=self._bucket,
            rolling=True,
        )
        planned = plan(resource, observed, now)
        if (trouble := self._triggers.problem(ref)) is not None:
            status = held_up(resource, planned.status, Reason.STORE_UNAVAILABLE, trouble, now)
            planned = replace(planned, status=status)
        try:
            await self._carry_out(seen, planned)
        except NotServed as error:
            state = replace(observed.serving or ServingState(), message=str(error))
            planned = plan(resource, replace(observed, serving=state), now)
            await self._write_status_of(seen, planned)
            raise
        except Stalled as error:
            planned = stalled(resource, error, now)
            await self._tell(resource, planned.decisions)
            await self._write_status_of(seen, planned)
            return LOOK_AGAIN  # what refuses it may be a policy of the cluster's, which can change unseen
        await self._prune(ref, planned, observed)
        await self._triggers.answered(ref, planned.answered)
        if any(state.phase == "active" for state in observed.jobs.values()):
            return min(planned.requeue_after or self._progress_every, self._progress_every)
        return planned.requeue_after

    async def _states(self, owner: Ref, now: datetime) -> dict[str, JobState]:
        found = {}
        for name, job in self._picture.jobs_of(owner).items():
            place = self._objects, owner.namespace, name
            for index in completed_indexes(job.document):
                if index not in job.results:
                    job.results[index] = await asyncio.to_thread(read_result, *place, index)
            state = job_state(job.document, list(job.pods.values()), job.results.values())
            if state.phase == "active" and not job.pods and _is_late(state, now):
                why = await asyncio.to_thread(self._cluster.why_no_pods, job.document)
                state = replace(state, last_failure=why)
            since = job.asked or state.started_at
            if state.phase == "active" and since is not None and now - since >= self._progress_every:
                job.asked = now
                completions = job.document["spec"]["completions"]
                job.progress = await asyncio.to_thread(read_progress, *place, completions)
            found[name] = replace(state, progress=job.progress)
        return found

    async def _carry_out(self, seen: Seen, planned: Plan) -> None:
        """Decisions before what they decide, and the status last: killed in between, the same plan comes again."""
        resource = seen.resource
        ref, owner = resource.ref, as_owner(resource)
        await self._tell(resource, planned.decisions)
        for child in planned.children:
            known = self._picture.seen(child.ref)
            if known is None or known.resource.spec != child.spec:
                there = (known.resource.metadata.uid, known.version) if known is not None else None
                applied = await asyncio.to_thread(self._cluster.apply, owned(child, owner), there)
                self.resource_changed(child.ref.kind, applied)
        wanted = {job.name for job in planned.jobs} | set(planned.keep)
        existing = self._picture.jobs_of(ref)
        for name, obsolete in existing.items():
            if name not in wanted and phase_of(obsolete.document) == "active":
                await asyncio.to_thread(self._cluster.delete_job, obsolete.document)
        for job in planned.jobs:
            if job.name not in existing:
                await self._make_job(job, resource)
        if planned.serving is not None:
            await self.services.ensure(planned.serving, owner)
        elif isinstance(planned.status, DeploymentStatus) and planned.status.serving_version is None:
            await self.services.remove(ref)
        await self._write_status_of(seen, planned)

    async def _tell(self, resource: AnyResource, decided: tuple[Decision, ...]) -> None:
        """Record decisions that are not recorded yet."""
        told = list(to_tell(decided))
        for decision in decided:
            event = decisions.event_of(resource, decision, datetime.now(UTC))
            if event.id not in self._recorded:
                await asyncio.to_thread(self._record, resource, decision, event)
                self._recorded.add(event.id)
                if decision in told:
                    self.events.record(of_decision(resource, decision, event.id))

    async def _prune(self, owner: Ref, planned: Plan, observed: Observed) -> None:
        """Remove Jobs that nobody will look at any more. The status holds by now what was observed of them."""
        execution = execution_of(planned.status)
        needed = {execution.job} if execution is not None else set()
        seen = {name for name, state in observed.jobs.items() if state.phase != "active"}
        ended = {name: job.document for name, job in self._picture.jobs_of(owner).items() if name in seen}
        for name in outdated(ended, needed):
            await asyncio.to_thread(self._cluster.delete_job, ended[name])

    async def _make_job(self, job: Job, resource: AnyResource) -> None:
        document = job_document(job, as_owner(resource), resource.metadata.labels, self._pods)
        try:
            made = await asyncio.to_thread(self._cluster.make_job, document)
        except Refused as error:
            if is_invalid(error):
                raise Stalled(Reason.INVALID_SPEC, f"the API server refuses the Job: {error}") from error
            raise
        if made is not None:
            self.job_changed(made)

    def _record(self, resource: AnyResource, decision: Decision, event: Event) -> None:
        self._cluster.check()
        decisions.record(self._catalogue, resource, decision, event, ACTOR)

    async def _write_status_of(self, seen: Seen, planned: Plan) -> None:
        if planned.status != seen.resource.status:
            await self._write_status(seen.resource.ref, seen.version, planned.status.document())
            for warning in of_warnings(seen.resource, seen.version, planned.status):
                self.events.record(warning)

    async def _write_status(self, ref: Ref, version: str, status: Document) -> None:
        written = await asyncio.to_thread(self._cluster.write_status, ref, version, status)
        self.resource_changed(ref.kind, written)

    async def _refuse(self, ref: Ref, document: Document, problem: str) -> None:
        """Say in the status that a resource cannot be read."""
        generation, now = document["metadata"]["generation"], datetime.now(UTC).isoformat()
        common = {
            "reason": Reason.INVALID_SPEC.value,
            "message": problem[:1024],
            "observedGeneration": generation,
            "lastTransitionTime": now,
        }
        status = document.get("status") or {}
        said = [c for c in status.get("conditions", ()) if c["type"] == "Stalled" and c["message"] == common["message"]]
        if said and status.get("observedGeneration") == generation:
            return
        conditions = [{"type": "Ready", "status": "False", **common}, {"type": "Stalled", "status": "True", **common}]
        metadata = document["metadata"]
        with suppress(Conflict):
            status = {**status, "observedGeneration": generation, "conditions": conditions}
            await self._write_status(ref, metadata["resourceVersion"], status)
            self.events.record(of_refusal(ref, metadata["uid"], Reason.INVALID_SPEC, problem))


def _beyond(resource: AnyResource) -> Stalled | None:
    """What planners can do and this engine cannot."""
    scaling = resource.spec.autoscaling if isinstance(resource, Deployment) else None
    if scaling is not None and scaling.min_replicas == 0:
        message = (
            "spec.autoscaling.minReplicas: 0 cannot be woken by a request in KServe's Standard mode; use 1 or more"
        )
        return Stalled(Reason.NOT_SUPPORTED, message)
    return None


async def _listed(ask: Callable[..., Iterator[Document]], *arguments: Any) -> AsyncIterator[Document]:
    """What a list has, with one page of it in memory at a time."""
    documents = ask(*arguments)
    while page := await asyncio.to_thread(lambda: list(islice(documents, PAGE))):
        for document in page:
            yield document


def _is_late(job: JobState, now: datetime) -> bool:
    """Whether a Job without pods should have some."""
    return job.started_at is not None and now - job.started_at >= PODS_WITHIN
