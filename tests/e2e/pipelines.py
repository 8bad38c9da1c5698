"""Small pipelines of their own data, and `levada` as a user calls it."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

TIMEOUT = 240  # seconds; a guard, not a measurement


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    def resources(self) -> dict[str, dict[str, Any]]:
        """The resources printed by `-o json`, by `Kind/name`."""
        return {f"{item['kind']}/{item['metadata']['name']}": item for item in json.loads(self.out)["items"]}


def levada(*arguments: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> Outcome:
    """Run the command line in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "levada.cli", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200", "LEVADA_LOCAL_DURABLE": "0"} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        stdin=subprocess.DEVNULL,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def condition(resource: dict[str, Any], type: str) -> dict[str, Any]:
    """A condition of a resource; empty if it has none of the type."""
    return next((c for c in resource["status"].get("conditions", ()) if c["type"] == type), {})


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as CSV with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def orders(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Orders of shops, some of which are returned: more often when they are dear and the shop is small."""
    dice = random.Random(seed)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = []
    for number in range(count):
        shop = f"s{dice.randrange(5)}"
        price = round(dice.lognormvariate(3, 0.6), 2)
        likely = 0.15 + 0.5 * (price > 25) + 0.2 * (shop in ("s0", "s1"))
        rows.append(
            {
                "order_id": number,
                "shop": shop,
                "price": price,
                "colour": dice.choice(["red", "green", "blue"]),
                "at": (start + timedelta(minutes=37 * number)).isoformat().replace("+00:00", "Z"),
                "returned": int(dice.random() < likely),
            }
        )
    return rows


def shops() -> list[dict[str, Any]]:
    """The shops and their size."""
    return [{"shop": f"s{number}", "size": 10 + 30 * number} for number in range(5)]


PIPELINE = """
apiVersion: levada.dev/v1alpha1
kind: Dataset
metadata: {name: orders}
spec:
  source: {type: object, object: {uri: ./data/orders/, pattern: "*.csv"}}
  format: {type: csv}
  partitions: {parallelism: 2}
---
apiVersion: levada.dev/v1alpha1
kind: Dataset
metadata: {name: shops}
spec:
  source: {type: object, object: {uri: ./data/shops.csv}}
  format: {type: csv}
---
apiVersion: levada.dev/v1alpha1
kind: FeatureSet
metadata: {name: shops}
spec:
  inputs: [{dataset: shops}]
  entity: {keys: [shop]}
  online: {enabled: true}
---
apiVersion: levada.dev/v1alpha1
kind: FeatureSet
metadata: {name: orders}
spec:
  inputs: [{dataset: orders}]
  query: SELECT order_id, shop, price, colour, "at", returned = 1 AS returned FROM orders
  lookups: [{featureSet: shops, keys: [shop]}]
  entity: {keys: [order_id], timestamp: at}
  label: returned
  derive: [{name: hour, expression: extract(hour FROM "at")}]
  features: [price, colour, hour, shops_size]
---
apiVersion: levada.dev/v1alpha1
kind: TrainingRun
metadata: {name: returns}
spec:
  featureSet: {name: orders}
  task: classification
  split: {type: sequential, shuffle: false}
  algorithms:
    - {name: logistic, type: logisticRegression}
    - {name: tree, type: decisionTree, params: {maxDepth: 3}}
---
apiVersion: levada.dev/v1alpha1
kind: Deployment
metadata: {name: returns}
spec:
  model: {trainingRun: returns}
---
apiVersion: levada.dev/v1alpha1
kind: ScoringRun
metadata: {name: all-orders}
spec:
  model: {deployment: returns}
  input: {type: featureSet, featureSet: {name: orders}}
  partitions: 2
"""


def manifest(kind: str, name: str) -> dict[str, Any]:
    """A resource of the small pipeline, for changes to it."""
    (found,) = [d for d in yaml.safe_load_all(PIPELINE) if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return dict(found)


@dataclass(frozen=True)
class Pipeline:
    """A folder with manifests, data and a home."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / ".levada"

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> Outcome:
        """`levada run` on the folder, with JSON as output."""
        environment = self.environment | (environment or {})
        return levada("run", "-f", ".", "-o", "json", *arguments, cwd=self.folder, environment=environment)

    def write(self, name: str, text: str) -> None:
        """A manifest (or any other text) of the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def small_pipeline(folder: Path, rows: int = 600) -> Pipeline:
    """Raw orders and shops to a served model and scores, in a few seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    data = orders(rows)
    write_csv(folder / "data/orders/a.csv", data[: rows // 2])
    write_csv(folder / "data/orders/b.csv", data[rows // 2 :])
    write_csv(folder / "data/shops.csv", shops())
    pipeline = Pipeline(folder)
    pipeline.write("pipeline.yaml", PIPELINE)
    return pipeline
