"""What the engine asks of the API server, in its own words; by the official client, whose calls block.

Nothing here writes what a stale engine could do harm with: names of what is made are derived from inputs and made once,
a status is written over the version of the resource that it was planned for, and a deletion names the uid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
from kubernetes import client

from levada import names
from levada.errors import LevadaError
from levada.names import PLURALS, Kind
from levada.resources import Ref

Document = dict[str, Any]

MANAGER = "levada"
_APPLY, _JSON_PATCH = "application/apply-patch+yaml", "application/json-patch+json"
_PAGE = 500
_CUSTOM = {"group": names.GROUP, "version": names.VERSION}
_TIMEOUT = (5, 30)  # seconds to connect, and to answer


class Unavailable(LevadaError):
    """The API server does not answer, or asks for patience: trying again helps."""


class Conflict(LevadaError):
    """Something has changed since it was looked at: look again."""


class Refused(LevadaError):
    """The API server does not accept it; the message is its own."""


class Cluster:
    """A cluster, or the chosen namespaces of it. Threads may share it."""

    def __init__(self, api: client.ApiClient, namespaces: tuple[str, ...] = ()) -> None:
        self._core = client.CoreV1Api(api)
        self._batch = client.BatchV1Api(api)
        self._custom = client.CustomObjectsApi(api)
        self._namespaces = namespaces

    def resources(self, kind: Kind) -> Iterator[Document]:
        """All resources of a kind."""
        plural = PLURALS[kind]
        if not self._namespaces:
            yield from _pages(self._custom.list_cluster_custom_object, **_CUSTOM, plural=plural)
        for namespace in self._namespaces:
            options = {"namespace": namespace, "plural": plural}
            yield from _pages(self._custom.list_namespaced_custom_object, **_CUSTOM, **options)

    def jobs(self) -> Iterator[Document]:
        """All Jobs of Levada's."""
        batch = self._batch
        yield from self._ours(batch.list_job_for_all_namespaces, batch.list_namespaced_job)

    def pods(self) -> Iterator[Document]:
        """All pods of Levada's Jobs."""
        core = self._core
        yield from self._ours(core.list_pod_for_all_namespaces, core.list_namespaced_pod)

    def _ours(self, everywhere: Callable[..., Any], within: Callable[..., Any]) -> Iterator[Document]:
        ours = {"label_selector": names.LABEL_KIND, "_preload_content": False}
        if not self._namespaces:
            yield from _pages(everywhere, **ours)
        for namespace in self._namespaces:
            yield from _pages(within, namespace=namespace, **ours)

    def make_job(self, config: Document, job: Document) -> None:
        """Make a Job and what it mounts, unless they are there."""
        namespace = job["metadata"]["namespace"]
        for make, document in (
            (self._core.create_namespaced_config_map, config),
            (self._batch.create_namespaced_job, job),
        ):
            try:
                with _errors():
                    make(namespace, document, field_manager=MANAGER, _preload_content=False, _request_timeout=_TIMEOUT)
            except Conflict:
                continue  # it is there: its name says that it is the same

    def delete_job(self, job: Document) -> None:
        """Delete a Job with its pods and what it mounts, unless it is another by now."""
        metadata = job["metadata"]
        where = {"name": metadata["name"], "namespace": metadata["namespace"]}
        options = {"propagationPolicy": "Background"}
        _gone_is_well(
            self._batch.delete_namespaced_job,
            **where,
            body={**options, "preconditions": {"uid": metadata["uid"]}},
        )
        _gone_is_well(self._core.delete_namespaced_config_map, **where, body=options)

    def apply(self, document: Document) -> None:
        """Make a resource as it should be (its spec and metadata), taking over fields that others have set."""
        kind = Kind(document["kind"])
        metadata = document["metadata"]
        with _errors():
            self._custom.patch_namespaced_custom_object(
                **_CUSTOM,
                namespace=metadata["namespace"],
                plural=PLURALS[kind],
                name=metadata["name"],
                body=document,
                field_manager=MANAGER,
                force=True,
                _content_type=_APPLY,
                _request_timeout=_TIMEOUT,
            )

    def delete(self, ref: Ref, uid: str) -> None:
        """Delete a resource, unless it is another by now."""
        _gone_is_well(
            self._custom.delete_namespaced_custom_object,
            **_CUSTOM,
            namespace=ref.namespace,
            plural=PLURALS[ref.kind],
            name=ref.name,
            body={"propagationPolicy": "Background", "preconditions": {"uid": uid}},
        )

    def write_status(self, ref: Ref, version: str, status: Document) -> Document:
        """Write the status of a resource of this resourceVersion; the resource as it is then. Raises Conflict."""
        body = [
            {"op": "add", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/status", "value": status},
        ]
        with _errors():
            written: Document = self._custom.patch_namespaced_custom_object_status(
                **_CUSTOM,
                namespace=ref.namespace,
                plural=PLURALS[ref.kind],
                name=ref.name,
                body=body,
                field_manager=MANAGER,
                _content_type=_JSON_PATCH,
                _request_timeout=_TIMEOUT,
            )
        return written


def _pages(ask: Callable[..., Any], **options: Any) -> Iterator[Document]:
    """The items of a list, page by page."""
    more = ""
    while True:
        with _errors():
            answer = ask(limit=_PAGE, _continue=more, _request_timeout=_TIMEOUT, **options)
        page = answer if isinstance(answer, dict) else json.loads(answer.data)
        yield from page["items"]
        more = page["metadata"].get("continue") or ""
        if not more:
            return


def _gone_is_well(delete: Callable[..., Any], **options: Any) -> None:
    try:
        with _errors():
            delete(_request_timeout=_TIMEOUT, **options)
    except Conflict:
        pass  # another of this name
    except Refused as error:
        if not isinstance(error.__cause__, client.ApiException) or error.__cause__.status != 404:
            raise


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except client.ApiException as error:
        message = _message(error)
        if error.status == 409:
            raise Conflict(message) from error
        if error.status == 429 or error.status >= 500:
            raise Unavailable(f"the API server asks for patience: {message}") from error
        raise Refused(message) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unavailable(f"the API server does not answer: {error}") from error


def _message(error: client.ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or error.status)
