"""What has been seen of a cluster: resources, the Jobs of their steps and the pods of these.

Indexed by owner and by whom something refers to, so that a change costs what it concerns and not what there is.
Each `put` and `drop` returns the resources that have something new to look at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from levada.engines.kubernetes.reading import (
    Document,
    Key,
    first_problem,
    is_known,
    key_of,
    labelled,
    owner_of,
    readable,
    ref_of,
    slim,
    version_of,
)
from levada.names import Kind
from levada.planners import references_of
from levada.resources import RESOURCES, AnyResource, Ref
from levada.resources.conditions import ConditionType, is_true
from levada.resources.uris import with_absolute_uris
from levada.steps.io import ProgressRecord, StepResult

_JOB_NAME = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class Seen:
    """A resource as the API server had it."""

    resource: AnyResource
    version: str  # resourceVersion
    owner: Ref | None = None


@dataclass
class SeenJob:
    """A Job as the API server has it, its pods by name, and what its steps left in the object store."""

    owner: Ref
    document: Document
    pods: dict[str, Document] = field(default_factory=dict)
    results: dict[int, StepResult] = field(default_factory=dict)
    progress: ProgressRecord | None = None
    asked: datetime | None = None  # when its progress was last asked for


class Picture:
    """See above. `unreadable`: resources that could not be read, and what is wrong with them."""

    def __init__(self, locate: Callable[[str, str], str]) -> None:
        """`locate(namespace, uri)`: the absolute form of a URI."""
        self._locate = locate
        self._seen: dict[Ref, Seen] = {}
        self._resources: dict[Ref, AnyResource] = {}
        self._looking_at: defaultdict[Ref, dict[Ref, None]] = defaultdict(dict)  # ordered sets
        self._jobs: dict[Key, SeenJob] = {}
        self._jobs_of: defaultdict[Ref, dict[str, SeenJob]] = defaultdict(dict)
        self.unreadable: dict[Ref, tuple[Document, str]] = {}

    @property
    def resources(self) -> Mapping[Ref, AnyResource]:
        """All that could be read, as they are now: a view."""
        return self._resources

    def seen(self, ref: Ref) -> Seen | None:
        """A resource, if there is one of this name that can be read."""
        return self._seen.get(ref)

    def unready(self) -> list[Ref]:
        """What there is that is not ready (a run: not complete), or does not say so."""
        done = (ConditionType.READY, ConditionType.COMPLETE)
        found = self._resources.items()
        return [ref for ref, resource in found if not any(is_true(resource.status.conditions, type) for type in done)]

    def all_of(self, kind: Kind) -> list[Ref]:
        """What there is of a kind, readable or not."""
        return [ref for ref in (*self._seen, *self.unreadable) if ref.kind is kind]

    def put(self, kind: Kind, document: Document) -> Iterable[Ref]:
        """Take note of a resource, unless a newer state of it is known."""
        ref, owner = ref_of(kind, document), owner_of(document["metadata"])
        before = self._seen.get(ref)
        if before is not None and is_known(document, before.version):
            return ()
        try:
            located = with_absolute_uris(readable(document), lambda uri: self._locate(ref.namespace, uri))
            resource = RESOURCES[kind].model_validate(located)
        except ValidationError as error:
            self._forget(ref)
            self.unreadable[ref] = (document, first_problem(error))
            return self._concerned(ref, owner)
        if before is not None and before.resource == resource:
            self._seen[ref] = Seen(before.resource, document["metadata"]["resourceVersion"], owner)
            return ()
        self._forget(ref)
        self._seen[ref] = Seen(resource, document["metadata"]["resourceVersion"], owner)
        self._resources[ref] = resource
        for other in references_of(resource):
            self._looking_at[other][ref] = None
        return self._concerned(ref, owner)

    def drop(self, ref: Ref) -> Iterable[Ref]:
        """Take note that a resource is gone."""
        seen = self._seen.get(ref)
        self._forget(ref)
        return self._concerned(ref, seen.owner if seen is not None else None)

    def _forget(self, ref: Ref) -> None:
        self.unreadable.pop(ref, None)
        self._resources.pop(ref, None)
        if (seen := self._seen.pop(ref, None)) is not None:
            for other in references_of(seen.resource):
                _take_out(self._looking_at, other, ref)

    def _concerned(self, ref: Ref, owner: Ref | None) -> list[Ref]:
        return [ref, *([owner] if owner is not None else ()), *self._looking_at.get(ref, ())]

    # --- Jobs and their pods ---------------------------------------------------------------------------------------

    def job_keys(self) -> set[Key]:
        """Namespace and name of each Job."""
        return set(self._jobs)

    def jobs_of(self, owner: Ref) -> Mapping[str, SeenJob]:
        """The Jobs of a resource, by name."""
        return dict(self._jobs_of.get(owner, {}))

    def put_job(self, document: Document) -> Iterable[Ref]:
        """Take note of a Job."""
        key, owner = key_of(document), labelled(document["metadata"])
        if owner is None:
            return ()
        known = self._jobs.get(key)
        if known is not None and is_known(document, version_of(known.document)):
            return ()
        if known is not None and known.document["metadata"]["uid"] == document["metadata"]["uid"]:
            known.document = slim(document)
        else:
            self.drop_job(key)
            self._jobs[key] = self._jobs_of[owner][key[1]] = SeenJob(owner, slim(document))
        return (owner,)

    def drop_job(self, key: Key) -> Iterable[Ref]:
        """Take note that a Job is gone."""
        if (known := self._jobs.pop(key, None)) is None:
            return ()
        _take_out(self._jobs_of, known.owner, key[1])
        return (known.owner,)

    def put_pod(self, document: Document, *, gone: bool = False) -> Iterable[Ref]:
        """Take note of a pod of a Job."""
        metadata = document["metadata"]
        job = self._jobs.get((metadata["namespace"], metadata.get("labels", {}).get(_JOB_NAME, "")))
        if job is None:
            return ()
        known = job.pods.get(metadata["name"])
        if gone:
            job.pods.pop(metadata["name"], None)
        elif known is not None and is_known(document, version_of(known)):
            return ()
        else:
            job.pods[metadata["name"]] = slim(document)
        return (job.owner,)

    def pod_keys(self) -> set[Key]:
        """Namespace and name of each pod of a Job."""
        return {(namespace, name) for (namespace, _), job in self._jobs.items() for name in job.pods}

    def drop_pods(self, keys: Set[Key]) -> Iterable[Ref]:
        """Take note that pods are gone."""
        concerned = []
        for (namespace, _), job in self._jobs.items():
            gone = [name for name in job.pods if (namespace, name) in keys]
            for name in gone:
                del job.pods[name]
            concerned += [job.owner] if gone else []
        return concerned


def _take_out(index: defaultdict[Any, dict[Any, Any]], outer: object, inner: object) -> None:
    """Remove an entry, and what it leaves empty."""
    entries = index[outer]
    entries.pop(inner, None)
    if not entries:
        del index[outer]
