"""A graph of ONNX operators under construction, in plain Python.

Nodes are made once: asking again for the same operator over the same inputs gives the same node, so common
subexpressions are shared by construction. Whatever no output reaches is never written out, so building a node that
turns out not to be needed costs nothing. Constants are folded where Python computes the bits that onnxruntime would.

No ONNX and no numpy here: the operator checks expressions too, and its image has neither. `export.py` writes the
graphs out.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from enum import StrEnum

from levada.features.types import NULL_STRING, NULL_TIME

Scalar = float | int | str | bool
Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]


class Dtype(StrEnum):
    """Element types of tensors."""

    DOUBLE = "double"
    FLOAT = "float"  # only between two nodes: what some operators make
    INT64 = "int64"
    STRING = "string"
    BOOL = "bool"


class Node:
    """A tensor of the graph: a named input, a constant, or what an operator makes.

    `shape` is that of a constant ((1, 1) for a scalar) and None otherwise: [N, 1], except between a pair of nodes
    that widen and narrow again.
    """

    __slots__ = ("attributes", "domain", "dtype", "inputs", "name", "op", "serial", "shape", "values")

    def __init__(self, serial: int, op: str, dtype: Dtype) -> None:
        self.serial = serial
        self.op = op
        self.dtype = dtype
        self.domain = ""
        self.inputs: tuple[Node, ...] = ()
        self.attributes: tuple[tuple[str, Attribute], ...] = ()
        self.values: tuple[Scalar, ...] = ()
        self.shape: tuple[int, ...] | None = None
        self.name = ""

    @property
    def scalar(self) -> Scalar | None:
        """The value of a scalar constant, else None."""
        return self.values[0] if self.shape == (1, 1) else None


class Tape:
    """Makes nodes."""

    def __init__(self) -> None:
        self._known: dict[object, Node] = {}

    def _node(self, key: object, op: str, dtype: Dtype) -> tuple[Node, bool]:
        node = self._known.get(key)
        if node is not None:
            return node, False
        node = Node(len(self._known), op, dtype)
        self._known[key] = node
        return node, True

    def input(self, name: str, dtype: Dtype) -> Node:
        """The graph input `name`, of shape [N, 1]."""
        node, _ = self._node(("input", name), "Input", dtype)
        node.name = name
        return node

    def constant(self, dtype: Dtype, values: tuple[Scalar, ...], shape: tuple[int, ...]) -> Node:
        """A constant tensor. repr tells 0.0 from -0.0 and makes all NaN one."""
        node, new = self._node(("constant", dtype, repr(values), shape), "Constant", dtype)
        if new:
            node.values, node.shape = values, shape
        return node

    def number(self, value: float) -> Node:
        return self.constant(Dtype.DOUBLE, (float(value),), (1, 1))

    def integer(self, value: int) -> Node:
        return self.constant(Dtype.INT64, (value,), (1, 1))

    def text(self, value: str) -> Node:
        return self.constant(Dtype.STRING, (value,), (1, 1))

    def flag(self, value: bool) -> Node:
        return self.constant(Dtype.BOOL, (value,), (1, 1))

    def null(self, dtype: Dtype) -> Node:
        """The null of a column's dtype (see types.py)."""
        if dtype is Dtype.DOUBLE:
            return self.number(math.nan)
        return self.integer(NULL_TIME) if dtype is Dtype.INT64 else self.text(NULL_STRING)

    def op(self, op: str, *inputs: Node, dtype: Dtype | None = None, domain: str = "", **attributes: Attribute) -> Node:
        """What operator `op` makes of `inputs`; its dtype is that of the first input unless given."""
        dtype = dtype or inputs[0].dtype
        fold = _FOLDS.get((op, inputs[0].dtype))
        if fold is not None and all(node.scalar is not None for node in inputs):
            return self.constant(dtype, (fold(*(node.values[0] for node in inputs)),), (1, 1))
        ordered = tuple(sorted(attributes.items()))
        key = (op, domain, dtype, tuple(node.serial for node in inputs), ordered)
        node, new = self._node(key, op, dtype)
        if new:
            node.inputs, node.domain, node.attributes = inputs, domain, ordered
        return node

    def cast(self, node: Node, dtype: Dtype) -> Node:
        """`node` as `dtype`. The caller sees to it that nulls are not cast, or that the result is not used."""
        if node.dtype is dtype:
            return node
        value = node.scalar
        if value is not None and dtype is Dtype.DOUBLE:
            return self.number(float(value))
        if value is not None and dtype is Dtype.INT64:
            return self.integer(int(value)) if math.isfinite(float(value)) else self.integer(0)
        return self.op("Cast", node, dtype=dtype)

    def compare(self, op: str, left: Node, right: Node) -> Node:
        """A comparison, of dtype BOOL."""
        return self.op(op, left, right, dtype=Dtype.BOOL)

    def where(self, condition: Node, yes: Node, no: Node) -> Node:
        """`yes` where the condition holds, else `no`."""
        if condition.scalar is not None:
            return yes if condition.scalar else no
        if yes is no:
            return yes
        return self.op("Where", condition, yes, no, dtype=yes.dtype)

    def negate(self, node: Node) -> Node:
        if node.scalar is not None:
            return self.flag(not node.scalar)
        return node.inputs[0] if node.op == "Not" else self.op("Not", node)

    def both(self, *nodes: Node) -> Node:
        return self._junction("And", True, nodes)

    def either(self, *nodes: Node) -> Node:
        return self._junction("Or", False, nodes)

    def _junction(self, op: str, neutral: bool, nodes: tuple[Node, ...]) -> Node:
        """`nodes` joined by And or Or, without constants and repetitions."""
        result: Node | None = None
        seen: set[int] = set()
        for node in nodes:
            if node.scalar is not None:
                if bool(node.scalar) is not neutral:
                    return node
            elif node.serial not in seen:
                seen.add(node.serial)
                result = node if result is None else self.op(op, result, node)
        return self.flag(neutral) if result is None else result

    def is_null(self, node: Node) -> Node:
        """Where a column is null."""
        if node.dtype is Dtype.DOUBLE:
            return self.op("IsNaN", node, dtype=Dtype.BOOL)
        return self.compare("Equal", node, self.null(node.dtype))

    def is_present(self, node: Node) -> Node:
        """Where a column is not null."""
        if node.dtype is Dtype.DOUBLE:
            return self.compare("Equal", node, node)
        return self.negate(self.is_null(node))

    def choose(self, node: Node, table: Dtype, values: tuple[Scalar, ...]) -> Node:
        """`values[node]` for an int64 index that always lies within the table."""
        return self.op("Gather", self.constant(table, values, (len(values),)), node, dtype=table)


