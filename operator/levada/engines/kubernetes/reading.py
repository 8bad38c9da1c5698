"""What documents of the API server say of resources of Levada's and of what belongs to them. Pure."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from levada import names
from levada.engines.kubernetes.jobs import owner_reference
from levada.names import Kind
from levada.resources import AnyResource, Ref
from levada.steps.io import Owner

Document = dict[str, Any]
Key = tuple[str, str]  # namespace and name

# What the picture keeps of Jobs and pods, and of the parts of their statuses: there are many of them.
_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
_SPEC = ("completions", "activeDeadlineSeconds")
_STATUS = ("completedIndexes", "failed", "startTime", "completionTime", "phase", "reason", "message")
_PARTS = {
    "conditions": ("type", "status", "reason", "message", "lastTransitionTime"),
    "initContainerStatuses": ("name", "state"),
    "containerStatuses": ("name", "state"),
}


def as_owner(resource: AnyResource) -> Owner:
    """A resource as its steps and children know it."""
    ref, metadata = resource.ref, resource.metadata
    return Owner(
        kind=ref.kind, namespace=ref.namespace, name=ref.name, uid=metadata.uid, generation=metadata.generation
    )


def owned(child: AnyResource, owner: Owner) -> Document:
    """A child as it is applied: its spec, and whose it is."""
    ref = child.ref
    return {
        "apiVersion": names.API_VERSION,
        "kind": ref.kind.value,
        "metadata": {
            "name": ref.name,
            "namespace": ref.namespace,
            "labels": {names.LABEL_KIND: owner.kind.value, names.LABEL_NAME: owner.name},
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": child.spec.document(),
    }


def owner_of(metadata: Document) -> Ref | None:
    """The resource of Levada's to which another belongs."""
    for reference in metadata.get("ownerReferences", ()):
        if reference.get("controller") and str(reference["apiVersion"]).startswith(f"{names.GROUP}/"):
            return Ref(Kind(reference["kind"]), metadata["namespace"], reference["name"])
    return None


def labelled(metadata: Document) -> Ref | None:
    """The resource that a label says something was made for."""
    labels = metadata.get("labels", {})
    with suppress(KeyError, ValueError):
        return Ref(Kind(labels[names.LABEL_KIND]), metadata["namespace"], labels[names.LABEL_NAME])
    return None


def version_of(document: Document) -> str:
    """The resourceVersion."""
    return str(document["metadata"]["resourceVersion"])


def is_known(document: Document, version: str) -> bool:
    """Whether a document is no newer than what is known. (Versions can be compared: the API promises it since 1.34.)"""
    try:
        return int(version_of(document)) <= int(version)
    except ValueError:
        return False


def ref_of(kind: Kind, document: Document) -> Ref:
    """What a resource is called."""
    return Ref(kind, document["metadata"]["namespace"], document["metadata"]["name"])


def key_of(document: Document) -> Key:
    """Namespace and name."""
    return document["metadata"]["namespace"], document["metadata"]["name"]


def readable(document: Document) -> Document:
    """The document without the metadata that is no business of Levada's."""
    kept = ("name", "namespace", "uid", "generation", "labels", "annotations")
    return {**document, "metadata": _only(document["metadata"], kept)}


def slim(document: Document) -> Document:
    """What of a Job or a pod says how it stands."""
    status = document.get("status") or {}
    parts = {part: [_only(entry, kept) for entry in status[part]] for part, kept in _PARTS.items() if status.get(part)}
    return {
        "metadata": _only(document["metadata"], _METADATA),
        "spec": _only(document["spec"], _SPEC),
        "status": _only(status, _STATUS) | parts,
    }


def _only(document: Document, kept: tuple[str, ...]) -> Document:
    return {key: document[key] for key in kept if key in document}


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a document, as one sentence."""
    problem: Any = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
