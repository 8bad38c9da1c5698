"""Files that manifests name by relative URIs, in a real object store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from levada.engines.local.servers import Endpoints
from levada.settings import from_environment
from levada.stores.open import open_objects
from tests.e2e.pipelines import manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shops, orders, far = manifest("Dataset", "shops"), manifest("Dataset", "orders"), manifest("Dataset", "shops")
    orders["metadata"]["namespace"] = "other"
    far["metadata"]["name"] = "far"
    far["spec"]["source"]["object"]["uri"] = "s3://elsewhere/data/"
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump_all([shops, orders, far]))
    (tmp_path / "data/orders").mkdir(parents=True)
    (tmp_path / "data/shops.csv").write_text("shop\n1\n")
    (tmp_path / "data/orders/1.csv").write_text("order\n1\n")
    (tmp_path / "data/orders/notes.txt").write_text("none of it")
    return tmp_path


def upload(folder: Path, endpoints: Endpoints, namespace: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "levada.cli", "upload", "-f", str(folder), "-n", namespace]
    environment = os.environ | endpoints.environment() | settings
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_x8_what_relative_uris_name_is_put_where_an_operator_looks(folder: Path, endpoints: Endpoints) -> None:
    first = upload(folder, endpoints, "team")
    again = upload(folder, endpoints, "team")

    bucket = endpoints.objects.bucket
    shops = f"s3://{bucket}/sources/team/data/shops.csv"
    orders = f"s3://{bucket}/sources/other/data/orders/1.csv"
    assert first.stdout.splitlines() == [f"put {shops}", f"put {orders}"], first.stderr
    assert again.stdout.splitlines() == [f"is there: {shops}", f"is there: {orders}"]
    objects = open_objects(from_environment(endpoints.environment()))
    assert objects.get("sources/team/data/shops.csv") == b"shop\n1\n"


def test_x8_a_file_that_has_changed_is_put_again_though_it_is_older_and_of_one_size(
    folder: Path, endpoints: Endpoints
) -> None:
    upload(folder, endpoints, "changed")
    (folder / "data/shops.csv").write_text("shop\n2\n")
    os.utime(folder / "data/shops.csv", (0, 0))

    assert "put s3://" in upload(folder, endpoints, "changed").stdout


def test_x8_a_large_file_that_is_there_is_not_put_again(folder: Path, endpoints: Endpoints) -> None:
    (folder / "data/shops.csv").write_text("shop\n" + "1\n" * (5 * 2**20))

    assert "put s3://" in upload(folder, endpoints, "large").stdout
    assert "is there: s3://" in upload(folder, endpoints, "large").stdout


def test_x8_a_file_that_two_manifests_reach_is_put_where_each_looks_for_it(folder: Path, endpoints: Endpoints) -> None:
    near = manifest("Dataset", "shops")
    near["metadata"]["name"] = "near"
    near["spec"]["source"]["object"]["uri"] = "./shops.csv"
    (folder / "data/near.yaml").write_text(yaml.safe_dump(near))

    put = upload(folder, endpoints, "two").stdout.splitlines()

    sources = f"s3://{endpoints.objects.bucket}/sources/two"
    assert {f"put {sources}/data/shops.csv", f"put {sources}/shops.csv"} <= set(put)


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("Dataset", "{source: {type: object, object: {uri: ./lost/}}, format: {type: csv}}", "spec.source.object.uri"),
        (
            "ScoringRun",
            "{model: {deployment: it}, input: {type: object, object: {uri: ./lost/, format: {type: csv}}}}",
            "spec.input.object.uri",
        ),
        ("ModelCandidate", "{task: regression, model: {uri: ./lost/}}", "spec.model.uri"),
    ],
)
def test_x8_files_that_are_not_there_are_named_with_resource_and_field(
    folder: Path, endpoints: Endpoints, kind: str, spec: str, field: str
) -> None:
    head = f"apiVersion: levada.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: lost}}\n"
    (folder / "pipeline.yaml").write_text(f"{head}spec: {spec}\n")

    failed = upload(folder, endpoints, "default")

    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: {kind} default/lost: nothing at file://{folder}/lost/ matches")
    assert f"correct {field}" in failed.stderr
    assert "Traceback" not in failed.stderr
