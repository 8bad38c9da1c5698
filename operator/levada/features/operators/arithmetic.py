"""Arithmetic, rounding and mathematical functions on numbers; sums and differences of times.

Where DuckDB reports an error for a row (an integer divided by zero, a cast out of range), the result here is null, as
with DuckDB's TRY.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from levada.features.tape import Dtype, Node, Tape
from levada.features.types import DAY, ExpressionError
from levada.features.values import (
    MAX_SCALE,
    NUMERIC,
    TEMPORAL,
    Kind,
    Value,
    as_double,
    as_int64,
    convert,
    counted,
    rescale,
    temporal,
)

Rounding = Callable[[Tape, Node], Node]
HALF = math.nextafter(0.5, 0)  # floor(|x| + HALF) rounds half away from zero, for every double
LONGEST = 2**61  # microseconds: 73,000 years, so that no sum of two times leaves INT64


def numbers(t: Tape, what: str, *values: Value) -> list[Value]:
    """`values`, if all are numbers; an untyped NULL is an integer."""
    for value in values:
        if value.kind not in (*NUMERIC, Kind.NULL):
            raise ExpressionError(f"{what} needs numbers, not a {value.kind}")
    return [convert(t, v, Kind.INTEGER, 0, what) if v.kind is Kind.NULL else v for v in values]


def doubles(t: Tape, what: str, *values: Value) -> list[Node]:
    return [as_double(t, value) for value in numbers(t, what, *values)]


def _exact(values: list[Value]) -> bool:
    return all(value.kind is not Kind.DOUBLE for value in values)


def _aligned(t: Tape, left: Value, right: Value) -> tuple[Node, Node, int]:
    scale = max(left.scale, right.scale)
    return rescale(t, left, scale), rescale(t, right, scale), scale


def add(t: Tape, left: Value, right: Value) -> Value:
    if left.kind in TEMPORAL or left.kind is Kind.INTERVAL:
        return _shift(t, "Add", left, right)
    if right.kind in TEMPORAL or right.kind is Kind.INTERVAL:
        return _shift(t, "Add", right, left)
    return _sum(t, "Add", "+", left, right)


def subtract(t: Tape, left: Value, right: Value) -> Value:
    if left.kind in TEMPORAL and right.kind in TEMPORAL:
        difference = t.op("Sub", left.node, right.node)
        if left.kind is right.kind is Kind.DATE:
            return counted(t, t.op("Div", difference, t.integer(DAY)), left.node, right.node)
        return temporal(t, Kind.INTERVAL, difference, left.node, right.node)
    if left.kind in TEMPORAL or left.kind is Kind.INTERVAL:
        return _shift(t, "Sub", left, right)
    return _sum(t, "Sub", "-", left, right)


def _sum(t: Tape, op: str, sign: str, left: Value, right: Value) -> Value:
    values = numbers(t, sign, left, right)
    if not _exact(values):
        return Value(Kind.DOUBLE, t.op(op, *doubles(t, sign, *values)))
    left, right = values
    a, b, scale = _aligned(t, left, right)
    signed = left.signed_zero and (right.signed_zero or op == "Sub")
    return Value(
        Kind.DECIMAL if Kind.DECIMAL in (left.kind, right.kind) else Kind.INTEGER,
        t.op(op, a, b),
        scale,
        signed_zero=signed,
    )


def _shift(t: Tape, op: str, time: Value, by: Value) -> Value:
    """A time and an interval, a date and a number of days, or two intervals."""
    if by.kind is Kind.INTERVAL:
        kind = Kind.INTERVAL if time.kind is Kind.INTERVAL else Kind.TIMESTAMP
        return temporal(t, kind, t.op(op, time.node, by.node), time.node, by.node)
    if op == "Add" and time.kind is Kind.INTERVAL and by.kind in TEMPORAL:
        return temporal(t, Kind.TIMESTAMP, t.op(op, time.node, by.node), time.node, by.node)
    if time.kind is Kind.DATE and by.kind is Kind.INTEGER:
        days = as_int64(t, by, LONGEST // DAY)
        return temporal(t, Kind.DATE, t.op(op, time.node, t.op("Mul", days, t.integer(DAY))), time.node, days)
    verb = "+" if op == "Add" else "-"
    hint = ": add or subtract an interval, such as INTERVAL 2 HOUR" if time.kind in TEMPORAL else ""
    raise ExpressionError(f"{time.kind} {verb} {by.kind} is not supported{hint}")


def multiply(t: Tape, left: Value, right: Value) -> Value:
    if Kind.INTERVAL in (left.kind, right.kind):
        interval, factor = (left, right) if left.kind is Kind.INTERVAL else (right, left)
        return times(t, interval.node, factor)
    values = numbers(t, "*", left, right)
    if not _exact(values):
        return Value(Kind.DOUBLE, t.op("Mul", *doubles(t, "*", *values)))
    left, right = values
    scale = left.scale + right.scale
    if scale > MAX_SCALE:
        raise ExpressionError(f"a product with {scale} decimal places is not exact: cast one factor to DOUBLE")
    node = left.node if right.node is t.number(1) else right.node if left.node is t.number(1) else None
    constant = next((v for v in values if v.node.scalar is not None), None)
    other = right if constant is left else left
    signed = other.signed_zero if constant is not None and float(constant.node.values[0]) > 0 else True
    node = node or t.op("Mul", left.node, right.node)
    return Value(
        Kind.DECIMAL if Kind.DECIMAL in (left.kind, right.kind) else Kind.INTEGER, node, scale, signed_zero=signed
    )


def times(t: Tape, unit: Node, count: Value) -> Value:
    """`count` times an interval (`unit`: INT64, a constant)."""
    if count.kind is Kind.NULL:
        count = convert(t, count, Kind.INTEGER, 0, "*")
    if count.kind is not Kind.INTEGER:
        raise ExpressionError(f"an interval can be multiplied by an integer, not by a {count.kind}")
    if unit.scalar is None:
        raise ExpressionError("only an interval of fixed length can be multiplied, such as INTERVAL 1 HOUR")
    factor = as_int64(t, count, LONGEST // max(1, abs(int(unit.scalar))))
    return temporal(t, Kind.INTERVAL, t.op("Mul", factor, unit), factor)


def divide(t: Tape, left: Value, right: Value) -> Value:
    """/ is division of doubles, as IEEE 754 has it: 1/0 is infinite, 0/0 is NaN, that is null."""
    return Value(Kind.DOUBLE, t.op("Div", *doubles(t, "/", left, right)))


def int_divide(t: Tape, left: Value, right: Value) -> Value:
    """// truncates integers; of other numbers it is the plain quotient (DuckDB's). By zero: null."""
    values = numbers(t, "//", left, right)
    if all(value.kind is Kind.INTEGER for value in values):
        quotient = t.op("Div", values[0].node, values[1].node)
        # The remainder of an infinite quotient is NaN, which makes a division by zero null.
        return Value(Kind.INTEGER, t.op("Sub", quotient, t.op("Mod", quotient, t.number(1), fmod=1)))
    a, b = doubles(t, "//", *values)
    by_zero = t.compare("Equal", b, t.number(0))
    return Value(Kind.DOUBLE, t.where(by_zero, t.null(Dtype.DOUBLE), t.op("Div", a, b)))


