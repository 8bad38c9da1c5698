"""Comparisons, three-valued logic, and choosing between values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from levada.features.tape import Dtype, Node, Tape
from levada.features.types import NULL_STRING, ExpressionError
from levada.features.values import DTYPES, Kind, Truth, Value, boolean, null, total, truth, unify

# What holds where the comparison is false, nulls aside.
OPPOSITES = {"Less": "GreaterOrEqual", "LessOrEqual": "Greater", "Greater": "LessOrEqual", "GreaterOrEqual": "Less"}
# From this many members on, one comparison with all of them at once takes fewer nodes than one each.
WIDE = 4


def compared(t: Tape, op: str, left: Value, right: Value) -> Truth:
    """Where `left op right` is true and where it is false."""
    left, right = _beside_fraction(left, right, t), _beside_fraction(right, left, t)
    left, right = unify(t, [left, right], "a comparison")
    if left.kind is Kind.NULL:
        return Truth(t.flag(False), t.flag(False))
    if left.kind is Kind.STRING and op != "Equal":
        raise ExpressionError("strings cannot be compared by order, only with = and <>")
    a, b = left.node, right.node
    if DTYPES[left.kind] is Dtype.DOUBLE:  # NaN makes every comparison false
        if op == "Equal":
            return Truth(t.compare(op, a, b), t.either(t.compare("Less", a, b), t.compare("Greater", a, b)))
        return Truth(t.compare(op, a, b), t.compare(OPPOSITES[op], a, b))
    if op == "Equal":
        equal = t.compare(op, a, b)
        yes = t.both(equal, t.is_present(a if b.scalar is None else b))
        return Truth(yes, t.both(t.negate(equal), t.is_present(a), t.is_present(b)))
    return Truth(_ordered(t, op, a, b), _ordered(t, OPPOSITES[op], a, b))


def _ordered(t: Tape, op: str, a: Node, b: Node) -> Node:
    """Where two INT64 compare. A null is the smallest, so only the side that has to be smaller is looked at."""
    return t.both(t.compare(op, a, b), t.is_present(a if op.startswith("Less") else b))


def _beside_fraction(value: Value, other: Value, t: Tape) -> Value:
    """`value` as a double where an integer meets a constant decimal: the integer need not be scaled up, since the
    double nearest to the constant lies between the same two integers."""
    if {value.kind, other.kind} == {Kind.INTEGER, Kind.DECIMAL}:
        decimal = value if value.kind is Kind.DECIMAL else other
        if decimal.node.scalar is not None:
            return Value(
                Kind.DOUBLE, t.op("Div", value.node, t.number(10.0**value.scale)) if value.scale else value.node
            )
    return value


def compare(t: Tape, op: str, left: Value, right: Value) -> Value:
    condition = compared(t, op, left, right)
    return _with_text(t, left, right, condition, found=True) or boolean(t, condition)


def unequal(t: Tape, left: Value, right: Value) -> Value:
    condition = inverse(compared(t, "Equal", left, right))
    return _with_text(t, left, right, condition, found=False) or boolean(t, condition)


def _with_text(t: Tape, left: Value, right: Value, condition: Truth, found: bool) -> Value | None:
    """A comparison of a string with a text, in fewer nodes where its value is wanted and not just its truth."""
    for text, column in ((left.literal, right), (right.literal, left)):
        if text is not None and column.kind is Kind.STRING and column.literal is None:
            return replace(_one_of(t, column.node, [text], float(found), float(not found)), truth=condition)
    return None


def inverse(condition: Truth) -> Truth:
    return Truth(condition.no, condition.yes, condition.total)


def negation(t: Tape, value: Value) -> Value:
    condition = inverse(truth(t, value, "NOT"))
    if value.kind is Kind.BOOLEAN and value.truth is None:
        return Value(Kind.BOOLEAN, t.op("Sub", t.number(1), value.node), truth=condition)
    return boolean(t, condition)


def conjunction(t: Tape, left: Truth, right: Truth) -> Truth:
    return Truth(t.both(left.yes, right.yes), t.either(left.no, right.no), left.total and right.total)


def disjunction(t: Tape, left: Truth, right: Truth) -> Truth:
    return Truth(t.either(left.yes, right.yes), t.both(left.no, right.no), left.total and right.total)


def both(t: Tape, left: Value, right: Value) -> Value:
    return boolean(t, conjunction(t, truth(t, left, "AND"), truth(t, right, "AND")))


def either(t: Tape, left: Value, right: Value) -> Value:
    return boolean(t, disjunction(t, truth(t, left, "OR"), truth(t, right, "OR")))


def between(t: Tape, value: Value, low: Value, high: Value) -> Value:
    value, low, high = unify(t, [value, low, high], "BETWEEN")
    return boolean(
        t, conjunction(t, compared(t, "GreaterOrEqual", value, low), compared(t, "LessOrEqual", value, high))
    )


def is_null(t: Tape, value: Value) -> Value:
    return boolean(t, total(t, t.is_null(value.node)))


def is_truth(t: Tape, value: Value, wanted: bool) -> Value:
    """IS TRUE, IS FALSE."""
    condition = truth(t, value, "IS TRUE")
    return boolean(t, total(t, condition.yes if wanted else condition.no))


def distinct(t: Tape, left: Value, right: Value) -> Value:
    """IS DISTINCT FROM: two nulls are the same."""
    left, right = unify(t, [left, right], "IS DISTINCT FROM")
    same = t.compare("Equal", left.node, right.node)
    if DTYPES[left.kind] is Dtype.DOUBLE:  # elsewhere a null equals itself
        same = t.either(same, t.both(t.is_null(left.node), t.is_null(right.node)))
    return boolean(t, inverse(total(t, same)))


def member(t: Tape, value: Value, members: Sequence[Value]) -> Value:
    """IN."""
    value, *members = unify(t, [value, *members], "IN")
    has_null = any(t.is_null(m.node).scalar is True for m in members)
    constants = [m for m in members if m.node.scalar is not None and t.is_null(m.node).scalar is not True]
    if (
        value.kind is Kind.STRING
        and value.node.scalar is None
        and members
        and len(constants) + has_null == len(members)
    ):
        return _one_of(t, value.node, [str(m.node.scalar) for m in constants], 1.0, math.nan if has_null else 0.0)
    result = Truth(t.flag(False), t.flag(not has_null), total=not has_null)
    if constants:
        found = _any_of(t, value.node, list({m.node.serial: m.node for m in constants}.values()))
        result = disjunction(t, result, Truth(found, t.both(t.negate(found), t.is_present(value.node))))
    for m in members:
        if m.node.scalar is None:
            result = disjunction(t, result, compared(t, "Equal", value, m))
    return boolean(t, result)


def _one_of(t: Tape, node: Node, texts: Sequence[str], found: float, otherwise: float) -> Value:
    """`found` where a string is one of `texts`, by a hash table; null where it is null."""
    keys = (*dict.fromkeys(texts), NULL_STRING)
    code = t.op(
        "LabelEncoder",
        node,
        dtype=Dtype.FLOAT,
        domain="ai.onnx.ml",
        keys_strings=keys,
        values_floats=(*[found] * (len(keys) - 1), math.nan),
        default_float=otherwise,
    )
    return Value(Kind.BOOLEAN, t.cast(code, Dtype.DOUBLE))


def _any_of(t: Tape, node: Node, constants: list[Node]) -> Node:
    """Where `node` is one of `constants`, none of which is null."""
    if len(constants) < WIDE:
        return t.either(*(t.compare("Equal", node, constant) for constant in constants))
    row = t.constant(node.dtype, tuple(c.values[0] for c in constants), (1, len(constants)))
    hits = t.cast(t.compare("Equal", node, row), Dtype.INT64)
    axis = t.constant(Dtype.INT64, (1,), (1,))
    return t.compare("Greater", t.op("ReduceMax", hits, axis, keepdims=1), t.integer(0))


def case(t: Tape, conditions: Sequence[Truth], results: Sequence[Value], default: Value | None) -> Value:
    """CASE: the first result whose condition is true."""
    *results, otherwise = unify(t, [*results, default or null(t)], "CASE")
    node = otherwise.node
    for condition, result in zip(reversed(conditions), reversed(results), strict=True):
        node = t.where(condition.yes, result.node, node)
    signed = any(value.signed_zero for value in (*results, otherwise))
    return Value(otherwise.kind, node, otherwise.scale, signed_zero=signed)


def coalesce(t: Tape, values: Sequence[Value]) -> Value:
    *values, last = unify(t, values, "COALESCE")
    node = last.node
    for value in reversed(values):
        node = t.where(t.is_null(value.node), node, value.node)
    return Value(last.kind, node, last.scale, signed_zero=any(v.signed_zero for v in (*values, last)))


def nullif(t: Tape, value: Value, other: Value) -> Value:
    equal = compared(t, "Equal", value, other)
    node = t.where(equal.yes, t.null(DTYPES[value.kind]), value.node)
    return Value(value.kind, node, value.scale, signed_zero=value.signed_zero)


def extreme(t: Tape, values: Sequence[Value], op: str, name: str) -> Value:
    """GREATEST (op GreaterOrEqual) and LEAST (LessOrEqual), which pass over nulls."""
    first, *rest = unify(t, values, name)
    if first.kind is Kind.STRING:
        raise ExpressionError(f"{name} of strings is not supported: strings cannot be compared by order")
    node = first.node
    for value in rest:
        keep = t.compare(op, node, value.node)
        node = t.where(_kept(t, keep, node, value.node, op), node, value.node)
    return Value(first.kind, node, first.scale, signed_zero=any(v.signed_zero for v in (first, *rest)))


def _kept(t: Tape, keep: Node, node: Node, other: Node, op: str) -> Node:
    if node.dtype is Dtype.DOUBLE:  # a null on the left compares false, so the right one is taken
        return t.either(keep, t.is_null(other))
    if op == "GreaterOrEqual":  # a null is the smallest INT64, so never the greater one
        return keep
    return t.either(t.both(keep, t.is_present(node)), t.is_null(other))
