"""Good manifests of every kind, and bad ones that the API server and Levada's own loader must both refuse."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from levada import names
from levada.names import Kind

DIGEST = "sha256:" + "0" * 64
OBJECT = {"type": "object", "object": {"uri": "s3://landing/flights/"}}

GOOD: dict[Kind, dict[str, Any]] = {
    Kind.DATASET: {
        "source": OBJECT,
        "format": {"type": "csv"},
        "quality": [{"column": "delay", "min": 0, "max": 10}],
        "schedule": {"cron": "@daily"},
        "resources": {"requests": {"cpu": 1, "memory": "2Gi"}},
        "podTemplate": {"spec": {"nodeSelector": {"disk": "fast"}}},
    },
    Kind.FEATURE_SET: {
        "inputs": [{"dataset": "flights"}, {"dataset": "weather", "alias": "w"}],
        "query": "select * from flights join w using (origin)",
        "entity": {"keys": ["id"], "timestamp": "at"},
        "lookups": [{"featureSet": "planes", "keys": ["tailnum"], "asOf": "at", "tolerance": "3h"}],
        "derive": [{"name": "hour", "expression": "at // 100"}, {"name": "late", "expression": "hour > 20"}],
        "transform": [{"columns": ["hour"], "steps": [{"impute": {}}, {"clip": {"min": 0}}, {"scale": "standard"}]}],
        "select": {"method": "chi2", "k": 5},
        "engine": {"memory": "2Gi"},
    },
    Kind.TRAINING_RUN: {
        "featureSet": {"name": "flights"},
        "task": "classification",
        "split": {"type": "stratified", "ratios": {"train": 0.7, "validation": 0.1}},
        "algorithms": [
            {"name": "linear", "type": "logisticRegression", "params": {"c": 0.5, "classWeight": {"0": 1}}},
            {"name": "trees", "type": "boostedTrees", "search": {"rate": {"logUniform": {"min": 0.01, "max": 1}}}},
        ],
        "gate": {"minimum": {"rocAuc": 0.6}},
    },
    Kind.MODEL_CANDIDATE: {
        "model": {"uri": "s3://models/late/model.onnx", "digest": DIGEST},
        "task": "classification",
        "provenance": {"source": "made by hand"},
    },
    Kind.DEPLOYMENT: {
        "model": {"trainingRun": "late"},
        "tests": [{"type": "quality", "metric": "rocAuc", "minimum": 0.6}, {"type": "smoke"}],
        "rollout": {"strategy": "canary", "steps": [{"weight": 10, "pause": "5m"}, {"weight": 100}]},
        "autoscaling": {"minReplicas": 1, "maxReplicas": 3},
        "async": {"subject": "late.requests"},
    },
    Kind.SCORING_RUN: {
        "model": {"deployment": "late"},
        "input": {"type": "featureSet", "featureSet": {"name": "flights", "part": "test"}},
    },
}


@dataclass(frozen=True)
class Bad:
    """A change to a good manifest (a value at a path; None takes away what is there), and what is said of it.

    `sentence` is the loader's, after file and resource; `api` is a part of the API server's message.
    """

    kind: Kind
    path: str
    value: Any
    sentence: str
    api: str

    @property
    def id(self) -> str:
        return f"{self.kind.value} {self.path}={self.value}"[:80]

    def manifest(self) -> dict[str, Any]:
        document = manifest(self.kind)
        block: Any = document
        *way, last = self.path.split(".")
        for part in way:
            block = block[int(part)] if isinstance(block, list) else block.setdefault(part, {})
        if self.value is None:
            del block[last]
        elif isinstance(block, list):
            block[int(last)] = self.value
        else:
            block[last] = self.value
        return document


def manifest(kind: Kind, name: str = "it", **spec: Any) -> dict[str, Any]:
    """A good manifest, with other fields if given."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind.value,
        "metadata": {"name": name},
        "spec": {**copy.deepcopy(GOOD[kind]), **spec},
    }


def _bad() -> Iterator[Bad]:
    for entry in yaml.safe_load((Path(__file__).parent / "bad-manifests.yaml").read_text()):
        rule = entry.get("rule")
        sentence = f"{entry['at']}: {rule}" if rule else entry["sentence"]
        yield Bad(Kind(entry["kind"]), entry["path"], entry.get("value"), sentence, rule or entry["api"])


BAD = list(_bad())
