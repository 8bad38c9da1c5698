"""Manifests and events of a small history: two batches, a looked-up feature set, a split, a model, scores."""

from __future__ import annotations

from datetime import UTC, datetime
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
    StoredFile,
)
from levada.events import Event, EventType
from levada.names import Kind
from levada.resources import Ref
from levada.resources.status import InputVersion
from levada.stores.ports import Catalogue

NOW = datetime(2026, 3, 1, 12, 30, 15, 250_000, UTC)
URI = "s3://levada/somewhere/"
DIGEST = names.digest(b"a manifest")


def file(key: str) -> StoredFile:
    return StoredFile(key=key, bytes=len(key), digest=names.digest(key.encode()), rows=3)


def batch(id: str = "batch-1", dataset: str = "flights", namespace: str = "default", files: int = 2) -> BatchManifest:
    originals = [file(f"original/{dataset}-{number}.csv.gz") for number in range(files)]
    return BatchManifest(
        batch=id,
        namespace=namespace,
        dataset=dataset,
        columns=[],
        rows=3 * files,
        quarantined=1,
        originals=originals,
        typed=[file("typed/part-00000.parquet")],
        created_at=NOW,
    )


def features(
    id: str = "features-1",
    feature_set: str = "late",
    batches: tuple[tuple[str, str], ...] = (("flights", "batch-1"),),
    lookups: tuple[tuple[str, str], ...] = (),
    namespace: str = "default",
) -> FeatureManifest:
    return FeatureManifest(
        version=id,
        namespace=namespace,
        feature_set=feature_set,
        columns=[],
        keys=["flight"],
        rows=3,
        files=[],
        inputs=[InputVersion(kind="Dataset", name=dataset, ids=[batch]) for dataset, batch in batches],
        lookups=[lookup(*found) for found in lookups],
        created_at=NOW,
    )


def lookup(feature_set: str, version: str) -> LookupSpec:
    return LookupSpec(
        feature_set=feature_set,
        namespace="default",
        version=version,
        prefix=names.features_prefix("default", feature_set, version),
        on=["tailnum"],
        keys=["tailnum"],
        key_types=[],
        columns=[],
    )


def split(id: str = "split-1", version: str = "features-1") -> SplitManifest:
    parts = [SplitManifest.Part(name="train", rows=2), SplitManifest.Part(name="test", rows=1)]
    return SplitManifest(
        split=id,
        namespace="default",
        training_run="late",
        feature_set="late",
        version=version,
        type="sequential",
        seed=0,
        parts=parts,
        created_at=NOW,
    )


def candidate(name: str = "late-trees-1", namespace: str = "default") -> ModelManifest:
    return ModelManifest(
        candidate=name,
        namespace=namespace,
        task="classification",
        algorithm="trees",
        type="boostedTrees",
        onnx=file("model.onnx"),
        request=[],
        inputs=[],
        outputs=[],
        training_run="late",
        execution="training-1",
        feature_set="late",
        feature_set_version="features-1",
        split="split-1",
        rows={"train": 2},
        created_at=NOW,
    )


def external(name: str = "elsewhere") -> ModelManifest:
    """A model that was trained elsewhere: made from nothing that is known."""
    return ModelManifest(
        candidate=name,
        namespace="default",
        task="regression",
        algorithm="external",
        type="external",
        onnx=file("model.onnx"),
        request=[],
        inputs=[],
        outputs=[],
        created_at=NOW,
    )


def evaluation(id: str = "evaluation-1", candidate: str = "late-trees-1") -> EvaluationManifest:
    return EvaluationManifest(
        evaluation=id,
        namespace="default",
        candidate=candidate,
        metrics={"rocAuc": 0.68},
        evaluators=["roc"],
        part="test",
        rows=1,
        report=file("report.html"),
        created_at=NOW,
    )


def scores(
    execution: str = "scoring-1", scoring_run: str = "nightly", candidate: str = "late-trees-1", rows: int = 4
) -> ScoresManifest:
    return ScoresManifest(
        execution=execution,
        namespace="default",
        scoring_run=scoring_run,
        candidate=candidate,
        model_digest=DIGEST,
        rows=rows,
        files=[],
        inputs=[InputVersion(kind="FeatureSet", name="late", ids=["features-1"])],
        created_at=NOW,
    )


_STORED = {"uri": URI, "digest": DIGEST}
_DATA: dict[EventType, tuple[Kind, dict[str, Any]]] = {
    EventType.RAW_DATA_EXTRACTED: (
        Kind.DATASET,
        _STORED | {"batch": "batch-1", "rows": 6, "quarantined": 1, "files": 2},
    ),
    EventType.FEATURES_GENERATED: (
        Kind.FEATURE_SET,
        _STORED | {"version": "features-1", "rows": 3, "columns": 5, "inputs": []},
    ),
    EventType.SPLIT_CREATED: (
        Kind.TRAINING_RUN,
        _STORED | {"split": "split-1", "featureSetVersion": "features-1", "rows": {"train": 2}, "warnings": []},
    ),
    EventType.MODEL_TRAINED: (
        Kind.TRAINING_RUN,
        _STORED
        | {
            "candidate": "late-trees-1",
            "algorithm": "trees",
            "execution": "training-1",
            "featureSetVersion": "features-1",
            "split": "split-1",
        },
    ),
    EventType.MODEL_EVALUATED: (
        Kind.MODEL_CANDIDATE,
        _STORED
        | {
            "candidate": "late-trees-1",
            "evaluation": "evaluation-1",
            "part": "test",
            "rows": 1,
            "metrics": {"rocAuc": 0.68},
        },
    ),
    EventType.SCORES_READY: (
        Kind.SCORING_RUN,
        _STORED | {"execution": "scoring-1", "candidate": "late-trees-1", "rows": 4},
    ),
    EventType.STALLED: (Kind.DATASET, {"reason": "SourceNotFound", "message": "there is no file"}),
}


def event(
    type: EventType = EventType.STALLED, number: int = 0, name: str = "flights", namespace: str = "default"
) -> Event:
    """An event with data as documented; the same arguments give the same id."""
    kind, data = _DATA[type]
    return Event(
        id=names.event_id(type.value, str(number), name, namespace),
        type=type,
        kind=kind,
        namespace=namespace,
        name=name,
        time=NOW,
        data=data,
    )


def commit_history(catalogue: Catalogue, namespace: str = "default") -> None:
    """flights and planes → late (looks up planes) → split → candidate → evaluation; events are of the namespace."""

    def announced(type: EventType, number: int = 0) -> Event:
        return event(type, number, namespace=namespace)

    catalogue.commit_batch(batch(), URI, DIGEST, announced(EventType.RAW_DATA_EXTRACTED, 1))
    catalogue.commit_batch(batch("batch-2", "planes", files=1), URI, DIGEST, announced(EventType.RAW_DATA_EXTRACTED, 2))
    planes = features("features-2", "planes", (("planes", "batch-2"),))
    catalogue.commit_features(planes, URI, DIGEST, announced(EventType.FEATURES_GENERATED, 1))
    late = features(lookups=(("planes", "features-2"),))
    catalogue.commit_features(late, URI, DIGEST, announced(EventType.FEATURES_GENERATED, 2))
    catalogue.commit_split(split(), URI, DIGEST, announced(EventType.SPLIT_CREATED))
    catalogue.commit_candidate(candidate(), URI, DIGEST, announced(EventType.MODEL_TRAINED))
    catalogue.commit_evaluation(evaluation(), URI, DIGEST, announced(EventType.MODEL_EVALUATED))


def ref(kind: Kind, name: str) -> Ref:
    return Ref(kind, "default", name)
