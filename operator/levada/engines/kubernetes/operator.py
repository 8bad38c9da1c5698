"""kopf's part: it watches, logs in and says that it lives; every event only changes the engine's picture."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Any

import kopf
import stamina
import structlog
from kubernetes import client, config
from urllib3 import Retry

from levada import names
from levada.engines.kubernetes import inference, metrics
from levada.engines.kubernetes.cluster import Cluster, Missing, Refused, Unavailable
from levada.engines.kubernetes.engine import WORKERS, KubernetesEngine
from levada.engines.kubernetes.inference import ScorerPods
from levada.engines.kubernetes.jobs import StepPods
from levada.engines.kubernetes.lease import Lease, LeaseLost, LeaseTimes
from levada.errors import StoreUnavailable
from levada.names import PLURALS, Kind
from levada.settings import Settings
from levada.stores.open import ensure_bucket, open_bus, open_catalogue, open_objects, open_triggers
from levada.stores.outbox import relay_until
from levada.stores.ports import Catalogue

log = structlog.get_logger()

_WATCH_SECONDS = 300  # a watch is opened anew then: without an end, some fall silent
_JITTER = 30
_FIRST_LOOK_SECONDS = 10.0  # after the watches were opened
# A look takes many requests: an API server that asks for patience at some of them must not spoil it. Only reads: a
# write that is tried again behind our back may come after another replica's.
_READS = Retry(
    total=6,
    connect=0,
    read=0,
    other=0,
    allowed_methods=["GET"],
    status_forcelist=[429],
    backoff_factor=0.1,
    retry_after_max=10,
    raise_on_status=False,
)
_UNSEEN_LOOKS = 5  # so many looks in a row may fail before the operator is not said to live any more


class _Health:
    """Until when (by the monotonic clock) the operator is said to live, unless it sees the cluster before."""

    until = math.inf  # a standby has nothing to see

    def seen(self, seconds: float) -> None:
        """It has seen the cluster, and will again well before so many seconds are over."""
        self.until = time.monotonic() + seconds

    def check(self) -> None:
        """Raise unless it lives."""
        if time.monotonic() > self.until:
            raise kopf.PermanentError("the cluster has not been seen for too long")


class KServeInstalled(Exception):
    """KServe was not there when the watches were set up, and is now: the operator begins anew."""


def run(
    settings: Settings, pods: StepPods, scorers: ScorerPods, namespaces: tuple[str, ...], liveness: str | None
) -> None:
    """Run the operator until it is told to end; `liveness`: URL at which it says that it lives."""
    # Until there is more to end (kopf and _told_to_end take it then): process 1 of a container ignores it by default.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    try:
        asyncio.run(_operate(settings, pods, scorers, namespaces, liveness))
    except LeaseLost as error:
        log.error("this replica is not the active one any more and ends", reason=str(error))
        sys.exit(1)
    except KServeInstalled:
        log.info("KServe has been installed: ends, to begin anew and watch InferenceServices")
        sys.exit(1)


async def _operate(
    settings: Settings, pods: StepPods, scorers: ScorerPods, namespaces: tuple[str, ...], liveness: str | None
) -> None:
    metrics.serve(settings.metrics_port)
    # One for each worker and then some: a store that does not answer must not keep those from theirs who need it not.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * WORKERS, thread_name_prefix="levada"))
    api = _api_client(_READS)
    lease = _lease_of(settings)
    cluster = Cluster(api, namespaces, lease.check) if lease is not None else Cluster(api, namespaces)
    catalogue = open_catalogue(settings)
    sources = settings.sources or f"s3://{settings.objects_bucket}/sources"
    stores = catalogue, open_objects(settings), open_triggers(settings)
    progress_every = timedelta(seconds=settings.progress_seconds)
    engine = KubernetesEngine(cluster, *stores, pods, scorers, sources, progress_every)
    await _look(engine)  # also tells what there is to watch
    kserve = engine.services.installed
    health = _Health()
    watches, ending = asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(
        kopf.operator(
            registry=_registry(engine, health),
            settings=_kopf_settings(),
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
            liveness_endpoint=liveness,
            ready_flag=watches,
            stop_flag=ending,
        )
    )
    looking = partial(_look_again, engine, health, settings.resync_seconds, watched=kserve)
    leading = _lead(lease, lambda: _reconcile(settings, engine, catalogue, looking))
    try:
        # A standby watches as well, so that it has a picture when its time comes; it plans and writes nothing.
        await _together(_ended(watching), _told_to_end(watches), leading)
    finally:
        ending.set()
        await asyncio.gather(watching, return_exceptions=True)
        catalogue.close()


async def _ended(watching: asyncio.Task[None]) -> None:
    await asyncio.shield(watching)


async def _told_to_end(watches: asyncio.Event) -> None:
    """Wait for a signal to end. kopf takes signals until it watches; it ends last, since it cancels what still runs."""
    await watches.wait()
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    await told.wait()


async def _lead(lease: Lease | None, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do the work while this replica is the active one. Raises LeaseLost."""
    if lease is None:
        metrics.LEADER.set(1)
        await work()
        return
    await lease.acquire()
    metrics.LEADER.set(1)
    try:
        await _together(lease.keep(), work())
    finally:
        metrics.LEADER.set(0)
        await lease.release()


