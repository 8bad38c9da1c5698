"""Bad input through `levada run`: one clear sentence each, exit codes, and the rest of the pipeline unharmed."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.pipelines import Pipeline, condition, levada, small_pipeline

pytestmark = pytest.mark.xdist_group("bad-input")  # one run serves all of its tests

DATASET = """
apiVersion: levada.dev/v1alpha1
kind: Dataset
metadata: {{name: {name}}}
spec:
  retries: 0
  source: {{type: object, object: {{uri: "{uri}", pattern: "{pattern}"}}}}
  format: {{type: csv}}
"""
FEATURES = """
apiVersion: levada.dev/v1alpha1
kind: FeatureSet
metadata: {{name: {name}}}
spec:
  inputs: [{{dataset: orders}}]
  query: |
    {query}
  entity: {{keys: [order_id]}}
  {more}
"""
TRAINING = """
apiVersion: levada.dev/v1alpha1
kind: TrainingRun
metadata: {{name: {name}}}
spec:
  retries: 0
  featureSet: {{name: {features}}}
  task: classification
  algorithms: [{{name: only, type: {algorithm}}}]
"""


def dataset(name: str, uri: str, pattern: str = "*") -> str:
    return DATASET.format(name=name, uri=uri, pattern=pattern)


def features(name: str, query: str, more: str = "") -> str:
    return FEATURES.format(name=name, query=query, more=more)


def training(name: str, features: str, algorithm: str = "logisticRegression") -> str:
    return TRAINING.format(name=name, features=features, algorithm=algorithm)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, dict[str, dict[str, Any]], int]:
    """A good pipeline with many bad neighbours, run once: the pipeline, its resources, the exit code."""
    folder = tmp_path_factory.mktemp("bad")
    pipeline = small_pipeline(folder)
    raw = folder / "data"
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 5000)
    for name, data in {
        "truncated/x.csv.gz": whole[: len(whole) // 2],
        "encoding/x.csv": b"a,b\n1,\xff\xfe\n",
        "duplicate/x.csv": b"a,a\n1,2\n",
        "empty/x.csv": b"",
        "ragged/x.csv": b"a,b\n1,2\n3\n4,5,6\n7,8\n",
    }.items():
        (raw / name).parent.mkdir(parents=True)
        (raw / name).write_bytes(data)
    for link in ("l1", "l2"):
        (raw / "loop").mkdir(exist_ok=True)
        (raw / "loop" / link).symlink_to(".")
    bad = [
        dataset("truncated", "./data/truncated/"),
        dataset("encoding", "./data/encoding/"),
        dataset("duplicate", "./data/duplicate/"),
        dataset("empty", "./data/empty/"),
        dataset("ragged", "./data/ragged/"),
        dataset("nothing", "./data/nothing/"),
        dataset("absent-bucket", "s3://no-such-bucket/x/"),
        dataset("no-glob", "./data/orders/", pattern="[z-a].csv"),
        dataset("no-path", "file:///x%00y"),
        dataset("long-name", f"./data/{'x' * 300}/"),
        dataset("loop", "./data/loop/", pattern="**"),
        features("not-sql", "SELEC order_id FROM orders"),
        features("reads-file", "SELECT * FROM read_csv('/etc/passwd')"),
        features("no-rows", "SELECT * FROM orders WHERE price < 0"),
        features("cycle-a", "SELECT order_id, shop FROM orders", "lookups: [{featureSet: cycle-b, keys: [order_id]}]"),
        features("cycle-b", "SELECT order_id, shop FROM orders", "lookups: [{featureSet: cycle-a, keys: [order_id]}]"),
        features("bad-derive", "SELECT order_id, price FROM orders", 'derive: [{name: x, expression: "md5(price)"}]'),
        features("constant", "SELECT order_id, price, true AS label FROM orders", "label: label"),
        training("constant", "constant"),
        training("no-such-algorithm", "orders", "logisticRegresion"),
        training("waits", "not-there"),
    ]
    pipeline.write("bad.yaml", "---".join(bad))
    outcome = pipeline.run()
    return pipeline, outcome.resources(), outcome.code


def test_x5_one_bad_resource_makes_exit_code_1_and_leaves_the_others_unharmed(
    world: tuple[Pipeline, dict[str, dict[str, Any]], int],
) -> None:
    _, resources, code = world

    assert code == 1
    for good in ("Dataset/orders", "FeatureSet/orders", "TrainingRun/returns", "Deployment/returns"):
        assert condition(resources[good], "Ready")["status"] == "True"
    assert resources["ScoringRun/all-orders"]["status"]["scores"]["rows"] == 600


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ("Dataset/truncated", ("x.csv.gz", "truncated")),
        ("Dataset/encoding", ("x.csv", "utf-8")),
        ("Dataset/duplicate", ("x.csv", "'a'", "twice")),
        ("Dataset/empty", ("x.csv", "empty")),
        ("Dataset/nothing", ("data/nothing",)),
        ("Dataset/absent-bucket", ("no-such-bucket",)),
        ("Dataset/no-glob", ("spec.source.object.pattern '[z-a].csv'", "no glob")),
        ("Dataset/no-path", ("spec.source.object.uri file:///x%00y", "%00")),
        ("Dataset/long-name", ("spec.source.object.uri", "File name too long")),
        ("Dataset/loop", ("data/loop", "matches the pattern")),
        ("FeatureSet/not-sql", ("line", "SELEC")),
        ("FeatureSet/reads-file", ("read_csv",)),
        ("FeatureSet/no-rows", ("no row", "orders")),
        ("FeatureSet/cycle-a", ("cycle-a", "cycle-b")),
        ("FeatureSet/cycle-b", ("cycle-a", "cycle-b")),
        ("FeatureSet/bad-derive", ("md5", "x")),
        ("TrainingRun/constant", ("the label 'label' is true in all", "nothing to learn")),
        ("TrainingRun/no-such-algorithm", ("logisticRegresion", "logisticRegression")),
    ],
)
def test_x5_what_the_user_must_act_on_is_stalled_with_one_clear_sentence(
    world: tuple[Pipeline, dict[str, dict[str, Any]], int], resource: str, words: tuple[str, ...]
) -> None:
    stalled = condition(world[1][resource], "Stalled")

    assert stalled["status"] == "True"
    assert "\n" not in stalled["message"]
    assert "Traceback" not in stalled["message"]
    for word in words:
        assert word.lower() in stalled["message"].lower()


def test_x5_a_missing_reference_waits_and_says_for_what(
    world: tuple[Pipeline, dict[str, dict[str, Any]], int],
) -> None:
    ready = condition(world[1]["TrainingRun/waits"], "Ready")

    assert ready["status"] != "True"
    assert "FeatureSet" in ready["message"]
    assert "not-there" in ready["message"]
    assert condition(world[1]["TrainingRun/waits"], "Stalled").get("status") != "True"


def test_ing6_ragged_rows_are_set_aside_and_the_others_kept(
    world: tuple[Pipeline, dict[str, dict[str, Any]], int],
) -> None:
    batch = world[1]["Dataset/ragged"]["status"]["latestBatch"]

    assert (batch["rows"], batch["quarantined"]) == (2, 2)


def test_x5_a_bad_source_that_is_mended_goes_through(
    world: tuple[Pipeline, dict[str, dict[str, Any]], int],
) -> None:
    pipeline, _, _ = world
    (pipeline.folder / "data/empty/x.csv").write_text("a,b\n1,2\n")

    resources = pipeline.run().resources()

    assert condition(resources["Dataset/empty"], "Ready")["status"] == "True"


INVALID = {
    "unknown field": ("spec: {sorce: {}}", ("spec.sorce", "source")),
    "wrong type": (
        "spec: {source: {type: object, object: {uri: ./x}}, format: {type: csv}, retries: many}",
        ("spec.retries", "whole number"),
    ),
    "broken union": ("spec: {source: {type: object}, format: {type: csv}}", ("spec.source", "object")),
}


@pytest.mark.parametrize("case", INVALID)
def test_k8s1_an_invalid_manifest_is_exit_code_2_and_starts_nothing(tmp_path: Path, case: str) -> None:
    spec, words = INVALID[case]
    manifest = f"apiVersion: levada.dev/v1alpha1\nkind: Dataset\nmetadata: {{name: bad}}\n{spec}\n"
    (tmp_path / "bad.yaml").write_text(manifest)

    outcome = levada("run", "-f", "bad.yaml", cwd=tmp_path)

    assert outcome.code == 2
    assert "bad.yaml" in outcome.err
    for word in words:
        assert word in outcome.err
    assert not (tmp_path / ".levada").exists()
