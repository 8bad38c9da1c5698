"""What the API server says of an InferenceService and its pods, as planners see it. Pure: reads documents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from levada.engines.kubernetes.inference import CONTAINER, INITIALIZER, SERVES_ANNOTATION, SET_ANNOTATION
from levada.engines.kubernetes.states import waits_for
from levada.planners.plan import ServingState
from levada.resources.conditions import Reason
from levada.serving.config import GivenUp
from levada.steps.io import StepError

Document = Mapping[str, Any]


def serving_state(service: Document, pods: Iterable[Document], *, external: bool) -> ServingState:
    """How an InferenceService stands; `pods`: all of its scorers, `external`: whether its URL is the one from outside.

    A version is ready where it answers requests that name none: to hold it warm is not to serve it. What new scorers
    serve is ready once no old one answers: until then requests may reach either.
    """
    wanted = service["spec"]["predictor"].get("annotations", {}).get(SET_ANNOTATION)
    alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    new = [pod for pod in alive if _annotation(pod, SET_ANNOTATION) == wanted]
    old = [pod for pod in alive if pod not in new]
    answering = [pod for pod in old if _is_ready(pod)] or [pod for pod in new if _is_ready(pod)]
    failed: dict[int, StepError] = {}
    for pod in new:
        if (end := _given_up(pod)) is not None:
            failed |= {v: StepError(reason=Reason.NOT_READY, message=why) for v, why in end.failed.items()}
    return ServingState(
        ready_versions=frozenset(int(_annotation(pod, SERVES_ANNOTATION)) for pod in answering),
        url=_url(service, external=external),
        message=_message(service, new, old),
        failed=failed,
    )


def _message(service: Document, new: list[Document], old: list[Document]) -> str:
    """Why not all of it is ready; empty if it is."""
    for pod in new:
        if not _is_ready(pod) and (why := waits_for(pod) or _trouble(pod)) is not None:
            return why
    ready = sum(map(_is_ready, new))
    if new and ready == len(new) and not any(map(_is_ready, old)):
        return ""
    if not new and (why := _blocked(service)):
        return why
    return f"{ready} of {len(new)} new scorers are ready"


def _trouble(pod: Document) -> str | None:
    """Why a pod that has started is not ready, if it says so."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for container in status.get("initContainerStatuses", ()):
        if container["name"] == INITIALIZER and (ended := _last_end(container)) and ended.get("exitCode"):
            said = (ended.get("message") or "").strip().splitlines()
            why = said[-1] if said else f"exit code {ended['exitCode']}"
            return f"the pod {name} cannot read the models from the object store: {why}"
    if (end := _given_up(pod)) is not None:
        return end.message or next(iter(end.failed.values()), None)
    for container in status.get("containerStatuses", ()):
        ended = _last_end(container)
        if container["name"] == CONTAINER and ended is not None:
            if ended.get("reason") == "OOMKilled":
                return f"a scorer used more memory than it may (pod {name}): raise spec.resources.limits.memory"
            return f"the scorer in the pod {name} ended with exit code {ended.get('exitCode')}; see its log"
    return None


def _blocked(service: Document) -> str:
    """Why KServe has made no pods."""
    status = service.get("status") or {}
    if said := (status.get("modelStatus") or {}).get("lastFailureInfo", {}).get("message"):
        return f"KServe: {said}"
    for condition in status.get("conditions", ()):
        if condition["type"] in ("PredictorReady", "Ready") and condition["status"] == "False":
            return f"KServe: {condition.get('message') or condition.get('reason')}"
    return ""


def _url(service: Document, *, external: bool) -> str | None:
    status = service.get("status") or {}
    base = status.get("url") if external else (status.get("address") or {}).get("url")
    return f"{base.rstrip('/')}/v2/models/{service['metadata']['name']}" if base else None


def _given_up(pod: Document) -> GivenUp | None:
    for container in (pod.get("status") or {}).get("containerStatuses", ()):
        if container["name"] == CONTAINER and (ended := _last_end(container)) is not None:
            with contextlib.suppress(ValueError):
                return GivenUp.from_bytes(str(ended.get("message") or "").encode())
    return None


def _last_end(container: Document) -> Document | None:
    """How a container ended that does not run, or was started again since; None if it has not ended, or is well."""
    if container.get("ready"):
        return None
    ended: Document | None = container["state"].get("terminated") or container.get("lastState", {}).get("terminated")
    return ended


def _is_ready(pod: Document) -> bool:
    conditions = (pod.get("status") or {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _annotation(pod: Document, name: str) -> str:
    return str(pod["metadata"].get("annotations", {}).get(name, ""))
