"""The evaluate step against the real stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, silhouette_score

from levada import names
from levada.artifacts import EvaluationManifest, LookupColumn, LookupSpec, ModelManifest, SplitManifest
from levada.errors import Stalled
from levada.events import EventType
from levada.features.model import OnnxModel
from levada.features.tensors import to_tensor
from levada.features.types import ColumnType
from levada.names import Kind
from levada.planners.strategies import evaluators_of
from levada.resources.conditions import Reason
from levada.resources.trainingrun import Task
from levada.steps import evaluate
from levada.steps.io import EvaluateOutput, EvaluateWork, TrainedCandidate
from levada.steps.rows import numbers_of
from levada.stores.ports import Objects
from tests.support.steps import Bench
from tests.support.training import DERIVE, FEATURES, model_of, run_training, things, train_work
from tests.support.versions import prefix_of, write_version

EVALUATION = "evaluation-0000000000000001"


def trained(bench: Bench, algorithm: str = "logisticRegression", **more: Any) -> TrainedCandidate:
    task = more.pop("task", "classification")
    settings: dict[str, Any] = {"keys": ["id"], "timestamp": "at", "features": FEATURES, "derive": DERIVE}
    manifest = write_version(bench.objects, things(), **(settings | more.pop("version", {})))
    return run_training(bench, train_work(manifest, [{"name": "one", "type": algorithm}], task=task, **more))


def work_for(candidate: str, uri: str, task: Task = "classification", **more: Any) -> EvaluateWork:
    fields: dict[str, Any] = {
        "evaluation": EVALUATION,
        "candidate": candidate,
        "model_uri": uri,
        "digest": None,
        "task": task,
        "evaluators": evaluators_of(task, []),
    }
    return EvaluateWork.model_validate(fields | more)


def run(bench: Bench, work: EvaluateWork, files: bool = False) -> EvaluateOutput:
    context = bench.context(work, Kind.MODEL_CANDIDATE, work.candidate)
    context.allow_file_sources = files
    return evaluate.run(context)


def evaluated(bench: Bench, candidate: TrainedCandidate, **more: Any) -> EvaluateOutput:
    return run(bench, work_for(candidate.name, bench.objects.uri(candidate.prefix), **more))


def test_eval1_what_is_measured_is_the_onnx_file_on_the_test_part(bench: Bench) -> None:
    candidate = trained(bench)
    model = model_of(bench, candidate)
    output = evaluated(bench, candidate, digest=candidate.onnx_digest)
    assert model.split_prefix is not None
    split = SplitManifest.from_bytes(bench.objects.get(model.split_prefix + names.MANIFEST))
    rows = numbers_of(split, "test", bench.objects, model.split_prefix)
    table = things().take(rows)
    session = OnnxModel(bench.objects.get(candidate.prefix + "model.onnx"))
    found = session.run_all({c.name: to_tensor(table.column(c.name), c.type, c.name) for c in model.inputs})
    expected = roc_auc_score(table["label"].to_numpy(zero_copy_only=False), found["probabilities"][:, 1])
    assert output.manifest.metrics["rocAuc"] == pytest.approx(expected)
    assert (output.manifest.part, output.manifest.rows) == ("test", 80)
    assert output.model == model


def test_eval3_report_and_data_are_kept_and_announced(bench: Bench) -> None:
    candidate = trained(bench)
    output = evaluated(bench, candidate)
    keys = [info.key.removeprefix(output.prefix) for info in bench.objects.list(output.prefix)]
    assert keys == ["manifest.json", "report.html", "report.json"]
    html = bench.objects.get(output.prefix + "report.html")
    assert names.digest(html) == output.manifest.report.digest
    assert candidate.name in html.decode()
    data = bench.objects.get(output.prefix + "report.json")
    assert EvaluationManifest.from_bytes(data) == output.manifest
    events = [event for event in bench.catalogue.pending_events() if event.type is EventType.MODEL_EVALUATED]
    assert [event.data["metrics"] for event in events] == [output.manifest.metrics]


def test_eval1_run_again_nothing_is_done_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = trained(bench)
    first = evaluated(bench, candidate)
    monkeypatch.setattr("levada.steps.evaluate.measure.evaluate", lambda *_: pytest.fail("evaluated again"))
    assert evaluated(bench, candidate) == first
    types = [event.type for event in bench.catalogue.pending_events()]
    assert types.count(EventType.MODEL_EVALUATED) == 1


def test_eval1_lineage_goes_from_the_evaluation_to_the_split(bench: Bench) -> None:
    evaluated(bench, trained(bench))
    kinds = {node.type for node in bench.catalogue.lineage(EVALUATION)}
    assert {"evaluation", "candidate", "split"} <= kinds


def test_eval1_evaluators_combine_freely(bench: Bench) -> None:
    output = evaluated(bench, trained(bench), evaluators=["confusion", "roc"])
    assert set(output.manifest.figures) == {"confusion", "roc"}
    assert "brier" not in output.manifest.metrics


def test_eval1_regression_errors(bench: Bench) -> None:
    candidate = trained(bench, "linearRegression", task="regression", version={"label": "price"})
    manifest = evaluated(bench, candidate, task="regression").manifest
    assert manifest.metrics["rmse"] < manifest.baselines["rmse"]
    assert manifest.metrics["r2"] > 0.5


def test_eval1_clusters_are_measured_in_the_features_that_they_are_made_in(bench: Bench) -> None:
    version = {"label": None, "features": ["size", "weight"], "derive": ()}
    transform = [{"columns": ["size", "weight"], "steps": [{"impute": {}}, {"scale": "standard"}]}]
    candidate = trained(bench, "kMeans", task="clustering", version=version, transform=transform)
    manifest = evaluated(bench, candidate, task="clustering").manifest
    assert manifest.warnings == []
    model = model_of(bench, candidate)
    assert model.split_prefix is not None
    split = SplitManifest.from_bytes(bench.objects.get(model.split_prefix + names.MANIFEST))
    table = things().take(numbers_of(split, "test", bench.objects, model.split_prefix))
    columns = {c.name: to_tensor(table.column(c.name), c.type, c.name) for c in model.inputs}
    cluster = OnnxModel(bench.objects.get(candidate.prefix + "model.onnx")).run_all(columns)["cluster"]
    learned = {
        name: steps[1]["scale"]
        for group in model.learned["transforms"]
        for name, steps in ((n, group["steps"]) for n in group["columns"])
    }
    fills = model.learned["transforms"][0]["steps"][0]["impute"]["fill"]
    scaled = [
        (np.where(np.isnan(columns[n]), fills[n], columns[n]) - learned[n]["offset"][n]) * learned[n]["factor"][n]
        for n in ("size", "weight")
    ]
    expected = silhouette_score(np.concatenate(scaled, axis=1), cluster)
    assert manifest.metrics["silhouette"] == pytest.approx(expected, abs=1e-4)


def test_eval1_without_a_test_part_all_rows_are_measured_and_that_is_said(bench: Bench) -> None:
    split = {"type": "random", "ratios": {"train": 1, "validation": 0, "test": 0}}
    manifest = evaluated(bench, trained(bench, split=split)).manifest
    assert (manifest.part, manifest.rows) == ("all", 400)
    assert manifest.warnings == [
        "the split has no test part, so the model was measured on the rows that it was fitted on"
    ]


def test_eval1_an_evaluator_of_another_task_is_refused(bench: Bench) -> None:
    with pytest.raises(Stalled, match="'regressionErrors' is not for the task classification") as caught:
        evaluated(bench, trained(bench), evaluators=["regressionErrors"])
    assert caught.value.reason is Reason.INVALID_SPEC


def test_eval1_a_model_that_was_changed_is_refused(bench: Bench) -> None:
    candidate = trained(bench)
    bench.objects.put(candidate.prefix + "model.onnx", b"changed")
    with pytest.raises(Stalled, match=r"model\.onnx has not the digest that its manifest names") as caught:
        evaluated(bench, candidate)
    assert caught.value.reason is Reason.INVALID_DATA
    assert list(bench.objects.list("evaluations/")) == []


def test_eval1_another_digest_or_task_than_the_spec_says_is_refused(bench: Bench) -> None:
    candidate = trained(bench)
    with pytest.raises(Stalled, match=r"spec\.model\.digest is sha256:0+, but the model's file has sha256:"):
        evaluated(bench, candidate, digest="sha256:" + "0" * 64)
    with pytest.raises(Stalled, match=r"spec\.task is regression, but the model '.*' was made for classification"):
        evaluated(bench, candidate, task="regression")


def elsewhere() -> bytes:
    features = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    estimator = LogisticRegression().fit(features, np.where(features[:, 0] > 0, "yes", "no"))
    model: bytes = to_onnx(estimator, features[:1], options={"zipmap": False}, target_opset=18).SerializeToString()
    return model


def test_eval5_a_model_trained_elsewhere_is_taken_in_and_goes_the_same_way(bench: Bench) -> None:
    bench.objects.put("theirs/model.onnx", elsewhere())
    work = work_for("theirs", bench.objects.uri("theirs/"), digest=names.digest(elsewhere()))
    output = run(bench, work)
    prefix = names.model_prefix("default", "theirs")
    assert ModelManifest.from_bytes(bench.objects.get(prefix + names.MANIFEST)) == output.model
    assert [column.name for column in output.model.request] == ["X_0", "X_1", "X_2"]
    assert output.model.classes == ["no", "yes"]
    assert (output.manifest.part, output.manifest.metrics) == ("generated", {})
    assert "the model comes without data" in output.manifest.warnings[0]
    types = [event.type for event in bench.catalogue.pending_events()]
    assert types == [EventType.MODEL_REGISTERED, EventType.MODEL_EVALUATED]
    assert run(bench, work) == output


def test_eval5_a_model_in_a_local_file_is_taken_in_where_that_is_allowed(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(elsewhere())
    assert run(bench, work_for("theirs", f"file://{path}"), files=True).model.type == "external"
    with pytest.raises(Stalled, match=r"^spec\.model\.uri file://.*only the local engine reads"):
        run(bench, work_for("others", f"file://{path}"))
    path.unlink()
    with pytest.raises(Stalled, match=rf"^spec\.model\.uri: nothing is at file://{path}; put the model there$"):
        run(bench, work_for("others", f"file://{path}"), files=True)


def copied(bench: Bench, candidate: TrainedCandidate, to: Objects) -> str:
    """Copy a model's folder to a place of the user's; its URI."""
    for name in ("model.onnx", names.MANIFEST):
        to.put(f"copied/{name}", bench.objects.get(candidate.prefix + name))
    return to.uri("copied/")


def test_eval5_a_model_of_this_levada_that_lies_elsewhere_is_measured_on_its_own_rows(bench: Bench) -> None:
    candidate = trained(bench)
    output = run(bench, work_for("copied", copied(bench, candidate, bench.objects)))
    assert output.model.candidate == "copied"
    assert output.model.outputs == model_of(bench, candidate).outputs
    assert output.manifest.part == "test"


DATED = [("hour", "hour(at)"), ("load", "weight * 2 + count")]


def test_eval5_a_model_of_another_levada_keeps_its_manifest_and_is_measured_without_rows(
    bench: Bench, elsewhere_bench: Bench
) -> None:
    candidate = trained(elsewhere_bench, version={"derive": DATED, "features": [*FEATURES, "hour"]})
    output = run(bench, work_for("copied", copied(elsewhere_bench, candidate, bench.objects)))
    assert output.model.outputs == model_of(elsewhere_bench, candidate).outputs
    assert (output.model.features_prefix, output.model.split_prefix) == (None, None)
    assert output.model.feature_set_version is not None
    assert output.manifest.part == "generated"


def test_eval5_a_model_that_looks_up_what_is_not_here_is_refused_by_name(bench: Bench, elsewhere_bench: Bench) -> None:
    sizes = things().select(["id", "size"])
    other = write_version(elsewhere_bench.objects, sizes, name="sizes", label=None, keys=["id"])
    spec = LookupSpec(
        feature_set="sizes",
        namespace="default",
        version=other.version,
        prefix=prefix_of(other),
        on=["id"],
        keys=["id"],
        key_types=[ColumnType.INT64],
        columns=[LookupColumn(source="size", name="size", type=ColumnType.FLOAT64)],
    )
    candidate = trained(elsewhere_bench, version={"lookups": [spec]})
    work = work_for("copied", copied(elsewhere_bench, candidate, bench.objects))
    with pytest.raises(
        Stalled, match=rf"looks up the version {other.version} of the feature set 'sizes', which is not"
    ):
        run(bench, work)
    assert list(bench.objects.list("models/")) == []
    for info in elsewhere_bench.objects.list(prefix_of(other)):
        bench.objects.put(info.key, elsewhere_bench.objects.get(info.key))
    assert run(bench, work).manifest.part == "generated"


def fixed_batch() -> bytes:
    """A model that was exported with a batch of one row."""
    model = onnx.load_from_string(elsewhere())
    for node in model.graph.node:
        node.input[:] = ["one row" if name == "X" else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Reshape", ["X", "shape"], ["one row"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 3]), "shape"))
    for opset in model.opset_import:
        opset.version = 20 if opset.domain == "" else opset.version
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("data", "digest", "message"),
    [
        (b"not a model", None, "is not a valid ONNX model"),
        (elsewhere(), "sha256:" + "1" * 64, r"spec\.model\.digest is sha256:1+, but s3://.* has sha256:"),
        (None, None, "theirs"),
        (fixed_batch(), None, "theirs/ cannot be run on 1 rows at once: .*; export it with a batch of any size$"),
    ],
    ids=["broken", "digest", "absent", "batch"],
)
def test_eval5_what_cannot_be_taken_in_leaves_nothing(
    bench: Bench, data: bytes | None, digest: str | None, message: str
) -> None:
    if data is not None:
        bench.objects.put("theirs/model.onnx", data)
    with pytest.raises(Stalled, match=message):
        run(bench, work_for("theirs", bench.objects.uri("theirs/"), digest=digest))
    assert list(bench.objects.list("models/")) == []
    assert bench.catalogue.pending_events() == []
