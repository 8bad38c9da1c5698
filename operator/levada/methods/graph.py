"""A small ONNX graph under construction: what transforms and algorithms write their nodes into.

Names are counted, nothing is dated and nothing drawn at random: the same calls give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from levada.features.export import model

ML = "ai.onnx.ml"
DOUBLE: int = TensorProto.DOUBLE
FLOAT: int = TensorProto.FLOAT
INT64: int = TensorProto.INT64
STRING: int = TensorProto.STRING


class Graph:
    """Collects nodes; tensors are known by their names."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def _name(self, hint: str) -> str:
        self._count += 1
        return f"{hint}:{self._count}"  # no column has a colon in its name

    def input(self, name: str, type: int, width: int = 1) -> str:
        """A graph input of shape [N, width]."""
        self._inputs.append(helper.make_tensor_value_info(name, type, ["N", width]))
        return name

    def constant(self, values: npt.NDArray[Any]) -> str:
        """A constant tensor; equal ones are one. Texts are given as an object or str array."""
        if values.dtype.kind in "OU":
            values = values.astype(object)
            key = ("string", values.shape, "\0".join(values.ravel()).encode())
        else:
            key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            name = self._constants[key] = self._name("constant")
            self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return self._constants[key]

    def op(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The output of an operator."""
        name = self._name(op)
        self._nodes.append(helper.make_node(op, list(inputs), [name], domain=domain, **attributes))
        return name

    def output(self, name: str, tensor: str, type: int, width: int | None = None) -> None:
        """Make a tensor an output of the graph: [N, width], or [N] without a width."""
        shape: Sequence[str | int] = ["N"] if width is None else ["N", width]
        self._nodes.append(helper.make_node("Identity", [tensor], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, type, shape))

    def model(self, name: str) -> onnx.ModelProto:
        """The finished model, checked."""
        return model(helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._initializers))
