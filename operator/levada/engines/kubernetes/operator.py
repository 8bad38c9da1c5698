"""kopf's part: it watches, logs in and says that it lives; every event only changes the engine's picture."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf
import structlog
from kubernetes import client, config

from levada import names
from levada.engines.kubernetes.cluster import Cluster, Unavailable
from levada.engines.kubernetes.engine import KubernetesEngine
from levada.engines.kubernetes.jobs import StepPods
from levada.names import PLURALS, Kind
from levada.settings import Settings
from levada.stores.open import ensure_bucket, open_bus, open_catalogue, open_objects
from levada.stores.outbox import relay_until

log = structlog.get_logger()

_WATCH_SECONDS = 300  # a watch is opened anew then: without an end, some fall silent
_JITTER = 30
_RESYNC_SECONDS = (10.0, 300.0)  # when everything is looked at anew: once the watches stand, and then so often


def run(settings: Settings, pods: StepPods, namespaces: tuple[str, ...], liveness: str | None) -> None:
    """Run the operator until it is told to end; `liveness`: URL at which it says that it lives."""
    asyncio.run(_operate(settings, pods, namespaces, liveness))


async def _operate(settings: Settings, pods: StepPods, namespaces: tuple[str, ...], liveness: str | None) -> None:
    catalogue = open_catalogue(settings)
    await asyncio.to_thread(catalogue.migrate)
    await asyncio.to_thread(ensure_bucket, settings)
    cluster = Cluster(_api_client(), namespaces)
    engine = KubernetesEngine(cluster, catalogue, open_objects(settings), pods, settings.objects_bucket)
    await engine.look()
    ending = asyncio.Event()
    publishing = asyncio.create_task(relay_until(ending, catalogue, lambda: open_bus(settings)))
    working = asyncio.create_task(engine.run())
    looking = asyncio.create_task(_look_again(engine))
    watching = asyncio.create_task(
        kopf.operator(
            registry=_registry(engine),
            settings=_kopf_settings(),
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
            liveness_endpoint=liveness,
        )
    )
    try:
        # Each of them goes on for ever: when one ends, something is wrong, and the whole begins anew.
        done, _ = await asyncio.wait({publishing, working, watching, looking}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        ending.set()
        for task in (working, watching, looking):
            task.cancel()
        await asyncio.gather(working, watching, looking, publishing, return_exceptions=True)
        catalogue.close()


async def _look_again(engine: KubernetesEngine) -> None:
    first, every = _RESYNC_SECONDS
    await asyncio.sleep(first)
    while True:
        try:
            await engine.look()
        except Unavailable as error:
            log.warning("the cluster cannot be looked at", error=str(error))
        await asyncio.sleep(every)


def _api_client() -> client.ApiClient:
    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config()
    return client.ApiClient()


def _registry(engine: KubernetesEngine) -> kopf.OperatorRegistry:
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

    kopf.on.event("batch", "v1", "jobs", labels=ours, registry=registry)(job_changed)
    kopf.on.event("", "v1", "pods", labels=ours, registry=registry)(pod_changed)
    kopf.on.login(registry=registry)(_login)
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
    settings.queueing.idle_timeout = 0.5  # its workers only pass on what they get; the end waits for the idle ones
    return settings
