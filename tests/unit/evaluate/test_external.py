"""Models that were trained elsewhere (EVAL-5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from levada.errors import Stalled
from levada.features.model import OnnxModel
from levada.features.types import ColumnType
from levada.resources.conditions import Reason
from levada.resources.trainingrun import Task
from levada.steps.evaluate.external import Adapted, adapt

FEATURES = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)


def run(adapted: Adapted, columns: dict[str, Any]) -> dict[str, Any]:
    return OnnxModel(adapted.model.SerializeToString()).run_all(columns)


def columns_of(name: str) -> dict[str, Any]:
    return {f"{name}_{i}": FEATURES[:, i : i + 1].astype(np.float64) for i in range(3)}


@pytest.mark.parametrize("opset", [12, 15, 18, 20])
@pytest.mark.parametrize("labels", [[0, 1], ["no", "yes"]])
def test_eval5_a_classifier_of_one_matrix_becomes_columns(opset: int, labels: list[Any]) -> None:
    truth = np.array(labels)[(FEATURES[:, 0] > 0).astype(int)]
    estimator = LogisticRegression().fit(FEATURES, truth)
    model = to_onnx(estimator, FEATURES[:1], options={"zipmap": False}, target_opset=opset)
    adapted = adapt(model, "classification")
    assert [(c.name, c.type) for c in adapted.inputs] == [(f"X_{i}", ColumnType.FLOAT64) for i in range(3)]
    assert adapted.classes == labels
    found = run(adapted, columns_of("X"))
    assert np.allclose(found["probabilities"], estimator.predict_proba(FEATURES), atol=1e-5)
    assert found["label"].tolist() == estimator.predict(FEATURES).tolist()


def test_eval5_a_regressor_gives_predictions() -> None:
    estimator = LinearRegression().fit(FEATURES, FEATURES[:, 0] * 3)
    adapted = adapt(to_onnx(estimator, FEATURES[:1], target_opset=18), "regression")
    found = run(adapted, columns_of("X"))
    assert found["prediction"].shape == (60, 1)
    assert np.allclose(found["prediction"][:, 0], FEATURES[:, 0] * 3, atol=1e-5)


def test_eval5_named_inputs_keep_their_names_and_types() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"kind": ["a", "b"] * 30, "size": FEATURES[:, 0], "count": np.arange(60)})
    encoder = ColumnTransformer([("kind", OneHotEncoder(), ["kind"]), ("rest", "passthrough", ["size"])])
    estimator = make_pipeline(encoder, LogisticRegression()).fit(table, table["kind"] == "a")
    kinds = [
        ("kind", StringTensorType([None, 1])),
        ("size", FloatTensorType([None, 1])),
        ("count", Int64TensorType([None, 1])),
    ]
    model = to_onnx(estimator, initial_types=kinds, options={"zipmap": False}, target_opset=18)
    adapted = adapt(model, "classification")
    assert [(c.name, c.type) for c in adapted.inputs] == [
        ("kind", ColumnType.STRING),
        ("size", ColumnType.FLOAT64),
    ]
    found = run(
        adapted,
        {
            "kind": table[["kind"]].to_numpy(dtype=object),
            "size": table[["size"]].to_numpy(dtype=np.float64),
        },
    )
    assert np.allclose(found["probabilities"], estimator.predict_proba(table), atol=1e-5)


def small(inputs: list[Any], outputs: list[Any], op: str = "Identity") -> onnx.ModelProto:
    node = helper.make_node(op, [inputs[0].name], [outputs[0].name])
    graph = helper.make_graph([node], "small", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def value(name: str, element: int, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, element, list(shape))


def test_eval5_vectors_are_columns_too() -> None:
    model = small([value("x", TensorProto.FLOAT, "N")], [value("y", TensorProto.FLOAT, "N")])
    found = run(adapt(model, "regression"), {"x": np.array([[1.0], [2.0]])})
    assert found["prediction"].tolist() == [[1], [2]]


def test_eval5_clusters_need_no_distance() -> None:
    model = small([value("x", TensorProto.INT64, "N", 1)], [value("y", TensorProto.INT64, "N", 1)])
    found = run(adapt(model, "clustering"), {"x": np.array([[1.0], [2.0]])})
    assert found["cluster"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        (
            small([value("x", TensorProto.FLOAT, "N", 3, 3)], [value("y", TensorProto.FLOAT, "N", 3, 3)]),
            "regression",
            "its input 'x' has not the shape",
        ),
        (
            small([value("x", TensorProto.FLOAT16, "N", 1)], [value("y", TensorProto.FLOAT16, "N", 1)]),
            "regression",
            "its input 'x' holds neither floats",
        ),
        (
            small([value("x", TensorProto.FLOAT, "N", 1)], [value("y", TensorProto.FLOAT, "N", 1)]),
            "classification",
            "needs an output of labels",
        ),
        (
            small([value("x", TensorProto.STRING, "N", 1)], [value("y", TensorProto.STRING, "N", 1)]),
            "regression",
            "needs an output of numbers",
        ),
    ],
    ids=["shape", "type", "labels", "numbers"],
)
def test_eval5_what_cannot_be_adapted_is_said(model: onnx.ModelProto, task: Task, message: str) -> None:
    with pytest.raises(Stalled, match=f"the model cannot be taken in: .*{message}") as caught:
        adapt(model, task)
    assert caught.value.reason is Reason.NOT_SUPPORTED


def test_eval5_a_model_with_zipmap_is_told_how_to_be_converted() -> None:
    estimator = LogisticRegression().fit(FEATURES, FEATURES[:, 0] > 0)
    with pytest.raises(Stalled, match="convert it with zipmap switched off"):
        adapt(to_onnx(estimator, FEATURES[:1], target_opset=18), "classification")
