"""The command line as far as it needs no server: exit codes and sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from levada.cli import app
from levada.engines.local.home import Home, with_status
from levada.resources import ModelCandidate
from tests.unit.planners.worlds import dataset, feature_set, training_run

MANIFEST = """
apiVersion: levada.dev/v1alpha1
kind: FeatureSet
metadata: {{name: {name}}}
spec:
  inputs: [{{dataset: orders}}]
  query: {query}
  entity: {{keys: [id]}}
"""

MODEL = """
apiVersion: levada.dev/v1alpha1
kind: ModelCandidate
metadata: {name: own}
spec: {model: {uri: s3://models/own/}, task: regression}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def home(folder: Path) -> Home:
    """A home with resources that nothing has run for."""
    home = Home(folder / ".levada")
    for resource in (dataset("flights"), dataset("weather"), feature_set("flights"), training_run("late")):
        home.apply(resource)
    return home


def levada(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def write(folder: Path, name: str = "flights", query: str = "SELECT * FROM orders") -> None:
    (folder / "levada.yaml").write_text(MANIFEST.format(name=name, query=query))


def test_x8_valid_manifests_are_counted(folder: Path) -> None:
    write(folder)

    result = levada("validate", "-f", ".")

    assert (result.exit_code, result.stdout) == (0, "1 resource is valid\n")


@pytest.mark.parametrize("query", ["SELEC id FROM orders", "SELECT * FROM read_csv('/etc/passwd')"])
def test_x8_validate_finds_what_a_planner_would_refuse(folder: Path, query: str) -> None:
    write(folder, query=query)

    result = levada("validate", "-f", ".")

    assert result.exit_code == 2
    assert "FeatureSet default/flights: spec.query" in result.stderr


@pytest.mark.parametrize("command", ["run", "validate"])
def test_x8_an_invalid_manifest_is_exit_code_2(folder: Path, command: str) -> None:
    write(folder, name="NOT_A_NAME")

    result = levada(command, "-f", ".")

    assert result.exit_code == 2
    assert "levada.yaml" in result.stderr
    assert not (folder / ".levada").exists()


@pytest.mark.parametrize("command", ["run", "validate"])
@pytest.mark.parametrize("path", ["no-such-file.yaml", "."])
def test_x8_no_manifest_at_all_is_exit_code_2(command: str, path: str) -> None:
    result = levada(command, "-f", path)

    assert result.exit_code == 2
    assert path in result.stderr


def test_x8_a_change_of_an_immutable_field_is_exit_code_2_and_takes_nothing_over(home: Home, folder: Path) -> None:
    manifest = yaml.safe_load(MODEL)
    home.apply(ModelCandidate.model_validate(manifest))
    manifest["spec"]["task"] = "clustering"
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest))
    write(folder, name="new")
    before = list(home.all())

    result = levada("run", "-f", "levada.yaml", "-f", "model.yaml")

    assert result.exit_code == 2
    assert "error: ModelCandidate default/own: spec.task may not change" in result.stderr
    assert list(home.all()) == before


@pytest.mark.parametrize(
    "arguments",
    [["get", "all"], ["lineage", "batch-1"], ["audit"], ["delete", "dset", "flights"]],
)
def test_x8_without_a_home_there_is_one_sentence(arguments: list[str]) -> None:
    result = levada(*arguments)

    assert result.exit_code == 1
    assert result.stderr == "error: there is no home at .levada: `levada run` makes one, --home names another\n"
    assert not Path(".levada").exists()


def test_x8_a_home_that_cannot_be_written_is_one_sentence(folder: Path) -> None:
    write(folder)

    result = levada("run", "-f", ".", "--home", "/proc/levada")

    assert result.exit_code == 1
    assert result.stderr == "error: /proc/levada: No such file or directory\n"


def test_x8_a_home_that_cannot_be_read_is_one_sentence(home: Home) -> None:
    (home.root / "resources/Dataset/default/flights.json").unlink()
    (home.root / "resources/Dataset/default/flights.json").mkdir()

    result = levada("get", "all")

    assert result.exit_code == 1
    assert result.stderr == f"error: {home.root}/resources/Dataset/default/flights.json: Is a directory\n"


def test_x8_get_prints_a_kind_by_any_of_its_names(home: Home) -> None:
    for name in ("Dataset", "dataset", "datasets", "dset"):
        result = levada("get", name)
        assert result.exit_code == 0
        assert [line.split()[0] for line in result.stdout.splitlines()] == ["NAME", "flights", "weather"]


def test_x8_get_one_resource_is_a_document_and_several_are_a_list(home: Home) -> None:
    one = json.loads(levada("get", "dset", "flights", "-o", "json").stdout)
    several = yaml.safe_load(levada("get", "all", "-o", "yaml").stdout)

    assert (one["kind"], one["metadata"]["name"]) == ("Dataset", "flights")
    assert several["kind"] == "List"
    assert [item["kind"] for item in several["items"]] == ["Dataset", "Dataset", "FeatureSet", "TrainingRun"]


def test_x8_what_resources_warn_of_stands_below_their_tables(home: Home) -> None:
    record = home.get(dataset("flights").ref)
    assert record is not None
    home.save(with_status(record, record.resource.status.model_copy(update={"warnings": ["few rows [of many]"]})))

    result = levada("get", "all")

    assert result.stdout.endswith("\n\nWarnings:\nDataset default/flights: few rows [of many]\n")
    assert "Warnings" not in levada("get", "dset", "weather").stdout


def test_x8_what_is_not_there_is_exit_code_1_by_name_and_0_by_kind(home: Home) -> None:
    named, kind, unknown = levada("get", "dset", "x"), levada("get", "srun"), levada("get", "pods")
    other = levada("get", "dset", "-n", "other")

    assert named.exit_code == 1
    assert "there is no dset 'x' in namespace 'default'" in named.stderr
    assert (kind.exit_code, kind.stdout) == (0, "")
    assert "there is no ScoringRun in the home .levada" in kind.stderr
    assert unknown.exit_code == 1
    assert "there is no kind 'pods'; there are datasets (dset)" in unknown.stderr
    assert "there is no Dataset in namespace 'other' of the home .levada" in other.stderr


def test_x8_deletion_says_what_refers_to_what_is_gone(home: Home) -> None:
    result = levada("delete", "dset", "flights", "--keep-data")

    assert (result.exit_code, result.stdout) == (0, "deleted Dataset default/flights\n")
    assert result.stderr == "FeatureSet default/flights refers to Dataset default/flights, which is gone now\n"
    assert home.get(dataset("flights").ref) is None


def test_x8_what_is_named_and_not_there_cannot_be_deleted(home: Home) -> None:
    result = levada("delete", "fset", "nowhere", "--keep-data")

    assert result.exit_code == 1
    assert "there is no FeatureSet default/nowhere in the home .levada" in result.stderr
    assert len(list(home.all())) == 4


def test_x5_what_manifests_name_can_be_deleted_again_and_what_is_not_there_is_passed_over(
    home: Home, folder: Path
) -> None:
    write(folder)
    (folder / "other.yaml").write_text(MANIFEST.format(name="nowhere", query="SELECT 1"))

    first, again = (levada("delete", "-f", ".", "--keep-data") for _ in range(2))

    assert (first.exit_code, first.stdout) == (0, "deleted FeatureSet default/flights\n")
    assert "passed over: there is no FeatureSet default/nowhere in the home .levada\n" in first.stderr
    assert (again.exit_code, again.stdout) == (0, "")
    for name in ("flights", "nowhere"):
        assert f"passed over: there is no FeatureSet default/{name} in the home .levada\n" in again.stderr
    assert len(list(home.all())) == 3


def test_x8_deletion_is_whole_or_not_at_all(home: Home, folder: Path) -> None:
    write(folder)
    home.apply(feature_set("child"), owner=training_run("late").ref)
    (folder / "other.yaml").write_text(MANIFEST.format(name="child", query="SELECT 1"))

    result = levada("delete", "-f", ".", "--keep-data")

    assert result.exit_code == 1
    assert "FeatureSet default/child belongs to TrainingRun default/late" in result.stderr
    assert len(list(home.all())) == 5


def test_x8_what_belongs_to_another_is_deleted_with_it_and_not_alone(home: Home) -> None:
    home.apply(dataset("child"), owner=training_run("late").ref)

    alone = levada("delete", "dset", "child", "--keep-data")
    owner = levada("delete", "train", "late", "--keep-data")

    assert alone.exit_code == 1
    assert "Dataset default/child belongs to TrainingRun default/late, which would make it again" in alone.stderr
    assert owner.stdout == "deleted Dataset default/child\ndeleted TrainingRun default/late\n"


def test_x2_a_namespace_without_a_resource_is_refused_for_audit(home: Home) -> None:
    result = levada("audit", "-n", "team")

    assert result.exit_code == 1
    assert "-n team says where one resource is: name it by kind and name" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["dset"], ["dset", "a", "-f", "."]])
def test_x8_deletion_wants_to_know_what(arguments: list[str]) -> None:
    result = levada("delete", *arguments)

    assert result.exit_code == 1
    assert "say what to delete" in result.stderr


def test_x8_only_what_the_manifests_name_counts_and_the_rest_is_shown_apart(folder: Path) -> None:
    Home(folder / ".levada").apply(feature_set("waits", inputs=[{"dataset": "nowhere"}]))
    (folder / "data.yaml").write_text(yaml.safe_dump(dataset("new", suspend=True).document()))

    result = levada("run", "-f", "data.yaml")

    assert result.exit_code == 0
    named, earlier = result.stdout.split("\nApplied earlier:\n")
    assert [line.split()[:3] for line in named.splitlines()[1:]] == [["Dataset", "new", "Pending"]]
    assert [line.split()[:3] for line in earlier.splitlines()[1:]] == [["FeatureSet", "waits", "Pending"]]
    assert result.stderr == "applied earlier, so not counted here: FeatureSet default/waits is Pending\n"
    assert not (folder / ".levada/servers/postgres").exists()
