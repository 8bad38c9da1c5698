"""Manifests: what is read, and the one sentence about each thing that is wrong."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from levada.names import Kind
from levada.resources import Dataset, ModelCandidate, ScoringRun
from levada.resources.manifests import load, load_all
from tests.support.manifests import BAD, GOOD, OBJECT, Bad, manifest

EXAMPLES = Path(__file__).parents[3] / "examples"


def write(folder: Path, *documents: Any, name: str = "a.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(d if isinstance(d, str) else yaml.safe_dump(d, sort_keys=False) for d in documents))
    return path


def problems(path: Path) -> list[str]:
    return [str(problem) for problem in load([path])[1]]


@pytest.mark.parametrize("kind", list(GOOD))
def test_k8s1_a_good_manifest_of_each_kind_is_read(kind: Kind, tmp_path: Path) -> None:
    (resource,), problems = load([write(tmp_path, manifest(kind))], "team")
    assert problems == []
    assert (resource.kind, resource.metadata.name, resource.metadata.namespace) == (kind, "it", "team")


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_k8s1_a_bad_manifest_gets_one_sentence(bad: Bad, tmp_path: Path) -> None:
    document = bad.manifest()
    path = write(tmp_path, document)
    resources, found = load([path])
    assert resources == []
    assert [problem.message for problem in found][:1] == [bad.sentence]
    assert str(found[0]).startswith(f"{path}:{found[0].line}: {bad.kind.value} {document['metadata']['name']}: ")


def test_k8s1_every_example_is_valid() -> None:
    folders = sorted(path.parent for path in EXAMPLES.glob("*/*.yaml"))
    assert folders
    for folder in set(folders):
        resources, problems = load([folder])
        assert problems == []
        assert resources


def test_k8s1_all_that_is_wrong_is_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
apiVersion: levada.dev/v1alpha1
kind: Dataset
metadata: {name: flights, labels: {tier: 1, late: y}}
spec:
  sorce: {}
  format:
    type: cvs
  retries: many
""",
    )
    assert problems(path) == [
        f"{path}:3: Dataset flights: metadata.labels.tier: 1 must be text; put it in quotes",
        f"{path}:3: Dataset flights: metadata.labels.late: true must be text; put it in quotes (YAML reads y, yes, on, "
        "n, no and off without them as true or false)",
        f"{path}:5: Dataset flights: spec.sorce: unknown field, did you mean source?",
        f"{path}:7: Dataset flights: spec.format.type: 'cvs' is not allowed; did you mean csv?",
        f"{path}:8: Dataset flights: spec.retries: 'many' must be a whole number",
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [1", 1, "this is not YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'"),
        (
            "\tkind: x",
            1,
            "this is not YAML: while scanning for the next token found character '\\t' that cannot start any token",
        ),
        ("just words", 1, "this is not a manifest: a mapping with apiVersion, kind, metadata and spec is needed"),
        ("kind: Dataset", 1, "apiVersion is missing; write for example apiVersion: levada.dev/v1alpha1"),
        ("apiVersion: levada.dev/v1alpha1", 1, "kind is missing; write for example kind: Dataset"),
        (
            "kind: Dataset\napiVersion: levada.dev/v1",
            2,
            "apiVersion 'levada.dev/v1' is unknown; write levada.dev/v1alpha1",
        ),
        (
            "kind: Dataset\napiVersion: levada/v1alpha1",
            2,
            "apiVersion 'levada/v1alpha1' is unknown; write levada.dev/v1alpha1",
        ),
        (
            "kind: Trainingrun\napiVersion: levada.dev/v1alpha1",
            1,
            "there is no kind 'Trainingrun' in levada.dev/v1alpha1; did you mean TrainingRun?",
        ),
        (
            "apiVersion: levada.dev/v1alpha1\nkind: Pod",
            2,
            "there is no kind 'Pod' in levada.dev/v1alpha1; there are Dataset, FeatureSet, TrainingRun, "
            "ModelCandidate, Deployment, ScoringRun",
        ),
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' is given twice; remove one"),
        ("x: {on: 1}", 1, "the key on means true to kubectl (YAML 1.1): write 'on' in quotes"),
        ("a: .inf", 1, "a: .inf is not allowed: write a finite number, or leave it out"),
        ("a: &x [*x]", 1, "the document contains itself (an alias within its own anchor)"),
    ],
)
def test_k8s1_what_is_no_manifest_is_named_with_its_line(text: str, line: int, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    (problem,) = load([path])[1]
    assert (problem.line, problem.message) == (line, message)


@pytest.mark.parametrize("digits", ["99999999999999999999", "9" * 300])
def test_k8s1_a_whole_number_that_is_too_large_is_named_with_line_and_field(digits: str, tmp_path: Path) -> None:
    path = write(tmp_path, yaml.safe_dump(manifest(Kind.DATASET), sort_keys=False) + f"  retries: {digits}\n")
    (problem,) = problems(path)
    line = len(path.read_text().splitlines())
    sentence = f"spec.retries: {float(digits)} has more than 64 bits; write a smaller number"
    assert problem == f"{path}:{line}: Dataset it: {sentence}"


@pytest.mark.parametrize("text", ["0x_", "0b_", "0o_", "0xffffffffffffffffff"])
def test_k8s1_what_only_looks_like_a_number_is_text(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, yaml.safe_dump(manifest(Kind.DATASET), sort_keys=False) + f"  retries: {text}\n")
    (problem,) = problems(path)
    assert problem.endswith(f"Dataset it: spec.retries: '{text}' must be a whole number")


def test_k8s1_aliases_cannot_make_a_small_file_huge(tmp_path: Path) -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    (problem,) = load([write(tmp_path, text)])[1]
    assert problem.message == "the document has more than 100,000 parts: divide it"


def test_k8s1_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: \xff\xfe\x00")
    (problem,) = load([path])[1]
    assert problem.message.startswith("this is not YAML:")


def test_x8_a_missing_metadata_is_named(tmp_path: Path) -> None:
    document = manifest(Kind.DATASET)
    del document["metadata"]
    assert [p.split(": ", 2)[2] for p in problems(write(tmp_path, document))] == ["metadata is missing; add it"]


# --- files and folders ----------------------------------------------------------------------------------------------


def test_x8_folders_are_read_recursively_in_order_of_name(tmp_path: Path) -> None:
    write(tmp_path, manifest(Kind.DATASET, "c"), name="c.yml")
    write(tmp_path, manifest(Kind.DATASET, "b"), name="b/x.yaml")
    write(tmp_path, manifest(Kind.DATASET, "a"), manifest(Kind.DATASET, "a2"), name="a.yaml")
    write(tmp_path, "not yaml: [", name="notes.txt")
    write(tmp_path, "not yaml: [", name=".levada/state.yaml")
    resources, problems = load([tmp_path])
    assert problems == []
    assert [r.metadata.name for r in resources] == ["a", "a2", "c", "b"]


def test_x8_what_a_home_keeps_is_no_manifest(tmp_path: Path) -> None:
    write(tmp_path, manifest(Kind.DATASET, "a"), name="a.yaml")
    write(tmp_path, manifest(Kind.DATASET, "b"), name="resources/b.yaml")
    for home in ("state", "deep/state"):
        write(tmp_path, "", name=f"{home}/servers/lock")
        write(tmp_path, '{"apiVersion": "levada.dev/v1alpha1"}', name=f"{home}/jobs/default/ingest/input.json")
        write(tmp_path, '{"resource": {}}', name=f"{home}/resources/Dataset/default/a.json")
    loaded = load_all([tmp_path])
    assert [r.metadata.name for r in loaded.resources] == ["a", "b"]
    assert (loaded.problems, loaded.notes) == ([], [])


def test_x8_manifests_may_lie_in_the_home_itself(tmp_path: Path) -> None:
    write(tmp_path, "", name="servers/lock")
    write(tmp_path, '{"apiVersion": "levada.dev/v1alpha1"}', name="jobs/default/ingest/input.json")
    write(tmp_path, manifest(Kind.DATASET, "a"), name="a.yaml")
    assert [r.metadata.name for r in load([tmp_path])[0]] == ["a"]


def test_x8_json_data_beside_manifests_is_passed_over_with_a_note(tmp_path: Path) -> None:
    write(tmp_path, manifest(Kind.DATASET, "a"), name="a.yaml")
    lines = write(tmp_path, '{"a": 1}\n{"a": 2}\n', name="data/x.json")
    for name in ("1", "2"):
        write(tmp_path, '[1, "kind"]', name=f"more/{name}.json")
    loaded = load_all([tmp_path])
    assert [r.metadata.name for r in loaded.resources] == ["a"]
    assert loaded.problems == []
    assert [str(note) for note in loaded.notes] == [
        f"{lines}: passed over: this is no manifest, it has no apiVersion",
        f"{tmp_path}/more: passed over: 2 JSON files that are no manifests, they have no apiVersion",
    ]
    for named in (lines, tmp_path / "more/1.json"):
        assert load([named])[1] != []
    write(tmp_path, '{"apiVersion": "levada.dev/v1alpha1"}', name="data/x.json")
    assert problems(tmp_path) == [f"{lines}:1: kind is missing; write for example kind: Dataset"]


def test_x8_json_is_yaml(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        '{"apiVersion": "levada.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "d"},\n'
        ' "spec": {"model": {"candidate": "c"}}}'
    )
    assert [r.metadata.name for r in load([path])[0]] == ["d"]


def test_x8_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = yaml.safe_dump(manifest(Kind.DATASET))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert [r.metadata.name for r in load(["-"])[0]] == ["it"]


@pytest.mark.parametrize("made", ["missing", "empty"])
def test_x8_paths_that_hold_nothing_are_named(made: str, tmp_path: Path) -> None:
    path = tmp_path / made
    if made == "empty":
        path.mkdir()
    sentence = {
        "missing": "there is no such file or folder",
        "empty": "the folder holds no file that ends with .yaml, .yml or .json",
    }
    assert problems(path) == [f"{path}: {sentence[made]}"]


def test_k8s3_ordinary_kubernetes_kinds_are_passed_over_with_a_note(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}},
        {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": "k"}},
        manifest(Kind.DATASET),
    )
    write(tmp_path, {"resources": ["a.yaml"]}, name="kustomization.yaml")
    loaded = load_all([tmp_path])
    assert [r.metadata.name for r in loaded.resources] == ["it"]
    assert loaded.problems == []
    assert [n.message for n in loaded.notes] == [
        "passed over: Namespace of v1 is none of Levada's kinds",
        "passed over: Deployment of apps/v1 is none of Levada's kinds",
        "passed over: Kustomization of kustomize.toolkit.fluxcd.io/v1 is none of Levada's kinds",
        "passed over: a kustomization",
    ]