def modulo(t: Tape, left: Value, right: Value) -> Value:
    """% has the sign of the dividend; by zero: null."""
    values = numbers(t, "%", left, right)
    if not _exact(values):
        return Value(Kind.DOUBLE, t.op("Mod", *doubles(t, "%", *values), fmod=1))
    a, b, scale = _aligned(t, values[0], values[1])
    kind = Kind.DECIMAL if Kind.DECIMAL in (values[0].kind, values[1].kind) else Kind.INTEGER
    return Value(kind, t.op("Mod", a, b, fmod=1), scale, signed_zero=True)


def negative(t: Tape, value: Value) -> Value:
    if value.kind is Kind.INTERVAL:
        return temporal(t, value.kind, t.op("Sub", t.integer(0), value.node), value.node)
    (value,) = numbers(t, "-", value)
    if value.kind is Kind.DOUBLE:
        return Value(value.kind, t.op("Neg", value.node))
    return Value(value.kind, t.op("Sub", t.number(0), value.node), value.scale)


def absolute(t: Tape, value: Value) -> Value:
    (value,) = numbers(t, "abs()", value)
    return Value(value.kind, t.op("Abs", value.node), value.scale)


def sign(t: Tape, value: Value) -> Value:
    (value,) = numbers(t, "sign()", value)
    return Value(Kind.INTEGER, t.op("Sign", value.node))


def to_integral(t: Tape, op: str, value: Value) -> Value:
    """floor() (op Floor) and ceil() (op Ceil): of an integer a double, of a decimal one without decimals."""
    (value,) = numbers(t, f"{op.lower()}()", value)
    if value.kind is Kind.INTEGER:
        return Value(Kind.DOUBLE, as_double(t, value))
    if value.kind is Kind.DOUBLE:
        return Value(value.kind, t.op(op, value.node))
    return Value(Kind.DECIMAL, t.op(op, as_double(t, value)), 0, signed_zero=True)


def half_away(t: Tape, node: Node) -> Node:
    """Rounded to the nearest whole number, halves away from zero (ONNX's Round takes them to the even one)."""
    return t.op("Mul", t.op("Sign", node), t.op("Floor", t.op("Add", t.op("Abs", node), t.number(HALF))))


def truncated(t: Tape, node: Node) -> Node:
    return t.op("Mul", t.op("Sign", node), t.op("Floor", t.op("Abs", node)))


def rounded(t: Tape, value: Value, digits: int, function: str) -> Value:
    """round() and trunc() to `digits` decimals; negative digits are places before the point."""
    (value,) = numbers(t, f"{function}()", value)
    rounding = half_away if function == "round" else truncated
    if value.kind is Kind.DOUBLE:
        return Value(value.kind, _rounded_double(t, value.node, digits, rounding))
    if digits >= value.scale:
        return value
    kept = max(digits, 0)
    result = rounding(t, t.op("Div", value.node, t.number(10.0 ** (value.scale - digits))))
    if digits < 0:
        result = t.op("Mul", result, t.number(10.0**-digits))
    return Value(value.kind, result, kept, signed_zero=True)


def _rounded_double(t: Tape, node: Node, digits: int, rounding: Rounding) -> Node:
    if digits == 0:
        return rounding(t, node)
    power = t.number(10.0 ** abs(digits))
    if digits < 0:
        return t.op("Mul", rounding(t, t.op("Div", node, power)), power)
    scaled = t.op("Mul", node, power)
    overflow = t.compare("Equal", t.op("Abs", scaled), t.number(math.inf))
    return t.where(overflow, node, t.op("Div", rounding(t, scaled), power))
