"""Graphs put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.preprocessing import StandardScaler

from levada.features.export import compile_derived
from levada.features.graph import OPSETS, Stage, merge
from levada.features.types import ColumnType

DOUBLE, FLOAT, BOOL = TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.BOOL


def small(nodes: list[onnx.NodeProto], inputs: str, outputs: str, *constants: onnx.TensorProto, **opsets: int) -> Any:
    """A model over columns of doubles."""
    takes, gives = (
        [helper.make_tensor_value_info(n, DOUBLE, ["N", 1]) for n in names.split()] for names in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "g", takes, gives, list(constants))
    versions = {"": OPSETS[""]} | {
        name.replace("ml", "ai.onnx.ml").replace("main", ""): v for name, v in opsets.items()
    }
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*entry) for entry in versions.items()], ir_version=9
    )


def number(name: str, value: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array([[value]], np.float64), name)


def plus(value: float, source: str = "x", target: str = "y") -> Any:
    """Adds a constant; all inner names are the same in each."""
    nodes = [helper.make_node("Add", [source, "c"], ["inner"]), helper.make_node("Identity", ["inner"], [target])]
    return small(nodes, source, target, number("c", value))


def run(model: onnx.ModelProto, **columns: Any) -> dict[str, Any]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert sorted(columns) == sorted(entry.name for entry in session.get_inputs())
    feeds = {name: np.array(cells, float).reshape(-1, 1) for name, cells in columns.items()}
    names = [entry.name for entry in session.get_outputs()]
    return {name: cells.ravel().tolist() for name, cells in zip(names, session.run(None, feeds), strict=True)}


def test_train6_features_transform_and_model_become_one_graph_with_the_same_answer() -> None:
    columns = {"dep": ColumnType.INT64, "distance": ColumnType.FLOAT64}
    derived = compile_derived([("hour", "dep // 100"), ("far", "coalesce(distance, 0) > 1000")], columns)
    pack = helper.make_graph(
        [
            helper.make_node("Concat", ["hour", "far", "distance"], ["all"], axis=1),
            helper.make_node("Cast", ["all"], ["X"], to=FLOAT),
        ],
        "pack",
        [helper.make_tensor_value_info(name, DOUBLE, ["N", 1]) for name in ("hour", "far", "distance")],
        [helper.make_tensor_value_info("X", FLOAT, ["N", 3])],
    )
    packed = helper.make_model(pack, opset_imports=[helper.make_opsetid("", OPSETS[""])], ir_version=9)
    random = np.random.default_rng(0)
    deps, distances = random.integers(0, 2400, 500).astype(float), random.uniform(50, 3000, 500)
    matrix = np.stack([deps // 100, distances > 1000, distances], axis=1).astype(np.float32)
    scaler = StandardScaler().fit(matrix)
    fitted = GradientBoostingClassifier(n_estimators=10, random_state=0)
    scale = to_onnx(scaler, matrix[:1], target_opset=OPSETS)
    scaled = ort.InferenceSession(scale.SerializeToString()).run(None, {"X": matrix})[0]
    fitted.fit(scaled, deps > 1200)
    predict = to_onnx(fitted, scaled[:1], target_opset=OPSETS, options={"zipmap": False})

    whole = merge(
        [
            Stage(derived, "derived/"),
            Stage(packed, "pack/"),
            Stage(scale, "scale/", outputs={"variable": "scaled"}),
            Stage(predict, "model/", inputs={"X": "scaled"}),
        ]
    )

    session = ort.InferenceSession(whole.SerializeToString())
    assert {entry.name: entry.type for entry in session.get_inputs()} == {
        "dep": "tensor(double)",
        "distance": "tensor(double)",
    }
    labels, probabilities = session.run(None, {"dep": deps.reshape(-1, 1), "distance": distances.reshape(-1, 1)})
    expected = ort.InferenceSession(predict.SerializeToString()).run(None, {"X": scaled})
    assert np.array_equal(labels, expected[0])
    assert np.array_equal(probabilities, expected[1])


def test_stages_with_the_same_inner_names_do_not_meet() -> None:
    whole = merge([Stage(plus(1), "a/"), Stage(plus(10, "y", "z"), "b/")])
    assert run(whole, x=[1, 2]) == {"z": [12, 13]}


def test_outputs_come_as_they_are_asked_for() -> None:
    stages = [Stage(plus(1), "a/"), Stage(plus(10, "y", "z"), "b/")]
    assert run(merge(stages, ["z", "y"]), x=[1]) == {"z": [12], "y": [2]}


def test_names_outside_may_differ() -> None:
    stages = [
        Stage(plus(1), "a/", inputs={"x": "in"}, outputs={"y": "mid"}),
        Stage(plus(10), "b/", inputs={"x": "mid"}),
    ]
    assert run(merge(stages), **{"in": [1]}) == {"y": [12]}


def test_later_stage_replaces_a_value_of_the_same_name() -> None:
    stages = [
        Stage(plus(1), "a/"),
        Stage(plus(10, "y", "w"), "b/", outputs={"w": "y"}),
        Stage(plus(100, "y", "z"), "c/"),
    ]
    assert run(merge(stages), x=[1]) == {"z": [112]}
    assert run(merge(stages, ["y"]), x=[1]) == {"y": [12]}


def test_what_no_output_needs_is_left_out() -> None:
    whole = merge([Stage(plus(1), "a/"), Stage(plus(2, "u", "v"), "b/"), Stage(plus(10, "y", "z"), "c/")], ["z"])
    assert [entry.name for entry in whole.graph.input] == ["x"]
    assert len(whole.graph.node) == 4
    assert len(whole.graph.initializer) == 2


def test_stages_share_an_input() -> None:
    whole = merge([Stage(plus(1), "a/"), Stage(plus(2, "x", "z"), "b/")], ["y", "z"])
    assert run(whole, x=[1]) == {"y": [2], "z": [3]}


def test_value_that_is_passed_on_unchanged_can_be_an_output() -> None:
    passing = small([helper.make_node("Identity", ["y"], ["p"])], "y", "p")
    whole = merge([Stage(plus(1), "a/"), Stage(passing, "b/", outputs={"p": "q"})], ["q", "y"])
    assert run(whole, x=[1]) == {"q": [2], "y": [2]}


def test_subgraphs_see_the_renamed_names() -> None:
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["x", "c"], ["out"])],
            name,
            [],
            [helper.make_tensor_value_info("out", DOUBLE, ["N", 1])],
        )
        for name, op in (("then", "Add"), ("else", "Sub"))
    }
    zero = numpy_helper.from_array(np.array(0, dtype=np.int64), "zero")
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["zero"], ["limit"], to=DOUBLE),
        helper.make_node("Greater", ["most", "limit"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], **branches),
    ]
    conditional = small(nodes, "x", "y", number("c", 5), zero)
    whole = merge([Stage(plus(1, "w", "x"), "a/"), Stage(conditional, "b/")])
    assert run(whole, w=[1]) == {"y": [7]}
    assert run(whole, w=[-9]) == {"y": [-13]}


def test_optional_inputs_that_are_absent_stay_absent() -> None:
    clip = small(
        [helper.make_node("Clip", ["x", "", "c"], ["y"])], "x", "y", numpy_helper.from_array(np.array(2.0), "c")
    )
    assert run(merge([Stage(clip, "a/")]), x=[-5, 5]) == {"y": [-5, 2]}


def test_older_tree_ensembles_are_taken_and_older_operators_refused() -> None:
    trees = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0],
        nodes_nodeids=[0],
        nodes_featureids=[0],
        nodes_values=[0.0],
        nodes_modes=["LEAF"],
        nodes_truenodeids=[0],
        nodes_falsenodeids=[0],
        target_treeids=[0],
        target_nodeids=[0],
        target_ids=[0],
        target_weights=[2.5],
    )
    old = small([trees], "x", "y", ml=1)
    old.graph.output[0].type.tensor_type.elem_type = FLOAT
    assert run(merge([Stage(old, "a/")]), x=[1, 2]) == {"y": [2.5, 2.5]}
    squeeze = small([helper.make_node("Clip", ["x"], ["y"], min=0.0)], "x", "y", main=6)
    with pytest.raises(ValueError, match=r"the stage 'a/' uses Clip of version 6 of the operator set 'ai.onnx'"):
        merge([Stage(squeeze, "a/")])
    assert run(merge([Stage(small([helper.make_node("Sin", ["x"], ["y"])], "x", "y", main=18), "a/")]), x=[0]) == {
        "y": [0]
    }


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="no stage gives 'q', only y"):
        merge([Stage(plus(1), "a/")], ["q"])
    other = small([helper.make_node("Identity", ["x"], ["z"])], "x", "z")
    other.graph.input[0].type.tensor_type.elem_type = BOOL
    with pytest.raises(ValueError, match="the input 'x' would have two types"):
        merge([Stage(plus(1), "a/"), Stage(other, "b/")])
    with pytest.raises(ValueError, match="'x' cannot be an input and an output: give the output another name"):
        merge([Stage(plus(1), "a/", outputs={"y": "x"})])
    foreign = small([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], "x", "y")
    with pytest.raises(ValueError, match=r"the stage 'a/' uses com.microsoft.Gelu, which is not standard ONNX"):
        merge([Stage(foreign, "a/")])


def test_stages_are_left_as_they_were() -> None:
    stages = [Stage(plus(1), "a/"), Stage(plus(10, "y", "z"), "b/")]
    before = [stage.model.SerializeToString() for stage in stages]
    merge(stages)
    assert [stage.model.SerializeToString() for stage in stages] == before