def reachable(outputs: tuple[Node, ...]) -> list[Node]:
    """All nodes that `outputs` need, each after its inputs; in the order of making, which is such an order."""
    found: dict[int, Node] = {}
    open_nodes = list(outputs)
    while open_nodes:
        node = open_nodes.pop()
        if node.serial not in found:
            found[node.serial] = node
            open_nodes.extend(node.inputs)
    return [found[serial] for serial in sorted(found)]


def is_fixed(node: Node) -> bool:
    """Whether a node is the same for every row: of shape [1, 1], that is."""
    return all(part.op != "Input" for part in reachable((node,)))


def _divide(left: float, right: float) -> float:
    if right == 0:
        sign = math.copysign(1, left) * math.copysign(1, right)
        return math.nan if left == 0 or math.isnan(left) else sign * math.inf
    return left / right


def _remainder(left: float, right: float) -> float:
    return math.nan if right == 0 or math.isinf(left) else math.fmod(left, right)


def _integral(function: Callable[[float], int]) -> Callable[[float], float]:
    # Python's floor and ceil make integers, which know neither infinity, NaN nor -0.0.
    return lambda value: math.copysign(float(function(value)), value) if math.isfinite(value) else value


def _truncated(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _sign(value: float) -> float:
    return value if math.isnan(value) else float((value > 0) - (value < 0))


_COMPARISONS: dict[str, Callable[..., Scalar]] = {
    "Equal": operator.eq,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
}
_FOLDS: dict[tuple[str, Dtype], Callable[..., Scalar]] = {
    ("Add", Dtype.DOUBLE): operator.add,
    ("Sub", Dtype.DOUBLE): operator.sub,
    ("Mul", Dtype.DOUBLE): operator.mul,
    ("Div", Dtype.DOUBLE): _divide,
    ("Mod", Dtype.DOUBLE): _remainder,
    ("Abs", Dtype.DOUBLE): abs,
    ("Neg", Dtype.DOUBLE): operator.neg,
    ("Sign", Dtype.DOUBLE): _sign,
    ("Sqrt", Dtype.DOUBLE): lambda value: math.sqrt(value) if value >= 0 else math.nan,
    ("Floor", Dtype.DOUBLE): _integral(math.floor),
    ("Ceil", Dtype.DOUBLE): _integral(math.ceil),
    ("Round", Dtype.DOUBLE): _integral(round),
    ("IsNaN", Dtype.DOUBLE): math.isnan,
    ("Add", Dtype.INT64): operator.add,
    ("Sub", Dtype.INT64): operator.sub,
    ("Mul", Dtype.INT64): operator.mul,
    ("Div", Dtype.INT64): _truncated,
    ("Mod", Dtype.INT64): operator.mod,
    **{(op, dtype): fold for op, fold in _COMPARISONS.items() for dtype in (Dtype.DOUBLE, Dtype.INT64)},
    ("Equal", Dtype.STRING): operator.eq,
}