def test_x8_a_list_holds_manifests(tmp_path: Path) -> None:
    items = [manifest(Kind.DATASET, "a"), manifest(Kind.DATASET, "b", retries=99)]
    path = write(tmp_path, {"apiVersion": "v1", "kind": "List", "items": items})
    resources, (problem,) = load([path])
    assert [r.metadata.name for r in resources] == ["a"]
    assert problem.message == "spec.retries: is 99; it must be at most 20"
    assert problem.line is not None
    assert "retries: 99" in path.read_text().splitlines()[problem.line - 1]


@pytest.mark.parametrize("items", [5, "all", {"a": 1}])
def test_x8_a_list_whose_items_are_none_is_refused_in_one_sentence(items: Any, tmp_path: Path) -> None:
    path = write(tmp_path, {"apiVersion": "v1", "kind": "List", "items": items})
    assert problems(path) == [f"{path}:3: List: items: {items!r} must be a list of manifests"]


def test_x8_a_resource_that_is_given_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    first = write(tmp_path, manifest(Kind.DATASET), name="a.yaml")
    second = write(tmp_path, manifest(Kind.DATASET, retries=1), name="b.yaml")
    resources, found = load([tmp_path])
    assert [r.spec.retries for r in resources if isinstance(r, Dataset)] == [3]
    assert [str(p) for p in found] == [
        f"{second}:1: Dataset default/it is defined a second time, first at {first}:1; remove one"
    ]


