"""A row gets the same bits in any batch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, compose, helper
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier

from levada.features.model import BLOCK
from levada.features.types import IR_VERSION, ML_OPSET, OPSET
from levada.serving.errors import ModelError
from levada.serving.session import Session, operators
from tests.unit.serving import small

OPSETS = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
WIDTH = 12
ROWS = 256


def of_operator(op: str, kind: int) -> bytes:
    """A graph of one operator over the input x [N, 1]."""
    x, y = (helper.make_tensor_value_info(name, kind, [None, 1]) for name in ("x", "y"))
    made = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "one", [x], [y])
    return bytes(helper.make_model(made, opset_imports=OPSETS, ir_version=IR_VERSION).SerializeToString())


def of_model(model: Any) -> bytes:
    """A fitted scikit-learn model with its inputs as columns c0 … of type double."""
    names = [f"c{i}" for i in range(WIDTH)]
    inputs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 1]) for name in names]
    matrix = helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [None, WIDTH])
    nodes = [
        helper.make_node("Concat", names, ["wide"], axis=1),
        helper.make_node("Cast", ["wide"], ["matrix"], to=TensorProto.FLOAT),
    ]
    columns = helper.make_graph(nodes, "columns", inputs, [matrix])
    first = helper.make_model(columns, opset_imports=OPSETS, ir_version=IR_VERSION)
    options = {"zipmap": False} if hasattr(model, "predict_proba") else None
    opsets = {"": OPSET, "ai.onnx.ml": ML_OPSET}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # skl2onnx hands numpy's numbers to protobuf
        second = to_onnx(model, np.zeros((1, WIDTH), np.float32), target_opset=opsets, options=options)
    second.ir_version = IR_VERSION
    del second.opset_import[:]
    second.opset_import.extend(OPSETS)
    merged = compose.merge_models(first, second, io_map=[("matrix", second.graph.input[0].name)])
    return bytes(merged.SerializeToString())


def run(session: Session, feeds: dict[str, Any]) -> list[Any]:
    """The outputs for inputs [N, 1], padded as scorers pad them."""
    rows = len(next(iter(feeds.values())))
    padded = session.padded({name: array.ravel() for name, array in feeds.items()})
    return [output[:rows] for output in session.run_padded(padded)]


def assert_same_bits_in_any_batch(session: Session, feeds: dict[str, Any]) -> None:
    whole = run(session, feeds)
    for size in (1, 2, 3, 4, 5, 7, 16, 33):
        for start in range(0, ROWS, size):
            part = run(session, {name: array[start : start + size] for name, array in feeds.items()})
            for few, many in zip(part, whole, strict=True):
                assert few.tobytes() == many[start : start + size].tobytes(), f"{size} rows from {start}"


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
@pytest.mark.parametrize("op", ["Log", "Exp", "Sin", "Cos", "Tanh", "Sigmoid", "Sqrt", "Abs"])
def test_score1_a_function_gives_a_row_the_same_bits_in_any_batch(op: str, kind: int) -> None:
    dtype = np.float32 if kind == TensorProto.FLOAT else np.float64
    values = np.random.default_rng(7).uniform(0.01, 0.99, (ROWS, 1)).astype(dtype)
    assert_same_bits_in_any_batch(Session(of_operator(op, kind)), {"x": values})


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        LinearRegression(),
        MLPClassifier((8,), max_iter=200, tol=0.01, random_state=0),
        HistGradientBoostingClassifier(max_iter=20),
        RandomForestRegressor(20, max_depth=6, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_score1_a_model_gives_a_row_the_same_bits_in_any_batch(model: Any) -> None:
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(2000, WIDTH))
    model.fit(rows.astype(np.float32), (rows[:, 0] + rows[:, 1] * rows[:, 2] > 0).astype(int))
    feeds = {f"c{i}": rows[:ROWS, i : i + 1].copy() for i in range(WIDTH)}
    assert_same_bits_in_any_batch(Session(of_model(model)), feeds)


def test_score5_runs_are_padded_only_where_the_graph_needs_it() -> None:
    assert Session(of_operator("Abs", TensorProto.DOUBLE)).block == 1
    assert Session(of_operator("Log", TensorProto.DOUBLE)).block == BLOCK
    trees = HistGradientBoostingClassifier(max_iter=2).fit(np.eye(WIDTH, dtype=np.float32), np.arange(WIDTH) % 2)
    assert Session(of_model(trees)).block == 1


def test_score1_without_padding_bits_do_differ() -> None:
    """What the padding is for: if onnxruntime stops doing so, the padding can go."""
    session = Session(of_operator("Log", TensorProto.DOUBLE))
    values = np.random.default_rng(7).uniform(0.01, 0.99, (4096, 1))
    whole = session.run_padded({"x": values})[0]
    single = np.concatenate([session.run_padded({"x": values[i : i + 1]})[0] for i in range(len(values))])
    assert (whole != single).any()


def test_operators_in_subgraphs_are_found() -> None:
    then, other = (
        helper.make_graph(
            [helper.make_node(op, ["x"], [f"{op}_out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_out", TensorProto.DOUBLE, [None, 1])],
        )
        for op in ("Log", "Exp")
    )
    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True]))
    choose = helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)
    x, y = (helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 1]) for name in ("x", "y"))
    made = helper.make_model(
        helper.make_graph([yes, choose], "g", [x], [y]), opset_imports=OPSETS, ir_version=IR_VERSION
    )
    assert operators(made.SerializeToString()) == {"Constant", "If", "Log", "Exp"}


@pytest.mark.parametrize("data", [b"", b"not a model", small.graph()[:-100]])
def test_dep1_a_file_that_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"the file is not an ONNX model|onnxruntime cannot load the model"):
        Session(data)


def test_dep1_a_graph_with_a_matrix_as_input_is_refused() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in ("x", "y"))
    made = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "one", [x], [y])
    data = helper.make_model(made, opset_imports=OPSETS, ir_version=IR_VERSION).SerializeToString()
    with pytest.raises(ModelError, match="the graph's input 'x' is tensor"):
        Session(data)
