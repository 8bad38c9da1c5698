"""The home: generations, immutable fields, and what is left after a removal."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from resource import RLIMIT_FSIZE, getrlimit, setrlimit

import pytest

from levada.engines.local.home import Home, Unchangeable, with_status
from levada.errors import LevadaError
from levada.resources import Dataset, ModelCandidate
from tests.unit.planners.worlds import dataset, feature_set


def candidate(uri: str) -> ModelCandidate:
    """A model trained elsewhere."""
    return ModelCandidate.model_validate(
        {"metadata": {"name": "own"}, "spec": {"model": {"uri": uri}, "task": "regression"}, "status": {}}
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_x5_a_file_that_does_not_fit_is_named_and_leaves_nothing_behind(home: Home) -> None:
    soft, hard = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (16, hard))  # as on a full disk, the error of the system has no name
    try:
        with pytest.raises(OSError, match=r"flights\.json"):
            home.apply(dataset())
    finally:
        setrlimit(RLIMIT_FSIZE, (soft, hard))

    assert [path for path in home.root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ('{"resource": {"kind": "Dataset"}}', "'owner'"),
        ("[]", "list indices"),
        ('{"resource": {"kind": "Wheel"}, "owner": null, "recorded": []}', "'Wheel'"),
    ],
)
def test_x5_a_file_that_makes_no_sense_is_named_with_what_to_do(home: Home, text: str, why: str) -> None:
    home.apply(dataset())
    (path,) = home.root.glob("resources/*/*/*.json")
    path.write_text(text)

    with pytest.raises(LevadaError, match=f"^{path} is damaged.*{why}.*or remove it and run the resource's manifest"):
        list(home.all())


def test_x5_a_field_of_another_version_is_named(home: Home) -> None:
    home.apply(dataset())
    (path,) = home.root.glob("resources/*/*/*.json")
    data = json.loads(path.read_text())
    data["resource"]["spec"]["wheels"] = 4
    path.write_text(json.dumps(data))

    with pytest.raises(LevadaError, match=r"of another version of Levada \(spec\.wheels: Extra inputs are not"):
        home.get(dataset().ref)


@pytest.mark.parametrize(("durable", "syncs"), [(True, 1), (False, 0)])
def test_x5_what_is_written_survives_a_power_failure_unless_the_settings_do_without(
    home: Home, monkeypatch: pytest.MonkeyPatch, durable: bool, syncs: int
) -> None:
    seen: list[int] = []
    monkeypatch.setattr("levada.engines.local.home._durable", lambda: durable)
    monkeypatch.setattr(os, "fsync", seen.append)

    home.apply(dataset())

    assert len(seen) == syncs


def test_k8s1_a_new_resource_has_generation_1_and_a_uid(home: Home) -> None:
    record = home.apply(dataset())

    assert record.resource.metadata.generation == 1
    assert record.resource.metadata.uid
    assert home.get(dataset().ref) == record


def test_x2_a_resource_that_is_made_anew_has_another_uid(home: Home) -> None:
    first = home.apply(dataset()).resource.metadata.uid
    assert home.apply(dataset(retries=5)).resource.metadata.uid == first
    home.remove(dataset().ref)

    assert home.apply(dataset()).resource.metadata.uid != first


def test_k8s1_a_changed_spec_makes_a_new_generation_and_keeps_the_status(home: Home) -> None:
    first = home.apply(dataset())
    status = first.resource.status.model_copy(update={"warnings": ["seen"]})
    home.save(replace(with_status(first, status), recorded=frozenset({"decision"})))

    second = home.apply(dataset(retries=7))

    assert second.resource.metadata.generation == 2
    assert second.resource.metadata.uid == first.resource.metadata.uid
    assert second.resource.status.warnings == ["seen"]
    assert second.recorded == {"decision"}
    assert Home(home.root).get(dataset().ref) == second


def test_k8s1_the_same_manifest_again_changes_nothing(home: Home) -> None:
    first = home.apply(dataset())
    path = next(home.root.glob("resources/*/*/*.json"))
    written = path.stat().st_mtime_ns, path.stat().st_ino

    assert home.apply(dataset()) == first
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == written


def test_k8s1_labels_and_annotations_change_without_a_new_generation(home: Home) -> None:
    home.apply(dataset())
    wanted = dataset()
    metadata = wanted.metadata.model_copy(update={"annotations": {"levada.dev/requested-at": "now"}})

    record = home.apply(wanted.model_copy(update={"metadata": metadata}))

    assert record.resource.metadata.annotations == {"levada.dev/requested-at": "now"}
    assert record.resource.metadata.generation == 1


def test_k8s1_a_change_of_an_immutable_field_is_refused_and_writes_nothing(home: Home) -> None:
    before = home.apply(candidate("s3://models/a/"))
    wanted = candidate("s3://models/b/")

    for refuse in (home.check, home.apply):
        with pytest.raises(Unchangeable, match=r"ModelCandidate default/own: spec\.model may not change; delete it"):
            refuse(wanted)

    assert home.get(wanted.ref) == before


def test_k8s1_resources_come_in_the_order_of_the_pipeline(home: Home) -> None:
    for resource in (feature_set("a"), dataset("z"), dataset("b")):
        home.apply(resource)

    assert [str(record.resource.ref) for record in home.all()] == [
        "Dataset default/b",
        "Dataset default/z",
        "FeatureSet default/a",
    ]


def test_x5_a_removed_resource_leaves_no_job_that_a_new_one_could_take_for_its_own(home: Home) -> None:
    home.apply(dataset("gone"))
    home.apply(dataset("stays"))
    for name in ("gone", "stays"):
        folder = home.jobs / "default" / f"{name}-ingest"
        folder.mkdir(parents=True)
        (folder / "input.json").write_text(json.dumps({"owner": {"kind": "Dataset", "name": name}}))

    home.remove(dataset("gone").ref)

    assert [record.resource.metadata.name for record in home.all()] == ["stays"]
    assert [folder.name for folder in home.jobs.glob("*/*")] == ["stays-ingest"]


def test_eval3_the_reports_of_a_removed_resource_go_with_it_and_no_other(home: Home) -> None:
    mine, namesake = candidate("s3://models/a/"), candidate("s3://models/b/")
    namesake = namesake.model_copy(update={"metadata": namesake.metadata.model_copy(update={"namespace": "other"})})
    for resource in (mine, namesake):
        home.apply(resource)
        home.reports(resource.ref).mkdir(parents=True)
        (home.reports(resource.ref) / "evaluation-1.html").write_text("report")

    home.remove(mine.ref)

    assert list(home.root.glob("reports/**/*.html")) == [home.reports(namesake.ref) / "evaluation-1.html"]


def test_k8s1_an_owner_is_remembered(home: Home) -> None:
    home.apply(dataset("child"), owner=feature_set().ref)
    home.apply(dataset("child", retries=1))

    record = home.get(dataset("child").ref)

    assert record is not None
    assert isinstance(record.resource, Dataset)
    assert record.owner == feature_set().ref
