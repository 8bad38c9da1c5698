"""`levada validate`, as a pipeline of continuous integration uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from levada.cli import app
from levada.engines.local.home import Home
from levada.resources.manifests import load

CANDIDATE = """
apiVersion: levada.dev/v1alpha1
kind: ModelCandidate
metadata: {name: bought}
spec:
  task: TASK
  model: {uri: s3://models/bought/, digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}
"""
FEATURES = """
apiVersion: levada.dev/v1alpha1
kind: FeatureSet
metadata: {name: broken}
spec:
  inputs: [{dataset: orders}]
  query: SELEC 1
  entity: {keys: [id]}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "bought.yaml"
    path.write_text(CANDIDATE.replace("TASK", "regression"))
    return path


def test_x8_what_is_valid_and_what_is_not_can_be_read_by_programs(manifest: Path) -> None:
    (manifest.parent / "broken.yaml").write_text(FEATURES)

    done = CliRunner().invoke(app, ["validate", "-f", str(manifest.parent), "-o", "json"])

    assert done.exit_code == 2
    good, bad = json.loads(done.stdout)
    assert good == {"kind": "ModelCandidate", "namespace": "default", "name": "bought", "valid": True, "message": ""}
    assert (bad["kind"], bad["name"], bad["valid"]) == ("FeatureSet", "broken", False)
    assert "SELEC" in bad["message"]


def test_x8_a_reference_that_leads_to_no_manifest_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    dataset = "apiVersion: levada.dev/v1alpha1\nkind: Dataset\nmetadata: {name: order}\nspec: {source: {type: object, "
    dataset += "object: {uri: s3://landing/orders/}}, format: {type: csv}}\n"
    (tmp_path / "p.yaml").write_text(f"{dataset}---{FEATURES.replace('SELEC 1', 'SELECT id FROM orders')}")

    done = CliRunner().invoke(app, ["validate", "-f", str(tmp_path)])

    assert done.exit_code == 0
    assert done.stdout == "2 resources are valid\n"
    assert done.stderr == (
        "FeatureSet default/broken refers to Dataset default/orders, which is not among these manifests; "
        "did you mean order?\n"
    )


def test_x8_what_has_a_mistake_or_is_in_the_home_or_comes_of_a_run_is_no_missing_reference(tmp_path: Path) -> None:
    head = "apiVersion: levada.dev/v1alpha1\nkind: {}\nmetadata: {{name: {}}}\nspec: "
    source = "{source: {type: object, object: {uri: s3://landing/}}, format: {type: csv}}\n"
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "orders.yaml").write_text(head.format("Dataset", "orders") + source.replace("csv", "cvs"))
    (manifests / "shops.yaml").write_text(head.format("Dataset", "shops") + source)
    query = FEATURES.replace("SELEC 1", "SELECT id FROM orders")
    (manifests / "features.yaml").write_text(query.replace("dataset: orders", "dataset: orders}, {dataset: shops"))
    serve = head.format("Deployment", "late") + "{model: {trainingRun: late}, approved: late-trees-1}\n"
    train = "{featureSet: {name: broken}, task: classification, algorithms: [{name: a, type: decisionTree}]}\n"
    (manifests / "train.yaml").write_text(head.format("TrainingRun", "late") + train + "---\n" + serve)
    home = Home(tmp_path / "home")
    home.apply(load([str(manifests / "shops.yaml")], "default")[0][0])
    (manifests / "shops.yaml").unlink()

    done = CliRunner().invoke(app, ["validate", "-f", str(manifests), "--home", str(home.root)])

    assert done.exit_code == 2
    assert "cvs" in done.stderr
    assert "not among" not in done.stderr
    assert "refers to Dataset default/shops" in CliRunner().invoke(app, ["validate", "-f", str(manifests)]).stderr


def test_x8_manifests_that_cannot_be_read_are_told_to_programs_beside_the_others(manifest: Path) -> None:
    (manifest.parent / "broken.yaml").write_text(FEATURES)
    wrong = manifest.parent / "wrong.yaml"
    wrong.write_text(CANDIDATE.replace("TASK", "5"))

    done = CliRunner().invoke(app, ["validate", "-f", str(manifest.parent), "-o", "json"])

    assert done.exit_code == 2
    good, refused, unread = json.loads(done.stdout)
    assert (good["valid"], refused["valid"]) == (True, False)
    assert unread == {
        "kind": "ModelCandidate",
        "namespace": "",
        "name": "bought",
        "valid": False,
        "message": "spec.task: 5 is not allowed; use one of classification, regression, clustering, forecast",
        "file": str(wrong),
        "line": 6,
    }


def test_x8_nothing_to_validate_is_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n")

    done = CliRunner().invoke(app, ["validate", "-f", str(tmp_path), "-o", "json"])

    assert (done.exit_code, json.loads(done.stdout)) == (2, [])


@pytest.mark.parametrize(
    ("spec", "local", "kubernetes"),
    [
        ("source: {type: object, object: {uri: ./data/}}", "", ""),
        ("source: {type: object, object: {uri: ./../data/}}", "", "leads out of the folder"),
        ("source: {type: object, object: {uri: file:///data/}}", "", "only the local engine reads files"),
        ("source: {type: object, object: {uri: s3://a/b/}}\n  triggers: [{subject: a.b}]", "spec.triggers", ""),
        ("source: {type: object, object: {uri: s3://a/b/}}\n  podTemplate: {spec: {}}", "spec.podTemplate", ""),
    ],
)
def test_k8s1_manifests_are_checked_for_where_they_are_to_run(
    spec: str, local: str, kubernetes: str, tmp_path: Path
) -> None:
    head = "apiVersion: levada.dev/v1alpha1\nkind: Dataset\nmetadata: {name: raw}\nspec:\n  format: {type: csv}\n"
    (tmp_path / "raw.yaml").write_text(f"{head}  {spec}\n")

    for engine, refused in (("local", local), ("kubernetes", kubernetes)):
        done = CliRunner().invoke(app, ["validate", "-f", str(tmp_path), "--for", engine])
        assert done.exit_code == (2 if refused else 0), done.stderr
        assert refused in done.stderr


def test_x8_valid_manifests_are_counted(manifest: Path) -> None:
    done = CliRunner().invoke(app, ["validate", "-f", str(manifest)])

    assert (done.exit_code, done.stdout) == (0, "1 resource is valid\n")


def test_k8s1_a_change_of_what_may_not_change_is_told_before_it_is_run(manifest: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    resources, _ = load([str(manifest)], "default")
    home.apply(resources[0])
    arguments = ["validate", "-f", str(manifest), "--home", str(home.root)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    manifest.write_text(CANDIDATE.replace("TASK", "clustering"))

    done = CliRunner().invoke(app, arguments)

    assert done.exit_code == 2
    assert "task may not change" in done.stderr


def test_x8_a_home_that_is_not_there_is_named(manifest: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["validate", "-f", str(manifest), "--home", str(tmp_path / "none")])

    assert done.exit_code == 1
    assert f"there is no home at {tmp_path / 'none'}" in done.stderr
