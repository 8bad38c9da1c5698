"""Concatenation and matching of strings. What needs more than that (case, length, parts) ONNX Runtime cannot do as
DuckDB does, so it is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from levada.features.operators.casts import to_string
from levada.features.tape import Dtype, Node, Tape
from levada.features.types import ExpressionError
from levada.features.values import Kind, Truth, Value, boolean, null


def concatenate(t: Tape, left: Value, right: Value) -> Value:
    """||: null if a side is."""
    a, b = (to_string(t, value).node for value in (left, right))
    missing = t.either(t.is_null(a), t.is_null(b))
    return Value(Kind.STRING, t.where(missing, t.null(Dtype.STRING), _joined(t, a, b)))


def concat(t: Tape, values: Sequence[Value]) -> Value:
    """concat(): passes over nulls."""
    nodes = [to_string(t, value).node for value in values]
    result, *rest = (t.where(t.is_null(node), t.text(""), node) for node in nodes)
    for node in rest:
        result = _joined(t, result, node)
    return Value(Kind.STRING, result)


def _joined(t: Tape, left: Node, right: Node) -> Node:
    return t.op("StringConcat", left, right)


def like(t: Tape, value: Value, pattern: Value) -> Value:
    """LIKE: % is any text, _ one character."""
    parts = {"%": ".*", "_": "."}
    return _matches(t, "LIKE", value, pattern, lambda text: "".join(parts.get(c) or re.escape(c) for c in text))


def starts_with(t: Tape, value: Value, text: Value) -> Value:
    return _matches(t, "starts_with()", value, text, lambda text: re.escape(text) + ".*")


def ends_with(t: Tape, value: Value, text: Value) -> Value:
    return _matches(t, "ends_with()", value, text, lambda text: ".*" + re.escape(text))


def contains(t: Tape, value: Value, text: Value) -> Value:
    return _matches(t, "contains()", value, text, lambda text: ".*" + re.escape(text) + ".*")


def _matches(t: Tape, name: str, value: Value, pattern: Value, expression: Callable[[str], str]) -> Value:
    """Where all of `value` matches the regular expression (RE2's) that `pattern`, a literal, stands for."""
    if value.kind is Kind.NULL or pattern.kind is Kind.NULL:
        return null(t, Kind.BOOLEAN)
    if value.kind is not Kind.STRING:
        raise ExpressionError(f"{name} needs a string, not a {value.kind}")
    if pattern.literal is None:
        raise ExpressionError(f"{name} needs a text in quotes to match with, not a column or an expression")
    # (?s): a dot matches a line break as well.
    matched = t.op("RegexFullMatch", value.node, dtype=Dtype.BOOL, pattern="(?s)" + expression(pattern.literal))
    present = t.is_present(value.node)
    return boolean(t, Truth(t.both(matched, present), t.both(t.negate(matched), present)))
