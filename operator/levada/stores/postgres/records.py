"""What the catalogue keeps of each manifest: its key, what it was made from, and a summary for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from levada import names
from levada.artifacts import (
    BatchManifest,
    EvaluationManifest,
    FeatureManifest,
    LookupSpec,
    ModelManifest,
    ScoresManifest,
    SplitManifest,
)
from levada.names import Kind
from levada.resources.status import InputVersion


class Type(StrEnum):
    """What an artifact is."""

    BATCH = "batch"
    FEATURES = "features"
    SPLIT = "split"
    CANDIDATE = "candidate"
    EVALUATION = "evaluation"
    SCORES = "scores"


TYPES = {
    Kind.DATASET: (Type.BATCH,),
    Kind.FEATURE_SET: (Type.FEATURES,),
    Kind.TRAINING_RUN: (Type.SPLIT,),
    Kind.MODEL_CANDIDATE: (Type.CANDIDATE, Type.EVALUATION),
    Kind.DEPLOYMENT: (),
    Kind.SCORING_RUN: (Type.SCORES,),
}
"""The artifacts that belong to a resource of each kind."""


@dataclass(frozen=True)
class Record:
    """A row of `artifacts` and its edges."""

    type: Type
    namespace: str
    owner: str  # name of the resource
    id: str
    created_at: datetime
    rows: int | None
    parents: tuple[str, ...]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return key(self.type, self.namespace, self.owner, self.id)


def key(type: Type, namespace: str, owner: str, id: str) -> str:
    """`<type>/<namespace>/<owner>/<id>`."""
    return f"{type.value}/{namespace}/{owner}/{id}"


def prefix(type: Type, namespace: str, owner: str, id: str) -> str:
    """The object key prefix of an artifact."""
    match type:
        case Type.BATCH:
            return names.batch_prefix(namespace, owner, id)
        case Type.FEATURES:
            return names.features_prefix(namespace, owner, id)
        case Type.SPLIT:
            return names.split_prefix(namespace, owner, id)
        case Type.CANDIDATE:
            return names.model_prefix(namespace, owner)
        case Type.EVALUATION:
            return names.evaluation_prefix(namespace, owner, id)
        case Type.SCORES:
            return names.scores_prefix(namespace, owner, id)


def of_batch(m: BatchManifest) -> Record:
    originals = [{"key": f.key, "digest": f.digest, "bytes": f.bytes} for f in m.originals]
    details = {"quarantined": m.quarantined, "originals": originals}
    return Record(Type.BATCH, m.namespace, m.dataset, m.batch, m.created_at, m.rows, (), details)


def of_features(m: FeatureManifest) -> Record:
    parents = (*_inputs(m.namespace, m.inputs), *_lookups(m.lookups))
    details = {"columns": len(m.columns), "label": m.label}
    return Record(Type.FEATURES, m.namespace, m.feature_set, m.version, m.created_at, m.rows, parents, details)


def of_split(m: SplitManifest) -> Record:
    parents = (key(Type.FEATURES, m.namespace, m.feature_set, m.version),)
    details = {"type": m.type, "seed": m.seed, "parts": {part.name: part.rows for part in m.parts}}
    rows = sum(part.rows for part in m.parts)
    return Record(Type.SPLIT, m.namespace, m.training_run, m.split, m.created_at, rows, parents, details)


def of_candidate(m: ModelManifest) -> Record:
    parents = []
    if m.split and m.training_run:
        parents.append(key(Type.SPLIT, m.namespace, m.training_run, m.split))
    if m.feature_set and m.feature_set_version:
        parents.append(key(Type.FEATURES, m.namespace, m.feature_set, m.feature_set_version))
    parents += [*_inputs(m.namespace, m.batches), *_lookups(m.lookups)]
    details = {
        "task": m.task,
        "algorithm": m.algorithm,
        "type": m.type,
        "trainingRun": m.training_run,
        "execution": m.execution,
        "onnxDigest": m.onnx.digest,
    }
    rows = m.rows.get("train")
    return Record(Type.CANDIDATE, m.namespace, m.candidate, m.candidate, m.created_at, rows, tuple(parents), details)


def of_evaluation(m: EvaluationManifest) -> Record:
    parents = (key(Type.CANDIDATE, m.namespace, m.candidate, m.candidate),)
    details = {"part": m.part, "metrics": m.metrics}
    return Record(Type.EVALUATION, m.namespace, m.candidate, m.evaluation, m.created_at, m.rows, parents, details)


def of_scores(m: ScoresManifest) -> Record:
    parents = (key(Type.CANDIDATE, m.namespace, m.candidate, m.candidate), *_inputs(m.namespace, m.inputs))
    sources = [{"uri": s.uri, "bytes": s.bytes, "version": s.version} for s in m.sources]
    details = {"modelDigest": m.model_digest, "sources": sources}
    return Record(Type.SCORES, m.namespace, m.scoring_run, m.execution, m.created_at, m.rows, parents, details)


def _inputs(namespace: str, inputs: Iterable[InputVersion]) -> Iterable[str]:
    for version in inputs:
        type = Type.BATCH if version.kind == "Dataset" else Type.FEATURES
        for id in version.ids:
            yield key(type, namespace, version.name, id)


def _lookups(lookups: Iterable[LookupSpec]) -> Iterable[str]:
    for lookup in lookups:
        yield key(Type.FEATURES, lookup.namespace, lookup.feature_set, lookup.version)