async def _reconcile(
    settings: Settings,
    engine: KubernetesEngine,
    catalogue: Catalogue,
    looking: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Plan and write, from a picture that nothing is missing in."""
    async for attempt in _patience():
        with attempt:
            await asyncio.to_thread(catalogue.migrate)
            await asyncio.to_thread(ensure_bucket, settings)
    await _look(engine)
    never = asyncio.Event()  # what is not published yet stays in the outbox, for the next one
    publishing = relay_until(never, catalogue, lambda: open_bus(settings))
    await _together(engine.run(), engine.events.run(), looking(), publishing)


async def _together(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run what goes on for ever: when one ends or fails, so do the others."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _look(engine: KubernetesEngine) -> None:
    async for attempt in _patience():
        with attempt:
            await engine.look()


def _patience() -> AsyncIterator[AbstractContextManager[Any]]:
    """Attempts for as long as a server does not answer; each failure is logged."""
    return stamina.retry_context(on=(Unavailable, StoreUnavailable), attempts=None, timeout=None, wait_max=10.0)


async def _look_again(engine: KubernetesEngine, health: _Health, every: float, *, watched: bool) -> None:
    """See everything again and again. Raises KServeInstalled if InferenceServices are there and not `watched`."""
    await asyncio.sleep(min(every, _FIRST_LOOK_SECONDS))
    while True:
        try:
            await engine.look()
            health.seen(_UNSEEN_LOOKS * every + _FIRST_LOOK_SECONDS)
        except (Unavailable, Refused, Missing) as error:  # rights and definitions may come back as they went
            log.warning("the cluster cannot be looked at", error=str(error))
        if engine.services.installed and not watched:
            raise KServeInstalled
        await asyncio.sleep(every)


def _lease_of(settings: Settings) -> Lease | None:
    if not settings.lease_namespace:
        return None
    times = LeaseTimes(settings.lease_duration, settings.lease_renew_deadline, settings.lease_retry)
    api = _api_client(False)  # it must not wait longer than it knows of
    return Lease(api, settings.lease_namespace, settings.lease_name, settings.lease_identity, times)


def _api_client(retries: Retry | bool) -> client.ApiClient:
    configuration = client.Configuration()
    try:
        config.load_incluster_config(configuration)
    except config.ConfigException:
        config.load_kube_config(client_configuration=configuration)
    configuration.retries = retries
    return client.ApiClient(configuration)


def _registry(engine: KubernetesEngine, health: _Health) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    for kind in Kind:

        async def changed(event: Any, kind: Kind = kind, **_: Any) -> None:
            engine.resource_changed(kind, event["object"], gone=event["type"] == "DELETED")

        kopf.on.event(names.GROUP, names.VERSION, PLURALS[kind], registry=registry, id=f"{kind.value}-changed")(changed)
    ours: Any = {names.LABEL_KIND: kopf.PRESENT}

    async def job_changed(event: Any, **_: Any) -> None:
        engine.job_changed(event["object"], gone=event["type"] == "DELETED")

    async def pod_changed(event: Any, **_: Any) -> None:
        engine.pod_changed(event["object"], gone=event["type"] == "DELETED")

    async def service_changed(event: Any, **_: Any) -> None:
        engine.services.service_changed(event["object"], gone=event["type"] == "DELETED")

    if engine.services.installed:
        kserve = inference.GROUP, inference.VERSION, inference.PLURAL
        kopf.on.event(*kserve, labels=ours, registry=registry)(service_changed)
    kopf.on.event("batch", "v1", "jobs", labels=ours, registry=registry)(job_changed)
    kopf.on.event("", "v1", "pods", labels=ours, registry=registry)(pod_changed)
    kopf.on.login(registry=registry)(_login)
    kopf.on.probe(registry=registry, id="cluster-seen")(lambda **_: health.check())
    return registry


def _login(**options: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**options) or kopf.login_with_kubeconfig(**options)


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # what is watched does not change
    settings.watching.server_timeout = _WATCH_SECONDS
    settings.watching.client_timeout = _WATCH_SECONDS + _JITTER
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    # Its workers only pass on what they get: idle ones take memory, and time at the end.
    settings.queueing.idle_timeout = 0.05
    return settings
