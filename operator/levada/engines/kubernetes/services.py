"""Deployments as InferenceServices: what there is of them, and how they become what is wanted."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Set
from typing import Any

from levada.engines.kubernetes.cluster import Cluster, Missing, Refused
from levada.engines.kubernetes.inference import ScorerPods, covers, inference_service
from levada.engines.kubernetes.inference_states import serving_state
from levada.engines.kubernetes.reading import Key, is_known, version_of
from levada.errors import LevadaError
from levada.names import Kind
from levada.planners.plan import Serving, ServingState
from levada.resources import Ref
from levada.steps.io import Owner

Document = dict[str, Any]


class NotServed(LevadaError):
    """KServe cannot be had, or does not take an InferenceService; the message says what to do."""


class Services:
    """The InferenceServices of Levada's and their pods. The `…_changed` methods belong to the engine's event loop."""

    def __init__(self, cluster: Cluster, pods: ScorerPods, changed: Callable[[Ref], None]) -> None:
        """`changed(deployment)` is called whenever there is something new to observe."""
        self._cluster = cluster
        self._settings = pods
        self._changed = changed
        self._services: dict[Ref, Document] = {}
        self._pods: defaultdict[Ref, dict[str, Document]] = defaultdict(dict)
        self._applied: dict[Ref, tuple[Document, str]] = {}  # and the version that this made
        self.installed = True  # whether KServe was there when it was last looked for

    async def look(self) -> None:
        """See every InferenceService. Raises Unavailable."""
        before = set(self._services)
        try:
            documents = await asyncio.to_thread(lambda: list(self._cluster.inference_services()))
        except Missing:
            documents, self.installed = [], False
        else:
            self.installed = True
        found = {_ref(document): document for document in documents}
        for document in found.values():
            self.service_changed(document)
        for ref in before - found.keys():
            if (gone := self._services.get(ref)) is not None:
                self.service_changed(gone, gone=True)

    def service_changed(self, document: Document, *, gone: bool = False) -> None:
        """Take note of an InferenceService."""
        ref = _ref(document)
        known = self._services.get(ref)
        if gone:
            self._services.pop(ref, None)
            self._applied.pop(ref, None)
        elif known is not None and is_known(document, version_of(known)):
            return
        else:
            self._services[ref] = document
        self._changed(ref)

    def pod_changed(self, owner: Ref, document: Document, *, gone: bool = False) -> None:
        """Take note of a pod of a Deployment's."""
        name = document["metadata"]["name"]
        known = self._pods[owner].get(name)
        if gone:
            self._pods[owner].pop(name, None)
        elif known is not None and is_known(document, version_of(known)):
            return
        else:
            self._pods[owner][name] = document
        self._changed(owner)

    def pod_keys(self) -> set[Key]:
        """Namespace and name of each pod."""
        return {(owner.namespace, name) for owner, pods in self._pods.items() for name in pods}

    def drop_pods(self, keys: Set[Key]) -> None:
        """Take note that pods are gone."""
        for owner, pods in self._pods.items():
            for name in [name for name in pods if (owner.namespace, name) in keys]:
                self.pod_changed(owner, pods[name], gone=True)

    def state(self, deployment: Ref) -> ServingState:
        """What is served for a Deployment now."""
        service = self._services.get(deployment)
        if service is None:
            return ServingState()
        return serving_state(service, self._pods[deployment].values(), external=self._settings.expose)

    async def ensure(self, serving: Serving, owner: Owner) -> None:
        """Serve a set of versions, unless that is asked for already. Raises NotServed, Unavailable or Conflict."""
        ref = serving.owner
        wanted = await asyncio.to_thread(inference_service, serving, owner, self._settings)
        there, known = self._services.get(ref), None
        if there is not None:
            version = there["metadata"]["resourceVersion"]
            # What KServe has made of it since is its own: what it changes back is not fought over.
            if self._applied.get(ref) == (wanted, version) or covers(there, wanted):
                return
            known = there["metadata"]["uid"], version
        try:
            made = await asyncio.to_thread(self._cluster.apply_inference_service, wanted, known)
        except Missing as error:
            raise NotServed(
                "KServe is not installed: the cluster has no InferenceService (serving.kserve.io/v1beta1); "
                "install KServe 0.17 or later"
            ) from error
        except Refused as error:
            raise NotServed(_why(str(error))) from error
        self._applied[ref] = (wanted, made["metadata"]["resourceVersion"])
        self.service_changed(made)

    async def remove(self, deployment: Ref) -> None:
        """Serve a Deployment no more. Raises Unavailable."""
        if (there := self._services.get(deployment)) is not None:
            await asyncio.to_thread(self._cluster.delete_inference_service, there)


def _why(message: str) -> str:
    if "field not declared in schema" in message:
        return f"this KServe is too old, install 0.17 or later: {message}"
    return f"KServe refuses it: {message}"


def _ref(document: Document) -> Ref:
    return Ref(Kind.DEPLOYMENT, document["metadata"]["namespace"], document["metadata"]["name"])
