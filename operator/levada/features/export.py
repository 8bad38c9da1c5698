"""Writes derived features out as an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from levada.features.expressions import Derivation, derive
from levada.features.tape import Dtype, Node, reachable
from levada.features.types import IR_VERSION, ML_OPSET, OPSET, ColumnType

ELEMENT_TYPES = {
    Dtype.DOUBLE: TensorProto.DOUBLE,
    Dtype.FLOAT: TensorProto.FLOAT,
    Dtype.INT64: TensorProto.INT64,
    Dtype.STRING: TensorProto.STRING,
    Dtype.BOOL: TensorProto.BOOL,
}
ARRAY_TYPES = {Dtype.DOUBLE: np.float64, Dtype.INT64: np.int64, Dtype.BOOL: np.bool_, Dtype.STRING: np.object_}
ROWS = "rows"  # the name of the dynamic dimension


@dataclass(frozen=True)
class Fragment:
    """The parts of a graph. inputs and outputs are of shape [N, 1]; outputs are named as the features."""

    nodes: list[onnx.NodeProto]
    initializers: list[onnx.TensorProto]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]


def fragment(derivation: Derivation, prefix: str = "derived/") -> Fragment:
    """The nodes that the outputs need, inner names behind `prefix` (or a longer one, should a column begin so)."""
    nodes = reachable(tuple(derivation.outputs.values()))
    outer = [*derivation.outputs, *(node.name for node in nodes)]
    while any(name.startswith(prefix) for name in outer):
        prefix = f"_{prefix}"
    names = {node.serial: node.name or f"{prefix}{node.serial}" for node in nodes}
    copies: list[tuple[str, str]] = []
    for name, node in derivation.outputs.items():
        if node.op == "Input" or names[node.serial] in derivation.outputs:
            copies.append((names[node.serial], name))
        else:
            names[node.serial] = name
    written = [
        helper.make_node(
            node.op,
            [names[operand.serial] for operand in node.inputs],
            [names[node.serial]],
            name=f"{prefix}{node.op}.{node.serial}",
            domain=node.domain,
            **_attributes(node),
        )
        for node in nodes
        if node.op not in ("Input", "Constant")
    ]
    written += [helper.make_node("Identity", [source], [name], name=f"{prefix}{name}") for source, name in copies]
    return Fragment(
        nodes=written,
        initializers=[_initializer(node, names[node.serial]) for node in nodes if node.op == "Constant"],
        inputs=[column(node.name, node.dtype) for node in nodes if node.op == "Input"],
        outputs=[column(name, node.dtype) for name, node in derivation.outputs.items()],
    )


def compile_derived(derived: Sequence[tuple[str, str]], columns: Mapping[str, ColumnType]) -> onnx.ModelProto:
    """Derived features, each a name and an expression over `columns` and the features before it, as one graph.

    Only columns that are needed are inputs. Inputs and outputs are as types.py says: [N, 1], named as the columns and
    the features.

    Raises:
        ExpressionError: a name is taken, or an expression cannot be compiled; the sentence names the feature.
    """
    parts = fragment(derive(derived, columns))
    graph = helper.make_graph(parts.nodes, "derived", parts.inputs, parts.outputs, parts.initializers)
    return model(graph)


def model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """A checked model of a graph, with the operator sets that all of Levada's graphs share."""
    made = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        producer_name="levada",
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def column(name: str, dtype: Dtype) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], [ROWS, 1])


def _initializer(node: Node, name: str) -> onnx.TensorProto:
    values: np.ndarray[Any, Any] = np.array(node.values, dtype=ARRAY_TYPES[node.dtype]).reshape(node.shape)
    return numpy_helper.from_array(values, name)


def _attributes(node: Node) -> dict[str, Any]:
    attributes: dict[str, Any] = dict(node.attributes)
    if node.op == "Cast":
        attributes["to"] = ELEMENT_TYPES[node.dtype]
    return attributes
