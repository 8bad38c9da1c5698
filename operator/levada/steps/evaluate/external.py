"""Makes a model that was trained elsewhere take columns and give what Levada's own models give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx.version_converter
from onnx import TensorProto

from levada.artifacts import Output
from levada.errors import Stalled
from levada.features.graph import Stage, merge
from levada.features.types import OPSET, ColumnType
from levada.methods.graph import DOUBLE, FLOAT, INT64, STRING, Graph
from levada.resources.conditions import Reason
from levada.resources.dataset import Column
from levada.resources.trainingrun import Task

TYPES: dict[int, ColumnType] = {
    TensorProto.FLOAT: ColumnType.FLOAT64,
    TensorProto.DOUBLE: ColumnType.FLOAT64,
    TensorProto.INT64: ColumnType.INT64,
    TensorProto.INT32: ColumnType.INT64,
    TensorProto.BOOL: ColumnType.BOOLEAN,
    TensorProto.STRING: ColumnType.STRING,
}


@dataclass(frozen=True)
class Adapted:
    """A model in Levada's form: an input [N, 1] for each column, outputs as artifacts.Output lists them."""

    model: onnx.ModelProto
    inputs: list[Column]
    outputs: list[Output]
    classes: list[int | str | bool]


def adapt(model: onnx.ModelProto, task: Task) -> Adapted:
    """Put columns before a model and what the task's outputs are behind it.

    An input [N, F] becomes F columns `<input>_0` …; an input [N, 1] or [N] one column of its name. Raises Stalled if
    its inputs or outputs are of a kind that cannot be adapted.
    """
    if {opset.version for opset in model.opset_import if opset.domain == ""} - {OPSET}:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except RuntimeError as error:
            raise _unfit(f"its operators cannot be converted to operator set {OPSET}: {error}") from error
    before, columns = _columns_in(model)
    outputs, sources, classes = _outputs(model, task)
    behind = Graph()
    for output, source in zip(outputs, sources, strict=True):
        element, tensor = (
            source.type.tensor_type.elem_type,
            behind.input(source.name, source.type.tensor_type.elem_type),
        )
        wanted = {"int64": INT64, "string": STRING, "float": FLOAT}[output.type]
        shape = np.array([-1] if output.width is None else [-1, output.width], dtype=np.int64)
        tensor = behind.op("Reshape", tensor, behind.constant(shape))
        tensor = tensor if element == wanted else behind.op("Cast", tensor, to=wanted)
        behind.output(f"out {output.name}", tensor, wanted, output.width)
    stages = [
        Stage(before.model("columns"), "columns/"),
        Stage(model, "model/", inputs={value.name: f"in {value.name}" for value in _inputs(model)}),
        Stage(behind.model("outputs"), "outputs/", outputs={f"out {o.name}": o.name for o in outputs}),
    ]
    try:
        merged = merge(stages, outputs=[output.name for output in outputs])
    except ValueError as error:
        raise _unfit(str(error)) from error
    used = {value.name for value in merged.graph.input}
    return Adapted(merged, [column for column in columns if column.name in used], outputs, classes)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {constant.name for constant in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _columns_in(model: onnx.ModelProto) -> tuple[Graph, list[Column]]:
    graph, columns = Graph(), []
    for value in _inputs(model):
        tensor_type = value.type.tensor_type
        kind = TYPES.get(tensor_type.elem_type)
        if kind is None:
            raise _unfit(f"its input '{value.name}' holds neither floats, whole numbers, booleans nor texts")
        sizes = [dim.dim_value for dim in tensor_type.shape.dim]
        if len(sizes) > 2 or (len(sizes) == 2 and sizes[1] == 0):
            raise _unfit(f"its input '{value.name}' has not the shape [N], [N, 1] or [N, number of columns]")
        width = sizes[1] if len(sizes) == 2 else 1
        names = [value.name] if width == 1 else [f"{value.name}_{i}" for i in range(width)]
        names = ["".join(c if c.isalnum() or c == "_" else "_" for c in name) for name in names]
        columns += [Column(name=name, type=kind) for name in names]
        stored = STRING if kind is ColumnType.STRING else DOUBLE
        tensors = [graph.input(name, stored) for name in names]
        x = graph.op("Concat", *tensors, axis=1) if width > 1 else tensors[0]
        if stored != tensor_type.elem_type:
            x = graph.op("Cast", x, to=tensor_type.elem_type)
        if len(sizes) < 2:
            x = graph.op("Reshape", x, graph.constant(np.array([-1], dtype=np.int64)))
        graph.output(f"in {value.name}", x, tensor_type.elem_type, width if len(sizes) == 2 else None)
    return graph, columns


def _outputs(
    model: onnx.ModelProto, task: Task
) -> tuple[list[Output], list[onnx.ValueInfoProto], list[int | str | bool]]:
    """What the task's outputs are made of, and the classes."""
    values = list(model.graph.output)
    if any(not value.type.HasField("tensor_type") for value in values):
        raise _unfit("one of its outputs is no tensor: convert it with zipmap switched off")
    whole = [v for v in values if v.type.tensor_type.elem_type in (INT64, STRING, TensorProto.INT32)]
    real = [v for v in values if v.type.tensor_type.elem_type in (FLOAT, DOUBLE)]
    if task == "classification":
        if not whole or not real:
            raise _unfit("a classification needs an output of labels [N] and one of probabilities [N, classes]")
        classes = _classes(model)
        text = whole[0].type.tensor_type.elem_type == STRING
        width = _width(real[0]) or len(classes)
        if not classes:
            classes = list(range(width))
        if width < 2 or width != len(classes):
            raise _unfit(f"its probabilities have {width or 'unknown'} columns, and its classes are {len(classes)}")
        label = Output(name="label", kind="label", type="string" if text else "int64")
        probabilities = Output(name="probabilities", kind="probabilities", type="float", width=width)
        return [label, probabilities], [whole[0], real[0]], classes
    if task == "clustering":
        if not whole:
            raise _unfit("a clustering needs an output of clusters [N], whole numbers")
        return [Output(name="cluster", kind="cluster", type="int64")], [whole[0]], []
    if not real:
        raise _unfit(f"the task {task} needs an output of numbers [N, 1]")
    return [Output(name="prediction", kind="prediction", type="float", width=1)], [real[0]], []


def _width(value: onnx.ValueInfoProto) -> int:
    dims = value.type.tensor_type.shape.dim
    return dims[1].dim_value if len(dims) == 2 else 0


def _classes(model: onnx.ModelProto) -> list[int | str | bool]:
    """The classes that a classifier of ai.onnx.ml names; none if there is no such node."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.domain == "ai.onnx.ml" and attribute.name in ("classlabels_ints", "classlabels_int64s"):
                if attribute.ints:
                    return list(attribute.ints)
            elif node.domain == "ai.onnx.ml" and attribute.name == "classlabels_strings" and attribute.strings:
                return [value.decode() for value in attribute.strings]
    return []


def _unfit(why: str) -> Stalled:
    return Stalled(Reason.NOT_SUPPORTED, f"the model cannot be taken in: {why}")
