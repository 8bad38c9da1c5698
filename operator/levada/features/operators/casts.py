"""Casts, and intervals. A cast that DuckDB reports as an error for a row makes null, as TRY_CAST does."""

from __future__ import annotations

import re

from levada.features.operators.arithmetic import LONGEST, half_away, times
from levada.features.operators.temporal import UNITS, unit_named
from levada.features.tape import Dtype, Node, Tape
from levada.features.types import DAY, MAX_INTEGER, ExpressionError
from levada.features.values import (
    MAX_SCALE,
    NUMERIC,
    Kind,
    Truth,
    Value,
    as_double,
    boolean,
    convert,
    null,
    parse_literal,
    rescale,
    temporal,
    truth,
)

INTEGERS = {
    "TINYINT": (-(2**7), 2**7 - 1),
    "SMALLINT": (-(2**15), 2**15 - 1),
    "INT": (-(2**31), 2**31 - 1),
    "BIGINT": (-(2**63), 2**63 - 1024),  # the last double within
    "UTINYINT": (0, 2**8 - 1),
    "USMALLINT": (0, 2**16 - 1),
    "UINT": (0, 2**32 - 1),
}
KINDS = {
    "DOUBLE": Kind.DOUBLE,
    "BOOLEAN": Kind.BOOLEAN,
    "TEXT": Kind.STRING,
    "VARCHAR": Kind.STRING,
    "DATE": Kind.DATE,
    "TIMESTAMP": Kind.TIMESTAMP,
    "TIMESTAMPNTZ": Kind.TIMESTAMP,
}


def cast(t: Tape, value: Value, target: str, parameters: tuple[int, ...]) -> Value:
    """CAST, TRY_CAST and :: to the type that sqlglot calls `target`."""
    if target in INTEGERS:
        return to_integer(t, value, *INTEGERS[target])
    if target == "DECIMAL":
        width, scale = (*parameters, 0, 0)[:2] if parameters else (18, 3)
        return to_decimal(t, value, width, scale)
    kind = KINDS.get(target)
    if kind is None:
        raise ExpressionError(f"CAST to {target} is not supported")
    if value.kind is Kind.NULL:
        return null(t, kind)
    if value.literal is not None and kind is not Kind.STRING:
        return parse_literal(t, value.literal, kind, 0, "CAST")
    if kind is Kind.DOUBLE and value.kind in (*NUMERIC, Kind.BOOLEAN):
        return Value(kind, as_double(t, value))
    if kind is Kind.BOOLEAN and value.kind in (*NUMERIC, Kind.BOOLEAN):
        return boolean(t, truth(t, value, "CAST"))
    if kind is Kind.STRING:
        return to_string(t, value)
    if kind is Kind.TIMESTAMP and value.kind in (Kind.DATE, Kind.TIMESTAMP):
        return Value(kind, value.node)
    if kind is Kind.DATE and value.kind in (Kind.DATE, Kind.TIMESTAMP):
        midnight = t.op("Sub", value.node, t.op("Mod", value.node, t.integer(DAY)))
        return temporal(t, kind, midnight, value.node) if value.kind is Kind.TIMESTAMP else value
    raise unsupported(value, kind)


def unsupported(value: Value, kind: Kind) -> ExpressionError:
    return ExpressionError(f"CAST from {value.kind} to {kind} is not supported")


def _bounded(t: Tape, node: Node, low: float, high: float) -> Node:
    """`node`, null beyond the bounds."""
    within = t.both(t.compare("GreaterOrEqual", node, t.number(low)), t.compare("LessOrEqual", node, t.number(high)))
    return t.where(within, node, t.null(Dtype.DOUBLE))


def _narrowed(t: Tape, node: Node, low: int, high: int) -> Node:
    """`node`, whose values are exact already, null beyond the bounds: no check where no exact value could be."""
    return node if low <= -MAX_INTEGER and high >= MAX_INTEGER else _bounded(t, node, low, high)


