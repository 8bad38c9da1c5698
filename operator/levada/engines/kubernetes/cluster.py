"""What the engine asks of the API server, in its own words; by the official client, whose calls block.

Nothing here writes what a stale engine could do harm with: names of what is made are derived from inputs and made once,
statuses and children are written over the version that they were planned for, and a deletion names the uid. Right
before each write the cluster asks whether this replica is still the active one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import urllib3
from kubernetes import client

from levada import names
from levada.engines.kubernetes import inference, metrics
from levada.errors import LevadaError
from levada.names import PLURALS, Kind
from levada.resources import Ref

Document = dict[str, Any]

MANAGER = "levada"
PAGE = 100  # of a list: a large one, decoded, is what decides how much memory is taken
_APPLY, _JSON_PATCH = "application/apply-patch+yaml", "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"
_ABSENT = "0"  # as a resourceVersion in an apply: of something that is not there
_CUSTOM = {"group": names.GROUP, "version": names.VERSION}
_INFERENCE = {"group": inference.GROUP, "version": inference.VERSION, "plural": inference.PLURAL}
_LATER = (410, 429)  # a list took so long that its next page is gone, or there are too many requests
_NOT_DECLARED = "field not declared in schema"  # said with status 500, though waiting does not help
_TIMEOUT = (5, 30)  # seconds to connect, and to answer


class Unavailable(LevadaError):
    """The API server does not answer, or asks for patience: trying again helps."""


class Conflict(LevadaError):
    """Something has changed since it was looked at: look again."""


class Exists(Conflict):
    """Something of this name is there already."""


class Refused(LevadaError):
    """The API server does not accept it; the message is its own."""


class Missing(LevadaError):
    """The API server knows no such kind of resource."""


class Cluster:
    """A cluster, or the chosen namespaces of it. Threads may share it.

    `check` is called before each write, and raises if nothing may be written any more.
    """

    def __init__(
        self, api: client.ApiClient, namespaces: tuple[str, ...] = (), check: Callable[[], None] = lambda: None
    ) -> None:
        self.check = check
        self._core = client.CoreV1Api(api)
        self._batch = client.BatchV1Api(api)
        self._custom = client.CustomObjectsApi(api)
        self._events = client.EventsV1Api(api)
        self._namespaces = namespaces

    def resources(self, kind: Kind) -> Iterator[Document]:
        """All resources of a kind. Raises Missing."""
        plural = PLURALS[kind]
        try:
            if not self._namespaces:
                yield from _pages(self._custom.list_cluster_custom_object, **_CUSTOM, plural=plural)
            for namespace in self._namespaces:
                options = {"namespace": namespace, "plural": plural}
                yield from _pages(self._custom.list_namespaced_custom_object, **_CUSTOM, **options)
        except Missing as error:
            definition = f"{plural}.{names.GROUP}"
            raise Missing(f"the definition {definition} is not installed: apply Levada's definitions first") from error

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

    def why_no_pods(self, job: Document) -> str:
        """What the last of the warnings about a Job says that has no pods, such as a quota; empty if there is none."""
        metadata = job["metadata"]
        about = f"involvedObject.uid={metadata['uid']},reason=FailedCreate"
        listed = self._core.list_namespaced_event
        found = list(_pages(listed, namespace=metadata["namespace"], field_selector=about, _preload_content=False))
        last = max(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default={})
        return str(last.get("message") or "")

    def make_job(self, job: Document) -> Document | None:
        """Make a Job; as it is then, None if it was there."""
        options = {"field_manager": MANAGER, "_preload_content": False, "_request_timeout": _TIMEOUT}
        try:
            with self._writing("create", "Job"):
                answer = self._batch.create_namespaced_job(job["metadata"]["namespace"], job, **options)
        except Exists:  # any other conflict, as over a quota, has made nothing
            return None  # its name says that it is the same
        made: Document = json.loads(answer.data)
        return made

    def delete_job(self, job: Document) -> None:
        """Delete a Job with its pods, unless it is another by now."""
        metadata = job["metadata"]
        where = {"name": metadata["name"], "namespace": metadata["namespace"]}
        self._delete("Job", self._batch.delete_namespaced_job, metadata["uid"], **where)

    def apply(self, document: Document, known: tuple[str, str] | None) -> Document:
        """Make a resource as it should be (its spec and metadata), taking over fields that others have set.

        `known`: its uid and resourceVersion, None if it is not there. Raises Conflict if that is not so any more.
        The resource as it is then.
        """
        return self._apply({**_CUSTOM, "plural": PLURALS[Kind(document["kind"])]}, document, known)

    def _apply(self, type: dict[str, str], document: Document, known: tuple[str, str] | None) -> Document:
        uid, version = known or (None, _ABSENT)
        metadata = document["metadata"] | {"resourceVersion": version} | ({"uid": uid} if uid else {})
        try:
            with self._writing("apply", document["kind"]):
                answer = self._custom.patch_namespaced_custom_object(
                    **type,
                    namespace=metadata["namespace"],
                    name=metadata["name"],
                    body=document | {"metadata": metadata},
                    field_manager=MANAGER,
                    force=True,
                    _content_type=_APPLY,
                    _preload_content=False,
                    _request_timeout=_TIMEOUT,
                )
        except Refused as error:
            if known is None and "metadata.resourceVersion" in str(error):
                raise Conflict(f"it is there already: {error}") from error
            raise
        applied: Document = json.loads(answer.data)
        return applied

    def inference_services(self) -> Iterator[Document]:
        """All InferenceServices of Levada's. Raises Missing."""
        listed = {**_INFERENCE, "label_selector": names.LABEL_KIND}
        if not self._namespaces:
            yield from _pages(self._custom.list_cluster_custom_object, **listed)
        for namespace in self._namespaces:
            yield from _pages(self._custom.list_namespaced_custom_object, **listed, namespace=namespace)

    def apply_inference_service(self, document: Document, known: tuple[str, str] | None) -> Document:
        """Make an InferenceService as it should be, as `apply` does. Raises Missing, Conflict, Refused."""
        return self._apply(_INFERENCE, document, known)

    def delete_inference_service(self, document: Document) -> None:
        """Delete an InferenceService, unless it is another by now."""
        metadata = document["metadata"]
        where = {"namespace": metadata["namespace"], "name": metadata["name"]}
        delete = self._custom.delete_namespaced_custom_object
        self._delete("InferenceService", delete, metadata["uid"], **_INFERENCE, **where)

    def make_event(self, document: Document) -> Document | None:
        """Make an Event; the one that is there already, or None if it was made."""
        metadata = document["metadata"]
        try:
            with self._writing("create", "Event"):
                self._events.create_namespaced_event(
                    metadata["namespace"],
                    document,
                    field_manager=MANAGER,
                    _preload_content=False,
                    _request_timeout=_TIMEOUT,
                )
        except Exists:
            # A change of nothing shows it: the right to read the Events of others is not needed.
            return self.change_event(metadata["namespace"], metadata["name"], {})
        return None

    def change_event(self, namespace: str, name: str, change: Document) -> Document:
        """Merge a change into an Event; as it is then. Raises Conflict."""
        with self._writing("patch", "Event"):
            answer = self._events.patch_namespaced_event(
                name,
                namespace,
                change,
                field_manager=MANAGER,
                _content_type=_MERGE_PATCH,
                _preload_content=False,
                _request_timeout=_TIMEOUT,
            )
        changed: Document = json.loads(answer.data)
        return changed

    def write_status(self, ref: Ref, version: str, status: Document) -> Document:
        """Write the status of a resource of this resourceVersion; the resource as it is then. Raises Conflict."""
        body = [
            {"op": "add", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/status", "value": status},
        ]
        with self._writing("status", ref.kind.value):
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

    def _delete(self, kind: str, delete: Callable[..., Any], uid: str, **where: Any) -> None:
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            with self._writing("delete", kind):
                delete(**where, body=body, _request_timeout=_TIMEOUT)
        except Conflict:
            pass  # another of this name
        except Refused as error:
            if not is_missing(error):
                raise

    @contextmanager
    def _writing(self, verb: str, kind: str) -> Iterator[None]:
        self.check()
        metrics.WRITES.labels(verb, kind).inc()
        with errors():
            yield


def _pages(ask: Callable[..., Any], **options: Any) -> Iterator[Document]:
    """The items of a list, page by page."""
    more = ""
    while True:
        with errors():
            answer = ask(limit=PAGE, _continue=more, _request_timeout=_TIMEOUT, **options)
        page = answer if isinstance(answer, dict) else json.loads(answer.data)
        yield from page["items"]
        more = page["metadata"].get("continue") or ""
        if not more:
            return


def micro_time(time: datetime) -> str:
    """A time in UTC as the API wants it where it counts microseconds."""
    return f"{time:%Y-%m-%dT%H:%M:%S.%f}Z"


def is_missing(error: Refused) -> bool:
    """Whether what was asked for is not there."""
    return isinstance(error.__cause__, client.ApiException) and error.__cause__.status == 404


def is_invalid(error: Refused) -> bool:
    """Whether it is refused for what it says, however often it is said."""
    return isinstance(error.__cause__, client.ApiException) and error.__cause__.status == 422


@contextmanager
def errors() -> Iterator[None]:
    """Turns the client's errors into Unavailable, Conflict and Refused."""
    try:
        yield
    except client.ApiException as error:
        message = _message(error)
        if error.status == 409:
            raise (Exists if _said(error, "reason") == "AlreadyExists" else Conflict)(message) from error
        if error.status in _LATER or (error.status >= 500 and _NOT_DECLARED not in message):
            raise Unavailable(f"the API server asks for patience: {message}") from error
        if error.status == 404 and _is_of_no_kind(error):
            raise Missing(message) from error
        raise Refused(message) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unavailable(f"the API server does not answer: {error}") from error


def _message(error: client.ApiException) -> str:
    return _said(error, "message") or str(error.reason or error.status)


def _said(error: client.ApiException, field: str) -> str:
    """What a field of the answer says; empty if it has none."""
    try:
        return str(json.loads(error.body)[field])
    except (TypeError, ValueError, KeyError):
        return ""


def _is_of_no_kind(error: client.ApiException) -> bool:
    """Whether it is the path that is not there, which the API server answers with a text rather than a Status."""
    return not str(error.body or "").lstrip().startswith("{")
