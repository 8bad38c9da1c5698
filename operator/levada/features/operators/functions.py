"""Mathematical functions of doubles.

onnxruntime computes some functions with vector instructions and whatever is left over at the end of a batch one by one,
with other last bits: a row's result would depend on its place in the batch. `_in_pairs` and `logarithm` avoid that, so
that one row online and a million offline give the same bits. pow() and sqrt() need no such care.
"""

from __future__ import annotations

import math

from levada.features.operators.arithmetic import doubles
from levada.features.tape import Dtype, Node, Tape, is_fixed
from levada.features.types import ExpressionError
from levada.features.values import Kind, Value

RECIPROCALS = {2.0: math.log2(math.e), 10.0: math.log10(math.e)}  # of the bases' natural logarithms


def _in_pairs(t: Tape, op: str, node: Node) -> Node:
    """`op` over [N, 2] with each value twice, so that no value is ever left over; one of the two is kept."""
    pair = t.op(op, t.op("Concat", node, node, axis=1))
    first, second, columns = (t.constant(Dtype.INT64, (value,), (1,)) for value in (0, 1, 1))
    return t.op("Slice", pair, first, second, columns)


def in_pairs(op: str, name: str, t: Tape, value: Value) -> Value:
    """exp: within 2 ulp of the C library's. sin, cos, tanh: within 2**-49 of it (in absolute terms)."""
    (node,) = doubles(t, name, value)
    return Value(Kind.DOUBLE, _in_pairs(t, op, node))


def square_root(t: Tape, value: Value) -> Value:
    (node,) = doubles(t, "sqrt()", value)
    return Value(Kind.DOUBLE, t.op("Sqrt", node))


def _natural_logarithm(t: Tape, node: Node) -> Node:
    # A sum over one column, whose logarithm is taken one by one with the C library: the same bits as DuckDB's.
    return t.op("ReduceLogSum", node, t.constant(Dtype.INT64, (1,), (1,)), keepdims=1)


def natural_logarithm(t: Tape, value: Value) -> Value:
    (node,) = doubles(t, "ln()", value)
    return Value(Kind.DOUBLE, _natural_logarithm(t, node))


def logarithm(t: Tape, value: Value, base: float) -> Value:
    """log10, log2: exact for powers of the base, else within 2 ulp and 1 ulp of the C library's."""
    (node,) = doubles(t, "log()", value)
    if base not in RECIPROCALS:
        raise ExpressionError(f"log() to the base {base:g} is not supported: write ln(x) / ln({base:g})")
    near = t.op("Mul", _natural_logarithm(t, node), t.number(RECIPROCALS[base]))
    exponent = t.op("Round", near)
    exact = t.compare("Equal", t.op("Pow", t.number(base), exponent), node)
    return Value(Kind.DOUBLE, t.where(exact, exponent, near))


def power(t: Tape, base: Value, exponent: Value) -> Value:
    x, y = doubles(t, "power()", base, exponent)
    missing = t.either(t.is_null(x), t.is_null(y))
    unknown = t.null(Dtype.DOUBLE)
    if y.scalar == 0 or x.scalar == 1:
        return Value(Kind.DOUBLE, t.where(missing, unknown, t.number(1)))  # where C's pow() is 1 even for NaN
    if is_fixed(y) and (y.scalar is None or y.scalar in (2, 3)):
        # Several rows to one square or cube are multiplied out by onnxruntime, while one row goes to pow(), which
        # rounds otherwise. An exponent for each row goes to pow() always.
        return Value(Kind.DOUBLE, t.op("Pow", x, t.where(missing, unknown, y)))
    result = t.op("Pow", x, y)
    return Value(Kind.DOUBLE, result if x.scalar is not None or is_fixed(y) else t.where(missing, unknown, result))


def radians(t: Tape, value: Value) -> Value:
    (node,) = doubles(t, "radians()", value)
    return Value(Kind.DOUBLE, t.op("Mul", node, t.number(math.pi / 180)))


def degrees(t: Tape, value: Value) -> Value:
    (node,) = doubles(t, "degrees()", value)
    return Value(Kind.DOUBLE, t.op("Mul", node, t.number(180 / math.pi)))


def pi(t: Tape) -> Value:
    return Value(Kind.DOUBLE, t.number(math.pi))