def test_x8_the_same_name_in_another_namespace_or_kind_is_another_resource(tmp_path: Path) -> None:
    other = manifest(Kind.DATASET)
    other["metadata"]["namespace"] = "other"
    resources, found = load([write(tmp_path, manifest(Kind.DATASET), other, manifest(Kind.DEPLOYMENT))])
    assert (len(resources), found) == (3, [])


# --- what becomes of the data ---------------------------------------------------------------------------------------


def test_x8_relative_uris_are_taken_from_the_file(tmp_path: Path) -> None:
    relative = {"type": "object", "object": {"uri": "./data sets/../raw files/"}}
    scored = {"type": "object", "object": {"uri": "./new.csv", "format": {"type": "csv"}}}
    path = write(
        tmp_path,
        manifest(Kind.DATASET, source=relative),
        manifest(Kind.SCORING_RUN, input=scored),
        manifest(Kind.MODEL_CANDIDATE, model={"uri": "./model.onnx"}),
        name="deep/a.yaml",
    )
    (dataset, scoring, candidate), problems = load([path])
    assert problems == []
    assert isinstance(dataset, Dataset)
    assert isinstance(scoring, ScoringRun)
    assert isinstance(candidate, ModelCandidate)
    assert dataset.spec.source.object is not None
    assert scoring.spec.input.object is not None
    assert dataset.spec.source.object.uri == f"file://{tmp_path}/deep/raw%20files/"
    assert scoring.spec.input.object.uri == f"file://{tmp_path}/deep/new.csv"
    assert candidate.spec.model.uri == f"file://{tmp_path}/deep/model.onnx"