def to_integer(t: Tape, value: Value, low: int, high: int) -> Value:
    """Decimals round half away from zero, doubles half to even."""
    if value.literal is not None:
        value = parse_literal(t, value.literal, Kind.INTEGER, 0, "CAST")
    if value.kind is Kind.NULL:
        return null(t, Kind.INTEGER)
    if value.kind is Kind.DOUBLE:
        return Value(Kind.INTEGER, _bounded(t, t.op("Round", value.node), low, high), signed_zero=True)
    if value.kind is Kind.DECIMAL:
        node = half_away(t, t.op("Div", value.node, t.number(10.0**value.scale)))
        return Value(Kind.INTEGER, _narrowed(t, node, low, high), signed_zero=True)
    if value.kind is Kind.BOOLEAN:
        return Value(Kind.INTEGER, value.node)
    if value.kind is Kind.INTEGER:
        return Value(Kind.INTEGER, _narrowed(t, value.node, low, high), signed_zero=value.signed_zero)
    raise unsupported(value, Kind.INTEGER)


def to_decimal(t: Tape, value: Value, width: int, scale: int) -> Value:
    if not 0 <= scale <= MAX_SCALE or width < scale:
        raise ExpressionError(f"DECIMAL({width}, {scale}) is not supported: at most {MAX_SCALE} decimal places")
    if value.literal is not None:
        value = parse_literal(t, value.literal, Kind.DECIMAL, scale, "CAST")
    if value.kind is Kind.NULL:
        return convert(t, value, Kind.DECIMAL, scale, "CAST")
    bounded = _bounded if value.kind is Kind.DOUBLE else _narrowed
    if value.kind is Kind.DOUBLE:
        node = half_away(t, t.op("Mul", value.node, t.number(10.0**scale)))
    elif value.kind in (Kind.INTEGER, Kind.DECIMAL, Kind.BOOLEAN):
        if value.scale <= scale:
            node = rescale(t, value, scale)
        else:
            node = half_away(t, t.op("Div", value.node, t.number(10.0 ** (value.scale - scale))))
    else:
        raise unsupported(value, Kind.DECIMAL)
    largest = 10**width - 1
    return Value(Kind.DECIMAL, bounded(t, node, -largest, largest), scale, signed_zero=True)


def to_string(t: Tape, value: Value) -> Value:
    """Integers and booleans; DuckDB's text of other types is not ONNX's."""
    if value.kind is Kind.STRING:
        return value
    if value.kind is Kind.NULL:
        return null(t, Kind.STRING)
    missing = t.null(Dtype.STRING)
    if value.kind is Kind.BOOLEAN:
        condition = truth(t, value, "CAST")
        return Value(Kind.STRING, _true_or_false(t, condition, missing))
    if value.kind is Kind.INTEGER:
        digits = t.op("Cast", t.cast(value.node, Dtype.INT64), dtype=Dtype.STRING)
        return Value(Kind.STRING, t.where(t.is_null(value.node), missing, digits))
    raise ExpressionError(f"a {value.kind} cannot be made a string: its digits would not be DuckDB's")


def _true_or_false(t: Tape, condition: Truth, missing: Node) -> Node:
    otherwise = t.text("false") if condition.total else t.where(condition.no, t.text("false"), missing)
    return t.where(condition.yes, t.text("true"), otherwise)


def interval(t: Tape, count: Value, unit: str | None) -> Value:
    """INTERVAL n unit, of a fixed length (a day is 24 hours)."""
    if count.literal is not None:
        return Value(Kind.INTERVAL, t.integer(_length(count.literal, unit)))
    return times(t, t.integer(_unit_length(unit or "")), count)


def _unit_length(unit: str) -> int:
    length = UNITS.get(unit_named(unit))
    if length is None:
        raise ExpressionError(f"an interval in {unit.lower()}s is not supported: its length varies, use days or weeks")
    return length


def _length(text: str, unit: str | None) -> int:
    """Microseconds of an interval's text: '90' with a unit, or '1 day 2 hours'. Whole numbers only: DuckDB drops the
    decimals of some spellings."""
    if unit is not None:
        text = f"{text} {unit}"
    if not re.fullmatch(r"\s*([+-]?\d{1,12}\s*[A-Za-z]+\s*)+", text):
        raise ExpressionError(f"the interval '{text}' is not understood: write whole numbers, INTERVAL 90 MINUTE")
    length = sum(int(number) * _unit_length(name) for number, name in re.findall(r"([+-]?\d+)\s*([A-Za-z]+)", text))
    if abs(length) > LONGEST:
        raise ExpressionError(f"the interval '{text}' is too long")
    return length
