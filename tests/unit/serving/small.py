"""A small model with a column of every type, and requests for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from onnx import TensorProto, helper

from levada import names
from levada.artifacts import LookupSpec, ModelManifest, Output, StoredFile
from levada.features.types import IR_VERSION, ML_OPSET, NULL_TIME, OPSET, ColumnType
from levada.resources.dataset import Column
from levada.serving.lookups import Lookup
from levada.serving.model import ServedModel, Signature
from levada.serving.session import Session

COLUMNS = [
    Column(name="x", type=ColumnType.FLOAT64),
    Column(name="n", type=ColumnType.INT64, nullable=False),
    Column(name="flag", type=ColumnType.BOOLEAN),
    Column(name="text", type=ColumnType.STRING),
    Column(name="at", type=ColumnType.TIMESTAMP),
    Column(name="day", type=ColumnType.DATE),
]
OUTPUTS = [
    Output(name="label", kind="label", type="int64"),
    Output(name="probabilities", kind="probabilities", type="float", width=2),
]
ROW: dict[str, Any] = {"x": 1.5, "n": 3, "flag": True, "text": "a", "at": "2013-01-01T05:00:00Z", "day": "2013-01-01"}
DATATYPES = {"x": "FP64", "n": "INT64", "flag": "BOOL", "text": "BYTES", "at": "BYTES", "day": "BYTES"}


def graph(weight: float = 0.1, extra: Sequence[str] = ()) -> bytes:
    """probabilities = (1 - p, p) where p is the sigmoid of weight·x + 0.01·n + 0.5·flag + 0.25·(text = 'a') +
    0.02·hour(at) + 0.125·(day is null), nulls counting as 0. `extra`: inputs of type double that are added."""
    nodes: list[Any] = []
    constants: list[Any] = []
    kinds = {
        ColumnType.STRING: TensorProto.STRING,
        ColumnType.TIMESTAMP: TensorProto.INT64,
        ColumnType.DATE: TensorProto.INT64,
    }

    def constant(name: str, kind: int, value: Any) -> str:
        constants.append(helper.make_tensor(name, kind, [1, 1], [value]))
        return name

    def add(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def number(name: str, factor: float) -> str:
        filled = add("Where", [add("IsNaN", [name], f"{name}_gap"), "zero", name], f"{name}_filled")
        return add("Mul", [filled, constant(f"{name}_factor", TensorProto.DOUBLE, factor)], f"{name}_part")

    def flag(condition: str, factor: float) -> str:
        as_number = add("Cast", [condition], f"{condition}_number", to=TensorProto.DOUBLE)
        return add("Mul", [as_number, constant(f"{condition}_factor", TensorProto.DOUBLE, factor)], f"{condition}_part")

    constant("zero", TensorProto.DOUBLE, 0.0)
    null = constant("null_time", TensorProto.INT64, NULL_TIME)
    is_a = add("Equal", ["text", constant("a", TensorProto.STRING, b"a")], "is_a")
    filled = add(
        "Where", [add("Equal", ["at", null], "at_gap"), constant("no", TensorProto.INT64, 0), "at"], "at_filled"
    )
    hours = add("Div", [filled, constant("hour", TensorProto.INT64, 3_600_000_000)], "hours")
    hour = add("Mod", [hours, constant("a_day", TensorProto.INT64, 24)], "hour_of_day")
    hour = add("Cast", [hour], "hour_number", to=TensorProto.DOUBLE)
    parts = [number("x", weight), number("n", 0.01), number("flag", 0.5), flag(is_a, 0.25), number(hour, 0.02)]
    parts += [flag(add("Equal", ["day", null], "no_day"), 0.125), *(number(name, 1.0) for name in extra)]
    total = parts[0]
    for place, part in enumerate(parts[1:]):
        total = add("Add", [total, part], f"sum_{place}")
    p = add("Sigmoid", [add("Cast", [total], "z", to=TensorProto.FLOAT)], "p")
    rest = add("Sub", [constant("one", TensorProto.FLOAT, 1.0), p], "rest")
    add("Concat", [rest, p], "probabilities", axis=1)
    late = add("Greater", [p, constant("half", TensorProto.FLOAT, 0.5)], "likely")
    constants.append(helper.make_tensor("flat", TensorProto.INT64, [1], [-1]))
    add("Cast", [add("Reshape", [late, "flat"], "likely_flat")], "label", to=TensorProto.INT64)
    inputs = [helper.make_tensor_value_info(c.name, kinds.get(c.type, TensorProto.DOUBLE), [None, 1]) for c in COLUMNS]
    inputs += [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 1]) for name in extra]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
    ]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    made = helper.make_model(
        helper.make_graph(nodes, "small", inputs, outputs, constants), opset_imports=opsets, ir_version=IR_VERSION
    )
    return bytes(made.SerializeToString())


def manifest(onnx: bytes, candidate: str = "small", lookups: Sequence[LookupSpec] = (), **more: Any) -> ModelManifest:
    looked_up = [Column(name=c.name, type=c.type) for spec in lookups for c in spec.columns]
    return ModelManifest(
        **{
            "candidate": candidate,
            "namespace": "default",
            "task": "classification",
            "algorithm": "small",
            "type": "external",
            "onnx": StoredFile(key="model.onnx", bytes=len(onnx), digest=names.digest(onnx)),
            "request": COLUMNS,
            "lookups": list(lookups),
            "inputs": COLUMNS + looked_up,
            "outputs": OUTPUTS,
            "classes": [0, 1],
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            **more,
        }
    )


def served(weight: float = 0.1, lookups: Sequence[Lookup] = (), **more: Any) -> ServedModel:
    onnx = graph(weight)
    return ServedModel(manifest(onnx, **more), Session(onnx), lookups)


def signature(**more: Any) -> Signature:
    return Signature(manifest(b"", **more))


def v2_request(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Rows as a request of the Open Inference Protocol."""
    inputs = [
        {"name": name, "datatype": DATATYPES[name], "shape": [len(rows)], "data": [row[name] for row in rows]}
        for name in rows[0]
    ]
    return {"inputs": inputs, **more}
