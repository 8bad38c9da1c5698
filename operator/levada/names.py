"""Every name, id, label, subject and object key is derived here, in one function each.

Ids are derived from the inputs of what they name, so that doing a thing twice is doing it once: the same inputs give
the same id, and a record that is created only if absent cannot be made a second time.
"""

from __future__ import annotations

import hashlib
import uuid
from enum import StrEnum
from typing import Any

import orjson

GROUP = "levada.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_KIND = f"{GROUP}/kind"
LABEL_NAME = f"{GROUP}/name"
LABEL_EXECUTION = f"{GROUP}/execution"
# a new value asks for one more execution by hand
ANNOTATION_REQUESTED = f"{GROUP}/requested-at"

_EVENT_NAMESPACE = uuid.UUID("6f1cf5a0-6f0c-5c0e-9d4c-0d9a1f3f9b11")


class Kind(StrEnum):
    """The six custom resources."""

    DATASET = "Dataset"
    FEATURE_SET = "FeatureSet"
    TRAINING_RUN = "TrainingRun"
    MODEL_CANDIDATE = "ModelCandidate"
    DEPLOYMENT = "Deployment"
    SCORING_RUN = "ScoringRun"


PLURALS = {
    Kind.DATASET: "datasets",
    Kind.FEATURE_SET: "featuresets",
    Kind.TRAINING_RUN: "trainingruns",
    Kind.MODEL_CANDIDATE: "modelcandidates",
    Kind.DEPLOYMENT: "modeldeployments",  # `kubectl get deployments` stays Kubernetes' own
    Kind.SCORING_RUN: "scoringruns",
}
SHORT_NAMES = {
    Kind.DATASET: "dset",  # `ds` is DaemonSet
    Kind.FEATURE_SET: "fset",
    Kind.TRAINING_RUN: "train",
    Kind.MODEL_CANDIDATE: "mcand",
    Kind.DEPLOYMENT: "mdep",
    Kind.SCORING_RUN: "srun",
}


class Prefix(StrEnum):
    """What an id stands for, readable from the id itself."""

    BATCH = "batch"
    FEATURES = "features"
    SPLIT = "split"
    TRAINING = "training"
    EVALUATION = "evaluation"
    SCORING = "scoring"


def canonical(document: Any) -> bytes:
    """Canonical JSON of a document: sorted keys, no spaces; equal documents give equal bytes."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def digest(data: bytes) -> str:
    """`sha256:<hex>` of some bytes, the only form of a digest in Levada."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def short_hash(document: Any, length: int = 16) -> str:
    """The first `length` hex digits of the SHA-256 of a document's canonical JSON."""
    return hashlib.sha256(canonical(document)).hexdigest()[:length]


def derived_id(prefix: Prefix, inputs: Any) -> str:
    """An id derived from the inputs of what it names, e.g. `batch-5d41402abc4b2a76`."""
    return f"{prefix.value}-{short_hash(inputs)}"


def event_id(*parts: str) -> str:
    """The id of an event or decision: the same occurrence has the same id however often it is recorded."""
    return str(uuid.uuid5(_EVENT_NAMESPACE, "\x1f".join(parts)))


def limited(name: str, limit: int = 63) -> str:
    """`name` if it fits, else its beginning and a hash of the whole."""
    return name if len(name) <= limit else f"{name[: limit - 9].rstrip('-')}-{short_hash(name, 8)}"


def job_name(owner: str, step: str, execution: str) -> str:
    """The name of the job that runs a step for an execution: new inputs, new execution, new name."""
    # 52: a Job's pods carry the name, an index and a suffix in labels of at most 63 characters
    return limited(f"{owner}-{step}-{execution.rsplit('-', 1)[-1][:10]}", 52)


def candidate_name(training_run: str, algorithm: str, execution: str) -> str:
    """The name of the ModelCandidate that an algorithm of a TrainingRun's execution becomes."""
    # 50: as the names of all resources, so that those of jobs and pods that come from them fit
    return limited(f"{training_run}-{algorithm}-{execution.rsplit('-', 1)[-1][:8]}", 50)


def kube_event_name(name: str, said: list[str]) -> str:
    """The name of the Kubernetes Event that says something of a resource: saying it again is the same Event."""
    return f"{name}.{short_hash(said)}"


def subject(namespace: str, kind: Kind, name: str, event: str) -> str:
    """The NATS subject of an event: `levada.<namespace>.<kind>.<name>.<event>`."""
    return f"levada.{namespace}.{kind.value.lower()}.{name}.{event}"


def trigger_stream(subject: str) -> str:
    """The NATS stream of a subject that starts executions, where no other stream keeps it."""
    return f"levada-trigger-{short_hash(subject)}"


def trigger_consumer(listener: str, subject: str) -> str:
    """The durable NATS consumer by which a resource (its uid) is told of messages on a subject."""
    return f"levada-{short_hash([listener, subject])}"


def kv_bucket(namespace: str, feature_set: str) -> str:
    """The NATS KV bucket of a feature set's online store."""
    return f"levada_{namespace}_{feature_set}".replace(".", "_")


# --- object keys: prefixes end with a slash -----------------------------------------------------------------------


def batch_prefix(namespace: str, dataset: str, batch: str) -> str:
    """Where a raw batch lies: `original/`, `typed/`, `quarantine/` and `manifest.json` below it."""
    return f"raw/{namespace}/{dataset}/{batch}/"


def features_prefix(namespace: str, feature_set: str, version: str) -> str:
    """Where a feature set version lies: `rows/*.parquet`, `derive.onnx` and `manifest.json` below it."""
    return f"features/{namespace}/{feature_set}/{version}/"


def split_prefix(namespace: str, training_run: str, split: str) -> str:
    """Where a split lies: `manifest.json` (and row numbers, unless they are ranges) below it."""
    return f"splits/{namespace}/{training_run}/{split}/"


def model_prefix(namespace: str, candidate: str) -> str:
    """Where a candidate's model lies: `model.onnx` and `manifest.json` below it."""
    return f"models/{namespace}/{candidate}/"


def evaluation_prefix(namespace: str, candidate: str, evaluation: str) -> str:
    """Where an evaluation lies: `report.html`, `report.json` (its manifest) below it."""
    return f"evaluations/{namespace}/{candidate}/{evaluation}/"


def scores_prefix(namespace: str, scoring_run: str, execution: str) -> str:
    """Where the scores of an execution lie: `part-00000-of-00001.parquet` … and `manifest.json` below it."""
    return f"scores/{namespace}/{scoring_run}/{execution}/"


def step_prefix(namespace: str, job: str) -> str:
    """Where a job's step results lie: `<index>.json` below it."""
    return f"steps/{namespace}/{job}/"


def progress_key(namespace: str, job: str, index: int) -> str:
    """Where an index of a job that takes long says how far it is."""
    return f"{step_prefix(namespace, job)}{index}.progress.json"


def resource_prefixes(kind: Kind, namespace: str, name: str) -> list[str]:
    """Below which everything lies that a resource makes, but for the results of its jobs."""
    folders = {
        Kind.DATASET: [batch_prefix(namespace, name, "")],
        Kind.FEATURE_SET: [features_prefix(namespace, name, "")],
        Kind.TRAINING_RUN: [split_prefix(namespace, name, "")],
        Kind.MODEL_CANDIDATE: [model_prefix(namespace, name), evaluation_prefix(namespace, name, "")],
        Kind.DEPLOYMENT: [],
        Kind.SCORING_RUN: [scores_prefix(namespace, name, "")],
    }
    return [prefix.rstrip("/") + "/" for prefix in folders[kind]]


MANIFEST = "manifest.json"
