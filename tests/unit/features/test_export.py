"""The graphs that derived features become."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from levada.features.export import compile_derived
from levada.features.types import ML_OPSET, NULL_STRING, NULL_TIME, OPSET, ColumnType, ExpressionError

COLUMNS = {
    "i": ColumnType.INT64,
    "x": ColumnType.FLOAT64,
    "s": ColumnType.STRING,
    "b": ColumnType.BOOLEAN,
    "ts": ColumnType.TIMESTAMP,
    "d": ColumnType.DATE,
}


def run(model: onnx.ModelProto, **columns: list[Any]) -> dict[str, list[Any]]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    dtypes = {"tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(string)": np.object_}
    feeds: dict[str, Any] = {
        entry.name: np.array(columns[entry.name], dtypes[entry.type]).reshape(-1, 1) for entry in session.get_inputs()
    }
    names = [output.name for output in session.get_outputs()]
    return {name: cells.ravel().tolist() for name, cells in zip(names, session.run(None, feeds), strict=True)}


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def inputs(model: onnx.ModelProto) -> list[str]:
    return [entry.name for entry in model.graph.input]


def test_prep9_only_columns_that_are_needed_are_inputs() -> None:
    model = compile_derived([("a", "i + 1"), ("c", "hour(ts)")], COLUMNS)
    assert sorted(inputs(model)) == ["i", "ts"]
    assert [output.name for output in model.graph.output] == ["a", "c"]


def test_shapes_names_and_operator_sets_are_the_shared_ones() -> None:
    model = compile_derived([("a", "i + 1"), ("b2", "s || 'x'"), ("c", "ts + INTERVAL 1 DAY")], COLUMNS)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET, "ai.onnx.ml": ML_OPSET}
    for entry in (*model.graph.input, *model.graph.output):
        first, second = entry.type.tensor_type.shape.dim
        assert first.dim_param
        assert second.dim_value == 1
    kinds = {entry.name: entry.type.tensor_type.elem_type for entry in (*model.graph.input, *model.graph.output)}
    double, text, integer = onnx.TensorProto.DOUBLE, onnx.TensorProto.STRING, onnx.TensorProto.INT64
    assert kinds == {"i": double, "s": text, "ts": integer, "a": double, "b2": text, "c": integer}


def test_common_parts_of_features_are_computed_once() -> None:
    alone = compile_derived([("a", "week(ts)")], COLUMNS)
    both = compile_derived([("a", "week(ts)"), ("c", "week(ts) * 2"), ("e", "week(ts) > 20")], COLUMNS)
    assert sum(operators(both).values()) <= sum(operators(alone).values()) + 5


def test_constants_are_folded() -> None:
    model = compile_derived([("a", "x * (2 * pi() / (60 * 24))")], COLUMNS)
    assert operators(model) == {"Mul": 1}
    assert operators(compile_derived([("a", "CASE WHEN 1 > 2 THEN s ELSE 'x' || s END")], COLUMNS))["Where"] <= 1


def test_conditions_cost_few_nodes() -> None:
    assert operators(compile_derived([("a", "CASE WHEN x > 1 THEN 1 ELSE 0 END")], COLUMNS)) == {
        "Greater": 1,
        "Where": 1,
    }
    assert operators(compile_derived([("a", "coalesce(x, 0)")], COLUMNS)) == {"IsNaN": 1, "Where": 1}
    assert operators(compile_derived([("a", "x IS NULL")], COLUMNS)) == {"IsNaN": 1, "Cast": 1}


def test_feature_uses_the_value_of_an_earlier_one() -> None:
    model = compile_derived([("a", "i * 0.1"), ("c", "a * 10 = i"), ("e", "a")], COLUMNS)
    assert run(model, i=[7, 3]) == {"a": [0.7, 0.3], "c": [1.0, 1.0], "e": [0.7, 0.3]}


def test_feature_may_be_a_column_as_it_is_and_two_features_the_same() -> None:
    model = compile_derived([("a", "x"), ("c", "(x)"), ("e", "x + 1"), ("f", "1 + x"), ("g", "x + 1")], COLUMNS)
    assert run(model, x=[1.5]) == {"a": [1.5], "c": [1.5], "e": [2.5], "f": [2.5], "g": [2.5]}


def test_feature_that_comes_out_constant_has_a_value_for_each_row() -> None:
    derived = [
        ("a", "coalesce(1, x)"),
        ("c", "CASE WHEN true THEN 'yes' ELSE s END"),
        ("e", "if(true, power(2, 0.5), x)"),
    ]
    model = compile_derived([*derived, ("f", "a + 1"), ("g", "ts IS NULL OR true")], COLUMNS)
    result = run(model, x=[5, 6], s=["p", "q"], ts=[0, 1])
    root = 2**0.5
    assert result == {"a": [1, 1], "c": ["yes", "yes"], "e": [root, root], "f": [2, 2], "g": [1, 1]}


def test_no_row_gives_no_row() -> None:
    model = compile_derived([("a", "sin(x)"), ("c", "i IN (1, 2, 3, 4, 5)"), ("e", "coalesce(1, x)")], COLUMNS)
    assert run(model, x=[], i=[]) == {"a": [], "c": [], "e": []}


def test_nulls_stand_as_agreed() -> None:
    model = compile_derived([("a", "nullif(s, 'x')"), ("c", "nullif(ts, ts)"), ("e", "nullif(i, i)")], COLUMNS)
    result = run(model, s=["x", NULL_STRING, "y"], ts=[0, NULL_TIME, 5], i=[1, float("nan"), 2])
    assert result["a"] == [NULL_STRING, NULL_STRING, "y"]
    assert result["c"] == [NULL_TIME] * 3
    assert np.isnan(result["e"]).all()


@pytest.mark.parametrize("name", ["derived/2", "derived/3", "derived/4", "größe", "with space", "x.y"])
def test_names_may_hold_anything(name: str) -> None:
    model = compile_derived([(f"{name}!", f'"{name}" * 2 + i')], {name: ColumnType.INT64, "i": ColumnType.INT64})
    assert run(model, **{name: [4], "i": [1]}) == {f"{name}!": [9]}


def test_same_features_make_the_same_bytes() -> None:
    derived = [("a", "week(ts) + i"), ("c", "s IN ('p', 'q', 'r', 't')")]
    first, second = (compile_derived(derived, COLUMNS).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_mistakes_name_the_feature() -> None:
    with pytest.raises(ExpressionError, match="derived feature 'a': there is no column 'z'"):
        compile_derived([("a", "z")], COLUMNS)
