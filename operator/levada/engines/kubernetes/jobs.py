"""Jobs as Kubernetes has them: a step becomes an Indexed Job. Pure: builds documents.

A step's input is an annotation of its pods, which the kubelet gives them as a file: it comes and goes with the Job.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from levada import names
from levada.errors import Stalled
from levada.methods.sources.secrets import KEYS, variable
from levada.planners.plan import Job
from levada.resources.base import SecretRef
from levada.resources.conditions import Reason
from levada.steps.io import EXIT_USER_ERROR, Owner

Document = dict[str, Any]

STEP = "step"  # name of the container
INPUT_FOLDER, INPUT_FILE = "/etc/levada", "input.json"
INPUT_ANNOTATION = f"{names.GROUP}/input"
INPUT_LIMIT = 200 * 1024  # bytes: all annotations of a pod together have 256 KiB
SCRATCH = "/scratch"
KEPT_SECONDS = 24 * 3600  # how long a Job that has ended can be looked at, if it is one of the newest of its resource
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"  # passed on, so that Kueue admits the Job
NOBODY = 65532


@dataclass(frozen=True)
class StepPods:
    """What the pods of all steps have: the operator's own settings."""

    image: str
    service_account: str = "levada-steps"
    stores_secrets: tuple[str, ...] = ("levada-stores",)  # their keys become the environment: LEVADA_POSTGRES_DSN, …


def job_document(job: Job, owner: Owner, owner_labels: dict[str, str], pods: StepPods) -> Document:
    """The Job of a step. Raises Stalled if what the step is told does not fit."""
    metadata = {
        "name": job.name,
        "namespace": job.owner.namespace,
        "labels": labels(job) | {key: value for key, value in owner_labels.items() if key == QUEUE_LABEL},
        "ownerReferences": [owner_reference(owner)],
    }
    spec: Document = {
        "completionMode": "Indexed",
        "completions": job.completions,
        "parallelism": job.parallelism,
        "backoffLimitPerIndex": job.backoff_limit,
        "maxFailedIndexes": 0,  # one that gives up ends the others
        "podFailurePolicy": {"rules": _failure_rules()},
        "podReplacementPolicy": "Failed",
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "template": _template(job, pods),
    }
    if job.deadline is not None:
        spec["activeDeadlineSeconds"] = max(1, int(job.deadline.total_seconds()))
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def labels(job: Job) -> dict[str, str]:
    """By which a Job and its pods are found again."""
    return {
        names.LABEL_KIND: job.owner.kind.value,
        names.LABEL_NAME: job.owner.name,
        names.LABEL_EXECUTION: job.input.execution,
        "app.kubernetes.io/part-of": "levada",
    }


def owner_reference(owner: Owner) -> Document:
    """A child of this owner goes when it goes; the owner never waits for it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": owner.kind.value,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _failure_rules() -> list[Document]:
    return [
        # Evicted, preempted, drained: not the step's fault, so it does not count.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        # A person must act: trying again cannot help.
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": STEP, "operator": "In", "values": [EXIT_USER_ERROR]},
        },
    ]


def _template(job: Job, pods: StepPods) -> Document:
    container: Document = {
        "name": STEP,
        "image": pods.image,
        "command": ["python", "-m", "levada.steps", f"{INPUT_FOLDER}/{INPUT_FILE}"],
        "env": [
            {"name": "HOME", "value": SCRATCH},
            {"name": "LEVADA_SCRATCH", "value": SCRATCH},
            {"name": "LEVADA_CPUS", "valueFrom": _own("limits.cpu")},
            {"name": "LEVADA_MEMORY_LIMIT_BYTES", "valueFrom": _own("limits.memory")},
            *_secrets(job),
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",  # where a step could not say why
        "envFrom": [{"secretRef": {"name": name}} for name in pods.stores_secrets],
        "volumeMounts": [
            {"name": "input", "mountPath": INPUT_FOLDER, "readOnly": True},
            {"name": "scratch", "mountPath": SCRATCH},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if job.resources is not None:
        container["resources"] = job.resources.document()
    input_file = {"path": INPUT_FILE, "fieldRef": {"fieldPath": f"metadata.annotations['{INPUT_ANNOTATION}']"}}
    spec: Document = {
        "restartPolicy": "Never",
        "serviceAccountName": pods.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
            "fsGroup": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "input", "downwardAPI": {"items": [input_file]}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    annotations = {INPUT_ANNOTATION: _told(job)}
    template: Document = {"metadata": {"labels": labels(job), "annotations": annotations}, "spec": spec}
    if not job.pod_template:
        return template
    # By what the operator and network policies know the pods, and what the step is told, is not the template's.
    return merged(merged(template, job.pod_template), {"metadata": template["metadata"]})


def _told(job: Job) -> str:
    data = job.input.to_bytes()
    if len(data) > INPUT_LIMIT:
        step, size = job.input.work.step, f"{len(data) / 1024:,.0f} KiB, and {INPUT_LIMIT // 1024} KiB"
        raise Stalled(
            Reason.NOT_SUPPORTED,
            f"what the step {step} is told takes {size} fit beside a pod: read fewer batches, or shorten the spec",
        )
    return data.decode()


def _own(resource: str) -> Document:
    return {"resourceFieldRef": {"containerName": STEP, "resource": resource, "divisor": "1"}}


def _secrets(job: Job) -> Iterator[Document]:
    """The keys of each Secret that the work names, under the names by which steps know them."""
    for secret in sorted(_named_secrets(job.input.work)):
        for key in KEYS:
            reference = {"name": secret, "key": key, "optional": True}  # which keys there are depends on the source
            yield {"name": variable(secret, key), "valueFrom": {"secretKeyRef": reference}}


def _named_secrets(value: object) -> set[str]:
    if isinstance(value, SecretRef):
        return {value.name}
    if isinstance(value, BaseModel):
        value = [getattr(value, field) for field in type(value).model_fields]
    if isinstance(value, list | tuple):
        return {name for item in value for name in _named_secrets(item)}
    return set()


_KEYED_BY = ("name", "mountPath", "containerPort", "key")


def merged(base: Document, patch: Document) -> Document:
    """A document with a patch merged in: objects field by field, lists of named things by name, all else replaced.

    Null takes a field away. Lists whose entries have no name are joined.
    """
    result = deepcopy(base)
    for field, value in patch.items():
        old = result.get(field)
        if value is None:
            result.pop(field, None)
        elif isinstance(old, dict) and isinstance(value, dict):
            result[field] = merged(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            result[field] = _merged_list(old, value)
        else:
            result[field] = deepcopy(value)
    return result


def _merged_list(base: list[Any], patch: list[Any]) -> list[Any]:
    entries = [*base, *patch]
    key = next((key for key in _KEYED_BY if all(isinstance(e, dict) and key in e for e in entries)), None)
    if key is None:
        return deepcopy(patch if all(not isinstance(entry, dict) for entry in entries) else entries)
    result: dict[Any, Any] = {entry[key]: deepcopy(entry) for entry in base}
    for entry in patch:
        known = result.get(entry[key])
        result[entry[key]] = merged(known, entry) if known is not None else deepcopy(entry)
    return list(result.values())
