"""The folder in which the local engine keeps everything: resources with their status, jobs, servers' data.

Every file is written whole or not at all. What an API server does for a cluster is done here for one machine:
generations grow when a spec changes, immutable fields are refused, status is kept apart from what the user wrote.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from levada.errors import LevadaError, Stalled
from levada.names import Kind
from levada.resources import RESOURCES, AnyResource, Ref
from levada.resources.conditions import Reason
from levada.resources.immutable import immutable_changes
from levada.resources.sentences import dotted
from levada.resources.status import Status
from levada.settings import Settings
from levada.stores.failpoints import after_write


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a reader never sees a part of it, nor does one after a power failure unless
    the settings do without that. An OSError names the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            if _durable():
                file.flush()
                os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError as error:  # that the disk is full is said without a name
        unfinished.unlink(missing_ok=True)
        error.filename = str(path)
        raise
    after_write(f"file {path.name}")


@cache
def _durable() -> bool:
    return Settings().local_durable


@contextmanager
def understanding(path: Path, instead: str) -> Iterator[None]:
    """Around what makes sense of a file of the home: an error in that names the file, and what to do `instead`."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            why = f"{dotted(first['loc'])}: {first['msg']}"
        raise LevadaError(
            f"{path} is damaged, or of another version of Levada ({why}): run that version, or {instead}"
        ) from error


def remove_job(folder: Path) -> None:
    """Remove the folder of a job. What says whose it is goes last, so that one that is removed in part is found."""
    (folder / "state.json").unlink(missing_ok=True)
    for index in folder.glob("*/"):
        shutil.rmtree(index)
    shutil.rmtree(folder)


class Unchangeable(Stalled):
    """A manifest changes a field of a resource that may not change."""


@dataclass(frozen=True)
class Record:
    """A resource as the home keeps it."""

    resource: AnyResource
    owner: Ref | None = None
    recorded: frozenset[str] = field(default_factory=frozenset)  # ids of the decisions already in the catalogue
    checked_serving: str = ""  # digest of the set of versions that a scorer was last seen to serve


class Home:
    """Reads and writes the home's resources. One engine at a time has it; readers need no lock."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._resources = self.root / "resources"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    def _path(self, ref: Ref) -> Path:
        return self._resources / ref.kind.value / ref.namespace / f"{ref.name}.json"

    def get(self, ref: Ref) -> Record | None:
        """The record of a resource, or None."""
        try:
            return _read(self._path(ref))
        except FileNotFoundError:
            return None

    def all(self) -> Iterator[Record]:
        """Every record, in the order of kinds, namespaces and names."""
        for kind in Kind:
            for path in sorted((self._resources / kind.value).glob("*/*.json")):
                yield _read(path)

    def save(self, record: Record) -> None:
        """Write a record."""
        write_atomically(self._path(record.resource.ref), json.dumps(_to_data(record), indent=1).encode())

    def check(self, resource: AnyResource) -> None:
        """Raise Unchangeable if `apply` would; nothing is written."""
        if (old := self.get(resource.ref)) is not None:
            _check(old, resource)

    def apply(self, resource: AnyResource, owner: Ref | None = None) -> Record:
        """Take over what the user (or an owner) wants, as `kubectl apply` would; returns what is kept now.

        Raises Unchangeable if a field changed that may not.
        """
        ref = resource.ref
        old = self.get(ref)
        if old is None:
            # Decisions are told apart by it: those about a resource that is made anew are not those about the old one.
            metadata = resource.metadata.model_copy(update={"uid": str(uuid.uuid4()), "generation": 1})
            record = Record(with_parts(resource, metadata=metadata), owner)
            self.save(record)
            return record
        _check(old, resource)
        before = old.resource
        changed = before.spec != resource.spec
        metadata = resource.metadata.model_copy(
            update={"uid": before.metadata.uid, "generation": before.metadata.generation + changed}
        )
        kept = with_parts(resource, metadata=metadata, status=before.status)
        record = replace(old, resource=kept)
        if record != old:
            self.save(record)
        return record

    def remove(self, ref: Ref) -> None:
        """Forget a resource and what its jobs and its scorer left, and its reports.

        The resource last: what an interrupted removal leaves of the jobs must not pass for the work of a new resource
        of the same name.
        """
        for job in self.jobs_of(ref):
            remove_job(job)
        for folder in (self.serving(ref), self.reports(ref)):
            shutil.rmtree(folder, ignore_errors=True)
        self._path(ref).unlink(missing_ok=True)
        after_write(f"removal of {ref}")

    def jobs_of(self, ref: Ref) -> list[Path]:
        """The folders of a resource's jobs; each is named as the job."""
        found = []
        for input_file in sorted(self.jobs.glob(f"{ref.namespace}/*/input.json")):
            with understanding(input_file, f"remove {input_file.parent}"):
                owner = json.loads(input_file.read_bytes())["owner"]
                if (owner["kind"], owner["name"]) == (ref.kind.value, ref.name):
                    found.append(input_file.parent)
        return found

    def serving(self, ref: Ref) -> Path:
        """Where the scorer of a Deployment has its configuration and log."""
        return self.root / "serving" / ref.namespace / ref.name

    def reports(self, ref: Ref) -> Path:
        """Where the evaluation reports of a ModelCandidate are, for a browser."""
        return self.root / "reports" / ref.namespace / ref.name


def _check(old: Record, resource: AnyResource) -> None:
    if fields := immutable_changes(old.resource.spec, resource.spec):
        raise Unchangeable(
            Reason.INVALID_SPEC,
            f"{resource.ref}: {', '.join(fields)} may not change; delete it first, or give the new one another name",
        )


def with_parts(resource: AnyResource, **parts: Any) -> AnyResource:
    """A copy with other metadata or status."""
    return resource.model_copy(update=parts)


def with_status(record: Record, status: Status) -> Record:
    """A copy of a record with another status of its resource."""
    return replace(record, resource=with_parts(record.resource, status=status))


def _to_data(record: Record) -> dict[str, Any]:
    return {
        "resource": record.resource.document(),
        "owner": [record.owner.kind.value, record.owner.namespace, record.owner.name] if record.owner else None,
        "recorded": sorted(record.recorded),
        "checkedServing": record.checked_serving,
    }


def _read(path: Path) -> Record:
    data = path.read_bytes()
    with understanding(path, "remove it and run the resource's manifest again"):
        return _from_data(json.loads(data))


def _from_data(data: dict[str, Any]) -> Record:
    owner = data["owner"]
    return Record(
        resource=RESOURCES[Kind(data["resource"]["kind"])].model_validate(data["resource"]),
        owner=Ref(Kind(owner[0]), owner[1], owner[2]) if owner else None,
        recorded=frozenset(data["recorded"]),
        checked_serving=data["checkedServing"],
    )
