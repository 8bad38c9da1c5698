"""Training runs for tests: a small table of things and what is learnt from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from levada import names
from levada.artifacts import FeatureManifest, ModelManifest
from levada.names import Kind
from levada.resources.featureset import Select, Transform
from levada.resources.trainingrun import TrainingRunSpec
from levada.steps import train
from levada.steps.context import StepContext
from levada.steps.io import TrainedCandidate, TrainWork
from tests.support.steps import Bench
from tests.support.versions import prefix_of

RUN = "things-run"
START = np.datetime64("2024-01-01T00:00:00", "us")


def things(rows: int = 400, seed: int = 1) -> pa.Table:
    """`label` (bool) follows from `size`, `weight` and `kind`; `price` is a number for regressions."""
    generator = np.random.default_rng(seed)
    size = generator.normal(10, 3, rows)
    weight = generator.normal(0, 1, rows)
    kind = generator.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1])
    signal = (size - 10) / 3 + weight + (kind == "b") + generator.normal(0, 0.3, rows)
    missing = generator.random(rows) < 0.1
    return pa.table(
        {
            "id": np.arange(rows),
            "at": pa.array(START + np.arange(rows) * np.timedelta64(1, "h")),
            "size": pa.array(size, mask=missing),
            "weight": weight,
            "kind": pa.array(kind.tolist(), pa.string()),
            "count": generator.integers(0, 9, rows),
            "label": pa.array(signal > 0),
            "price": 100 + 10 * signal,
        }
    )


FEATURES = ["size", "weight", "kind", "count", "load"]
DERIVE = [("load", "weight * 2 + count")]


def train_work(
    manifest: FeatureManifest,
    algorithms: Sequence[dict[str, Any]] = ({"name": "logistic", "type": "logisticRegression"},),
    *,
    task: str = "classification",
    split: dict[str, Any] | None = None,
    transform: Sequence[dict[str, Any]] = (),
    select: dict[str, Any] | None = None,
    execution: str = "training-0000000000000001",
) -> TrainWork:
    """What the planner would ask for."""
    document = {
        "featureSet": {"name": manifest.feature_set},
        "task": task,
        "split": split or {"type": "random", "seed": 5},
        "algorithms": list(algorithms),
    }
    return TrainWork(
        execution=execution,
        split=names.derived_id(names.Prefix.SPLIT, [manifest.version, document["split"], execution]),
        feature_set=manifest.feature_set,
        version=manifest.version,
        features_prefix=prefix_of(manifest),
        spec=TrainingRunSpec.model_validate(document),
        transform=[Transform.model_validate(entry) for entry in transform],
        select=Select.model_validate(select) if select else None,
        candidates=[names.candidate_name(RUN, entry["name"], execution) for entry in algorithms],
    )


def train_context(bench: Bench, work: TrainWork, index: int = 0) -> StepContext:
    return bench.context(work, Kind.TRAINING_RUN, RUN, index, len(work.candidates))


def run_training(bench: Bench, work: TrainWork, index: int = 0) -> TrainedCandidate:
    """Run one index."""
    return train.run(train_context(bench, work, index)).candidate


def model_of(bench: Bench, candidate: TrainedCandidate) -> ModelManifest:
    """The manifest that was written."""
    assert candidate.refused is None, candidate.refused
    return ModelManifest.from_bytes(bench.objects.get(candidate.prefix + names.MANIFEST))