def test_x8_what_a_server_added_is_left_out(tmp_path: Path) -> None:
    document = manifest(Kind.DATASET)
    document["metadata"] |= {
        "uid": "1",
        "generation": 7,
        "resourceVersion": "12",
        "creationTimestamp": None,
        "managedFields": [{}],
        "annotations": {"a": "b"},
    }
    document["status"] = {"observedGeneration": 7, "anything": 1}
    (resource,), problems = load([write(tmp_path, document)])
    assert problems == []
    assert (resource.metadata.uid, resource.metadata.generation, resource.status.observed_generation) == ("", 1, -1)
    assert resource.metadata.annotations == {"a": "b"}


def test_k8s1_metadata_may_have_all_that_kubernetes_gives_it(tmp_path: Path) -> None:
    document = manifest(Kind.DATASET)
    document["metadata"] |= {
        "deletionGracePeriodSeconds": 1,
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["foregroundDeletion"],
        "generateName": "it-",
        "ownerReferences": [{"kind": "Deployment", "name": "d", "uid": "1", "apiVersion": "apps/v1"}],
        "selfLink": "/here",
        "labels": {"a": "b"},
    }
    (resource,), problems = load([write(tmp_path, document)])
    assert problems == []
    assert resource.metadata.labels == {"a": "b"}
    document["metadata"] |= {"managedFields": [{}], "creationTimestamp": None, "resourceVersion": "12"}
    assert Dataset.model_validate(document).metadata == resource.metadata.model_copy(update={"namespace": "default"})


def test_k8s1_a_null_is_a_field_that_is_not_given(tmp_path: Path) -> None:
    document = manifest(Kind.TRAINING_RUN, retries=None, search=None)
    document["spec"]["algorithms"][0]["params"] = {"maxDepth": None}
    (resource,), problems = load([write(tmp_path, document)])
    assert problems == []
    assert resource.spec.document()["retries"] == 3
    assert resource.spec.document()["algorithms"][0]["params"] == {"maxDepth": None}


def test_k8s1_whole_numbers_stand_for_quantities_and_decimals_for_whole_numbers(tmp_path: Path) -> None:
    text = yaml.safe_dump(manifest(Kind.DATASET)).replace("cpu: 1", "cpu: 2") + "  retries: 2.0\n"
    (resource,), problems = load([write(tmp_path, text)])
    assert problems == []
    assert isinstance(resource, Dataset)
    assert resource.spec.resources is not None
    assert (resource.spec.resources.requests["cpu"], resource.spec.retries) == ("2", 2)


def test_x3_a_uri_is_checked_like_any_other_field(tmp_path: Path) -> None:
    document = manifest(Kind.DATASET, source={**OBJECT, "object": {"uri": "ftp://host/file"}})
    (problem,) = problems(write(tmp_path, document))
    assert "spec.source.object.uri: 'ftp://host/file' is not a place of files" in problem
