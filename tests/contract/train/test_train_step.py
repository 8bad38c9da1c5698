"""The train step against the real stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from levada import names
from levada.artifacts import FeatureManifest, LookupColumn, LookupSpec, ModelManifest, SplitManifest
from levada.errors import Stalled
from levada.events import EventType
from levada.features.model import OnnxModel
from levada.features.tensors import to_tensor
from levada.features.types import ColumnType
from levada.methods.algorithms import ALGORITHMS
from levada.methods.algorithms.estimators import Classifier
from levada.resources.conditions import Reason
from levada.steps import train
from levada.steps.rows import numbers_of
from tests.support.steps import Bench
from tests.support.training import DERIVE, FEATURES, model_of, run_training, things, train_context, train_work
from tests.support.versions import write_version


def version(bench: Bench, table: pa.Table | None = None, **more: Any) -> FeatureManifest:
    settings: dict[str, Any] = {"keys": ["id"], "timestamp": "at", "features": FEATURES, "derive": DERIVE} | more
    return write_version(bench.objects, things() if table is None else table, **settings)


def split_of(bench: Bench, model: ModelManifest) -> SplitManifest:
    assert model.split_prefix is not None
    return SplitManifest.from_bytes(bench.objects.get(model.split_prefix + names.MANIFEST))


def scores(bench: Bench, model: ModelManifest, table: pa.Table) -> dict[str, Any]:
    prefix = names.model_prefix(model.namespace, model.candidate)
    session = OnnxModel(bench.objects.get(prefix + model.onnx.key))
    return session.run_all({c.name: to_tensor(table.column(c.name), c.type, c.name) for c in model.inputs})


def test_train6_one_graph_takes_stored_columns_and_gives_label_and_probabilities(bench: Bench) -> None:
    candidate = run_training(bench, train_work(version(bench)))
    model = model_of(bench, candidate)
    assert [(c.name, c.type) for c in model.inputs] == [
        ("weight", ColumnType.FLOAT64),
        ("count", ColumnType.INT64),
        ("kind", ColumnType.STRING),
        ("size", ColumnType.FLOAT64),
    ]
    assert [output.name for output in model.outputs] == ["label", "probabilities"]
    assert model.classes == [False, True]
    found = scores(bench, model, things())
    assert found["probabilities"].shape == (400, 2)
    truth = things()["label"].to_numpy()
    assert np.mean((found["probabilities"][:, 1] > 0.5) == truth) > 0.85
    assert model.parity is not None
    assert model.parity.rows == 400
    assert model.parity.max_abs <= 1e-5


def test_train5_everything_about_a_candidate_is_kept(bench: Bench) -> None:
    manifest = version(bench)
    algorithm = {"name": "forest", "type": "randomForest", "params": {"trees": 10}}
    model = model_of(bench, run_training(bench, train_work(manifest, [algorithm])))
    assert (model.algorithm, model.type, model.params) == ("forest", "randomForest", {"trees": 10})
    assert model.feature_names == ["kind=a", "kind=b", "kind=c", "size", "weight", "count", "load"]
    assert set(model.learned["importances"]) == set(model.feature_names)
    assert model.learned["transforms"][1]["steps"][0]["impute"]["fill"]["size"] == pytest.approx(10, abs=1)
    assert model.rows == {"train": 320, "test": 80}
    assert set(model.timings) >= {"split", "transform", "fit", "convert", "verify"}
    assert (model.feature_set_version, model.batches) == (manifest.version, manifest.inputs)
    assert (model.label, model.training_run) == ("label", "things-run")


def test_train2_every_index_fits_its_own_algorithm_on_the_same_split(bench: Bench) -> None:
    algorithms: list[dict[str, Any]] = [
        {"name": "tree", "type": "decisionTree"},
        {"name": "boosted", "type": "boostedTrees", "params": {"maxIterations": 10}},
    ]
    work = train_work(version(bench), algorithms)
    candidates = [run_training(bench, work, index) for index in (1, 0)]
    models = [model_of(bench, candidate) for candidate in candidates]
    assert [model.type for model in models] == ["boostedTrees", "decisionTree"]
    assert models[0].split == models[1].split
    assert len({candidate.split_digest for candidate in candidates}) == 1


@pytest.mark.parametrize(
    ("task", "label", "algorithm"),
    [
        ("regression", "price", "linearRegression"),
        ("clustering", None, "kMeans"),
        ("regression", "count", "boostedTrees"),
    ],
)
def test_train2_tasks_besides_classification(bench: Bench, task: str, label: str | None, algorithm: str) -> None:
    manifest = version(bench, label=label, features=["size", "weight", "kind"], derive=())
    model = model_of(bench, run_training(bench, train_work(manifest, [{"name": "one", "type": algorithm}], task=task)))
    found = scores(bench, model, things())
    if task == "clustering":
        assert set(found) == {"cluster", "distance"}
        assert model.label is None
    else:
        assert found["prediction"].shape == (400, 1)
        assert model.classes == []


def test_train2_text_labels_stay_texts(bench: Bench) -> None:
    manifest = version(bench, label="kind", features=["size", "weight"], derive=())
    model = model_of(bench, run_training(bench, train_work(manifest, [{"name": "one", "type": "decisionTree"}])))
    assert model.classes == ["a", "b", "c"]
    assert set(scores(bench, model, things())["label"]) <= {"a", "b", "c"}


def test_train4_run_again_nothing_is_done_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    work = train_work(version(bench))
    first = run_training(bench, work)
    written = {info.key: info.etag for info in bench.objects.list("")}
    monkeypatch.setattr("levada.steps.train.fit.fit", lambda *_: pytest.fail("fitted again"))
    assert run_training(bench, work) == first
    assert {info.key: info.etag for info in bench.objects.list("")} == written
    events = [event.type for event in bench.catalogue.pending_events()]
    assert sorted(events) == [EventType.MODEL_TRAINED, EventType.SPLIT_CREATED]


def test_train4_killed_before_the_manifest_the_same_bytes_are_written_again(bench: Bench) -> None:
    algorithm = {"name": "boosted", "type": "boostedTrees", "params": {"maxIterations": 10}}
    work = train_work(version(bench), [algorithm])
    first = model_of(bench, run_training(bench, work))
    bench.objects.delete_prefix(names.model_prefix(first.namespace, first.candidate))
    again = model_of(bench, run_training(bench, work))
    assert again.onnx == first.onnx
    ignored = {"created_at", "timings"}
    assert again.model_dump(exclude=ignored) == first.model_dump(exclude=ignored)


def test_train5_lineage_goes_back_to_the_batch(bench: Bench) -> None:
    candidate = run_training(bench, train_work(version(bench)))
    kinds = {node.type for node in bench.catalogue.lineage(candidate.name)}
    assert {"candidate", "split"} <= kinds


def test_split2_a_split_is_kept_with_where_it_comes_from(bench: Bench) -> None:
    manifest = version(bench)
    split = {"type": "sequential", "ratios": {"train": 0.5, "validation": 0.25, "test": 0.25}, "shuffle": False}
    model = model_of(bench, run_training(bench, train_work(manifest, split=split)))
    kept = split_of(bench, model)
    assert [(part.name, part.ranges) for part in kept.parts] == [
        ("train", [(0, 200)]),
        ("validation", [(200, 300)]),
        ("test", [(300, 400)]),
    ]
    assert (kept.version, kept.training_run) == (manifest.version, "things-run")


def test_split2_row_numbers_that_are_scattered_go_to_a_file(bench: Bench) -> None:
    model = model_of(bench, run_training(bench, train_work(version(bench))))
    kept = split_of(bench, model)
    assert model.split_prefix is not None
    parts = {part.name: numbers_of(kept, part.name, bench.objects, model.split_prefix) for part in kept.parts}
    assert all(part.file is not None for part in kept.parts)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(400))
    assert len(parts["test"]) == 80


def test_split3_an_uneven_label_is_a_warning_that_names_both_shares(bench: Bench) -> None:
    table = things().sort_by("label")
    context = train_context(bench, train_work(version(bench, table), split={"type": "sequential"}))
    train.run(context)
    (sentence,) = [warning for warning in context.warnings if "class 'True'" in warning]
    assert "has a share of 100.0% in the test part and of" in sentence


def test_split3_features_that_moved_are_one_warning(bench: Bench) -> None:
    table = things().sort_by("size")
    context = train_context(bench, train_work(version(bench, table), split={"type": "sequential"}))
    train.run(context)
    (sentence,) = [
        warning for warning in context.warnings if "features differ" in warning or "feature differs" in warning
    ]
    assert "size (" in sentence
    model = model_of(bench, train.run(context).candidate)
    assert sentence in split_of(bench, model).warnings


def test_split3_an_even_split_has_no_warning(bench: Bench) -> None:
    table = things(4000)
    context = train_context(bench, train_work(version(bench, table), split={"type": "stratified"}))
    train.run(context)
    assert context.warnings == []


@pytest.mark.parametrize("value", [1e200, np.finfo(np.float64).max])
def test_split3_figures_that_no_double_can_hold_are_left_out(bench: Bench, value: float) -> None:
    table = replace(things(), "size", np.where(np.arange(400) % 2, value, 1.0))
    transform = [{"columns": ["size"], "steps": [{"clip": {"max": 10}}]}]
    work = train_work(version(bench, table), split={"type": "sequential"}, transform=transform)
    statistics = split_of(bench, model_of(bench, run_training(bench, work))).statistics["train"]
    assert "std:size" not in statistics
    assert np.isfinite(list(statistics.values())).all()


def test_rows_without_a_label_are_left_out_with_their_count(bench: Bench) -> None:
    table = things()
    holes = pc.if_else(pc.less(table["id"], 30), pa.scalar(None, pa.bool_()), table["label"])
    table = table.set_column(table.column_names.index("label"), "label", holes)
    work = train_work(version(bench, table), split={"type": "sequential", "shuffle": False})
    context = train_context(bench, work)
    model = model_of(bench, train.run(context).candidate)
    assert "the label 'label' is missing in 30 of 400 rows, which are left out" in context.warnings
    assert split_of(bench, model).parts[0].ranges == [(30, 326)]


def test_a_column_without_any_value_is_left_out_and_named(bench: Bench) -> None:
    table = things().append_column("empty", pa.nulls(400, pa.float64()))
    transform = [{"columns": ["empty", "size"], "steps": [{"impute": {}}, {"scale": "standard"}]}]
    work = train_work(version(bench, table, features=[*FEATURES, "empty"]), transform=transform)
    context = train_context(bench, work)
    model = model_of(bench, train.run(context).candidate)
    assert "empty" not in [column.name for column in model.inputs]
    assert any(warning.startswith("the feature 'empty' has no value") for warning in context.warnings)


IN_ORDER = {"split": {"type": "sequential", "shuffle": False}}
LINEAR = [{"name": "line", "type": "linearRegression"}]


def replace(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("change", "more", "work", "reason", "message"),
    [
        ({"label": [True] * 400}, {}, {}, Reason.CONSTANT_LABEL, "the label 'label' is True in all 320 rows"),
        (
            {"label": [True] * 100 + [None] * 300},
            {},
            {},
            Reason.INVALID_DATA,
            "missing in 300 of 400 rows, more than half",
        ),
        ({}, {"label": "price"}, {}, Reason.INVALID_SPEC, "the label 'price' is of type float64.*task regression"),
        (
            {},
            {"label": "kind"},
            {"task": "regression", "algorithms": LINEAR},
            Reason.INVALID_SPEC,
            "of type string.*needs a number",
        ),
        ({}, {"label": None}, {}, Reason.INVALID_SPEC, "the feature set 'things' has no label"),
        (
            {},
            {"features": ["at", "size"], "derive": ()},
            {},
            Reason.INVALID_SPEC,
            "'at' .* is a timestamp.*derive numbers",
        ),
        ({"size": [float("inf")] * 400}, {}, {}, Reason.INVALID_DATA, "the feature 'size' is infinite in rows of the"),
        ({"size": [1.0] * 399 + [float("inf")]}, {}, IN_ORDER, Reason.INVALID_DATA, "'size' is infinite in row 399"),
        ({"size": [float("-inf")] + [1.0] * 399}, {}, IN_ORDER, Reason.INVALID_DATA, "'size' is infinite in row 0"),
        (
            {"size": [1.0, float("inf")] * 200},
            {},
            {"transform": [{"columns": ["size"], "steps": [{"scale": "standard"}]}]},
            Reason.INVALID_DATA,
            "the feature 'size' is infinite in rows of the training part, from which scale cannot learn",
        ),
        (
            {"size": [float("inf")] + [1.0] * 399},
            {},
            IN_ORDER | {"select": {"method": "anova", "k": 2}},
            Reason.INVALID_DATA,
            "'size' is infinite in row 0",
        ),
        (
            {},
            {},
            {"task": "clustering"},
            Reason.INVALID_SPEC,
            r"logisticRegression, which is not for the task clustering",
        ),
        ({}, {}, {"task": "forecast"}, Reason.INVALID_SPEC, "for which there is no algorithm yet"),
        (
            {},
            {},
            {"algorithms": [{"name": "one", "type": "boostedTrees", "params": {"learningrate": 1}}]},
            Reason.INVALID_SPEC,
            "'one' has no parameter 'learningrate'; did you mean 'learningRate'",
        ),
        (
            {},
            {},
            {"transform": [{"columns": ["sise"], "steps": [{"scale": "standard"}]}]},
            Reason.INVALID_SPEC,
            r"transform\[0\] names the column 'sise'",
        ),
        (
            {},
            {},
            {"transform": [{"columns": ["size"], "steps": [{"bin": 4}]}, {"columns": ["size"], "steps": [{"bin": 3}]}]},
            Reason.INVALID_SPEC,
            "'size' is named by two transforms",
        ),
        (
            {},
            {},
            {
                "transform": [{"columns": ["load"], "steps": [{"encode": {"unknown": "refuse"}}]}],
                "task": "classification",
            },
            Reason.INVALID_SPEC,
            "unknown: refuse.*'load' is derived",
        ),
        (
            {},
            {},
            {"select": {"method": "columns", "columns": ["colour"]}},
            Reason.INVALID_SPEC,
            "select names 'colour'",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_cannot_be_learnt_is_refused_in_one_sentence(
    bench: Bench, change: dict[str, Any], more: dict[str, Any], work: dict[str, Any], reason: Reason, message: str
) -> None:
    table = things()
    for name, values in change.items():
        table = replace(table, name, values)
    with pytest.raises(Stalled, match=message) as caught:
        run_training(bench, train_work(version(bench, table, **more), **work))
    assert caught.value.reason is reason
    assert "\n" not in caught.value.message
    assert list(bench.objects.list("models/")) == []


def test_too_few_rows_are_refused(bench: Bench) -> None:
    with pytest.raises(Stalled, match="the training part of the split has 8 rows, and at least 10") as caught:
        run_training(bench, train_work(version(bench, things(10))))
    assert caught.value.reason is Reason.NO_ROWS


def test_train6_a_model_that_its_onnx_twin_does_not_follow_is_refused_with_the_worst_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    faithful = Classifier.predict

    def unfaithful(self: Classifier, features: Any) -> Any:
        found = faithful(self, features)
        found["probabilities"][7] = [0.25, 0.75]
        return found

    monkeypatch.setattr(Classifier, "predict", unfaithful)
    candidate = run_training(bench, train_work(version(bench)))
    assert candidate.refused is not None
    assert candidate.refused.reason is Reason.PARITY_BROKEN
    assert "in row 7 (id=7, at=2024-01-01 07:00:00)" in candidate.refused.message
    assert "and the fitted model 0." in candidate.refused.message
    assert list(bench.objects.list("models/")) == []
    assert EventType.MODEL_TRAINED not in [event.type for event in bench.catalogue.pending_events()]


def test_train4_an_algorithm_that_cannot_be_fitted_is_refused_and_the_others_are_not(bench: Bench) -> None:
    manifest = version(bench, label=None, features=["size", "weight"], derive=())
    algorithms: list[dict[str, Any]] = [
        {"name": "many", "type": "kMeans", "params": {"clusters": 350}},
        {"name": "few", "type": "kMeans", "params": {"clusters": 3}},
    ]
    work = train_work(manifest, algorithms, task="clustering")
    refused = run_training(bench, work, 0)
    assert refused.refused is not None
    assert refused.refused.reason is Reason.INVALID_SPEC
    assert refused.refused.message.startswith("the algorithm 'many' (kMeans) cannot be fitted: n_samples=320 should be")
    assert model_of(bench, run_training(bench, work, 1)).algorithm == "few"


def test_prep3_selection_keeps_the_best_features_and_the_ranking(bench: Bench) -> None:
    model = model_of(bench, run_training(bench, train_work(version(bench), select={"method": "anova", "k": 2})))
    ranking = model.learned["ranking"]
    assert {name for name, _ in ranking[:2]} == set(model.feature_names)
    assert len(ranking) == 7
    assert [score for _, score in ranking] == sorted((score for _, score in ranking), reverse=True)


def test_prep3_of_features_that_would_have_the_same_name_the_better_is_kept(bench: Bench) -> None:
    """A category is called as what stands for all that are rare."""
    table = things()
    places = [row % 20 for row in range(table.num_rows)]
    kinds = ["a" if place < 7 else "other" if place < 12 else f"rare {place}" for place in places]
    table = table.set_column(table.column_names.index("kind"), "kind", pa.array(kinds))
    work = train_work(
        version(bench, table, features=["kind"]),
        transform=[{"columns": ["kind"], "steps": [{"encode": {"maxCategories": 3}}]}],
        select={"method": "variance", "k": 2},
    )
    model = model_of(bench, run_training(bench, work))
    assert model.feature_names == ["kind=a", "kind=other (2)"]
    assert [name for name, _ in model.learned["ranking"]] == ["kind=other (2)", "kind=a", "kind=other"]


def test_prep3_columns_that_no_kept_feature_needs_are_not_asked_for(bench: Bench) -> None:
    select = {"method": "columns", "columns": ["size", "kind"]}
    model = model_of(bench, run_training(bench, train_work(version(bench), select=select)))
    assert model.feature_names == ["kind=a", "kind=b", "kind=c", "size"]
    assert {column.name for column in model.request} == {"size", "kind"}


def test_prep2_gaps_that_transforms_leave_are_filled_for_algorithms_that_take_none(bench: Bench) -> None:
    transform = [{"columns": ["size"], "steps": [{"scale": "standard"}]}]
    algorithms: Sequence[dict[str, Any]] = [
        {"name": "logistic", "type": "logisticRegression"},
        {"name": "boosted", "type": "boostedTrees", "params": {"maxIterations": 5}},
    ]
    work = train_work(version(bench), algorithms, transform=transform)
    for index in (0, 1):
        found = scores(bench, model_of(bench, run_training(bench, work, index)), things())
        assert not np.isnan(found["probabilities"]).any()


def test_prep2_what_unseen_categories_are_refused_is_in_the_manifest(bench: Bench) -> None:
    transform = [{"columns": ["kind"], "steps": [{"encode": {"unknown": "refuse"}}]}]
    model = model_of(bench, run_training(bench, train_work(version(bench), transform=transform)))
    assert model.accepted == {"kind": ["a", "b", "c"]}


def test_a_caller_brings_the_keys_of_lookups_and_nothing_of_what_is_looked_up(bench: Bench) -> None:
    def lookup(name: str, column: str) -> LookupSpec:
        return LookupSpec(
            feature_set=name,
            namespace="default",
            version="features-1",
            prefix="p/",
            on=["id"],
            keys=["id"],
            key_types=[ColumnType.INT64],
            as_of="at",
            timestamp="at",
            columns=[
                LookupColumn(source=column, name=column, type=ColumnType.FLOAT64),
                LookupColumn(source="price", name="price", type=ColumnType.FLOAT64),
            ],
        )

    manifest = version(
        bench, features=["size", "kind"], derive=(), lookups=[lookup("sizes", "size"), lookup("weights", "weight")]
    )
    model = model_of(bench, run_training(bench, train_work(manifest)))
    assert [column.name for column in model.request] == ["id", "at", "kind"]
    assert [(spec.feature_set, [c.name for c in spec.columns]) for spec in model.lookups] == [("sizes", ["size"])]


def test_an_output_that_has_the_name_of_a_column_is_named_otherwise(bench: Bench) -> None:
    table = things().rename_columns({"size": "distance"})
    manifest = version(bench, table, label=None, features=["distance", "weight"], derive=())
    work = train_work(manifest, [{"name": "one", "type": "kMeans", "params": {"clusters": 2}}], task="clustering")
    model = model_of(bench, run_training(bench, work))
    assert [(output.name, output.kind) for output in model.outputs] == [
        ("cluster", "cluster"),
        ("model_distance", "distance"),
    ]


def test_train6_models_say_nothing_of_when_and_where_they_were_made(bench: Bench) -> None:
    candidate = run_training(bench, train_work(version(bench)))
    model = onnx.load_from_string(bench.objects.get(candidate.prefix + "model.onnx"))
    assert (model.producer_name, model.producer_version, model.doc_string) == ("levada", "", "")


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_conformance_every_algorithm_trains_through_the_whole_step(bench: Bench, name: str) -> None:
    task = sorted(ALGORITHMS[name].tasks)[0]
    label = {"classification": "label", "regression": "price", "clustering": None}[task]
    manifest = version(bench, label=label, features=["size", "weight", "kind", "count"], derive=())
    model = model_of(bench, run_training(bench, train_work(manifest, [{"name": "one", "type": name}], task=task)))
    assert model.parity is not None
    assert model.parity.max_abs <= model.parity.tolerance
