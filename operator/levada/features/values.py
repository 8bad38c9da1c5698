"""SQL values as nodes: their kinds, how they become one another, and three-valued truth.

Kinds are DuckDB's types as far as results depend on them. An integer is a double with a whole value. A decimal is a
double that holds the value times 10**scale, whole as well: `0.1 + 0.2 = 0.3` holds, as it does in DuckDB. Both are
exact to 2**53. Widths are not modelled: where DuckDB reports an overflow, the result here is the nearest double.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from levada.features.tape import Dtype, Node, Tape
from levada.features.types import MAX_INTEGER, ColumnType, ExpressionError

MAX_SCALE = 22  # 10**22 is the last power of ten that is a double
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DATE_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}")
# No offset from UTC, which DuckDB reads and drops.
TIME_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?Z?)?")


class Kind(StrEnum):
    """What a value is; the values are what messages call it."""

    NULL = "NULL"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    DECIMAL = "decimal"
    DOUBLE = "double"
    STRING = "string"
    DATE = "date"
    TIMESTAMP = "timestamp"
    INTERVAL = "interval"


NUMERIC = (Kind.INTEGER, Kind.DECIMAL, Kind.DOUBLE)
TEMPORAL = (Kind.DATE, Kind.TIMESTAMP)
DTYPES = {
    **dict.fromkeys((Kind.NULL, Kind.BOOLEAN, *NUMERIC), Dtype.DOUBLE),
    **dict.fromkeys((*TEMPORAL, Kind.INTERVAL), Dtype.INT64),
    Kind.STRING: Dtype.STRING,
}
COLUMN_KINDS = {
    ColumnType.INT64: Kind.INTEGER,
    ColumnType.FLOAT64: Kind.DOUBLE,
    ColumnType.STRING: Kind.STRING,
    ColumnType.BOOLEAN: Kind.BOOLEAN,
    ColumnType.TIMESTAMP: Kind.TIMESTAMP,
    ColumnType.DATE: Kind.DATE,
}
RESULT_TYPES = {kind: column_type for column_type, kind in COLUMN_KINDS.items()} | {Kind.DECIMAL: ColumnType.FLOAT64}


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a condition is true and where it is false (both BOOL); where neither, it is null. total: never null."""

    yes: Node
    no: Node
    total: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """A typed tensor.

    node: in the dtype of its kind, null as types.py says. scale: of a decimal.
    literal: the text of a string literal, which takes on the type of what it meets.
    signed_zero: an integer or decimal whose zero may be -0.0, which only a division could tell.
    truth: the condition that a boolean was made from.
    """

    kind: Kind
    node: Node
    scale: int = 0
    literal: str | None = None
    signed_zero: bool = False
    truth: Truth | None = None


def null(t: Tape, kind: Kind = Kind.NULL) -> Value:
    return Value(kind, t.null(DTYPES[kind]))


def boolean(t: Tape, truth: Truth) -> Value:
    """A condition as a value: 1, 0 or NaN."""
    if truth.total:
        return Value(Kind.BOOLEAN, t.cast(truth.yes, Dtype.DOUBLE), truth=truth)
    unknown = t.where(truth.no, t.number(0), t.null(Dtype.DOUBLE))
    return Value(Kind.BOOLEAN, t.where(truth.yes, t.number(1), unknown), truth=truth)


def total(t: Tape, yes: Node) -> Truth:
    """A condition that is never null."""
    return Truth(yes, t.negate(yes), total=True)


def truth(t: Tape, value: Value, where: str) -> Truth:
    """A value as a condition; numbers are true when they are not zero."""
    node, zero = value.node, t.number(0)
    if value.kind is Kind.BOOLEAN:
        return value.truth or Truth(t.compare("Equal", node, t.number(1)), t.compare("Equal", node, zero))
    if value.kind in NUMERIC or value.kind is Kind.NULL:
        return Truth(t.compare("Greater", t.op("Abs", node), zero), t.compare("Equal", node, zero))
    raise ExpressionError(f"{where} needs a condition, not a {value.kind}")


def as_double(t: Tape, value: Value) -> Node:
    """A number as DOUBLE. A zero loses its sign on the way from an integer, which has none in DuckDB."""
    node = value.node
    if value.signed_zero and value.kind is not Kind.DOUBLE:
        node = t.where(t.compare("Equal", node, t.number(0)), t.number(0), node)
    return t.op("Div", node, t.number(10.0**value.scale)) if value.scale else node


def rescale(t: Tape, value: Value, scale: int) -> Node:
    """An integer or decimal at a scale that is not smaller than its own."""
    return value.node if scale == value.scale else t.op("Mul", value.node, t.number(10.0 ** (scale - value.scale)))


def common(values: Sequence[Value], where: str) -> tuple[Kind, int]:
    """Kind and scale that DuckDB brings `values` to for comparing them or for choosing one of them."""
    typed = [v for v in values if v.kind is not Kind.NULL and v.literal is None]
    kinds = {v.kind for v in typed}
    if not kinds:
        return (Kind.STRING if any(v.literal is not None for v in values) else Kind.NULL), 0
    if len(kinds) == 1 and kinds != {Kind.DECIMAL}:
        return kinds.pop(), 0
    if kinds <= {Kind.BOOLEAN, *NUMERIC}:
        kind = max(kinds, key=(Kind.BOOLEAN, *NUMERIC).index)
        return kind, max(v.scale for v in typed) if kind is Kind.DECIMAL else 0
    if kinds <= set(TEMPORAL):
        return Kind.TIMESTAMP, 0
    names = sorted(kinds)
    raise ExpressionError(f"{where} cannot mix {names[0]} and {names[1]}")


def convert(t: Tape, value: Value, kind: Kind, scale: int, where: str) -> Value:
    """`value` as what `common` found."""
    if value.kind is Kind.NULL:
        return Value(kind, t.null(DTYPES[kind]), scale)
    if value.literal is not None and kind is not Kind.STRING:
        return parse_literal(t, value.literal, kind, scale, where)
    if kind is Kind.DOUBLE:
        return Value(kind, as_double(t, value))
    if kind is Kind.DECIMAL:
        return Value(kind, rescale(t, value, scale), scale, signed_zero=value.signed_zero)
    return Value(kind, value.node, literal=value.literal, signed_zero=value.signed_zero, truth=value.truth)


def unify(t: Tape, values: Sequence[Value], where: str) -> list[Value]:
    """`values`, all brought to one kind and scale. Raises ExpressionError, which says `where`, if there is none."""
    kind, scale = common(values, where)
    return [convert(t, value, kind, scale, where) for value in values]


def parse_literal(t: Tape, text: str, kind: Kind, scale: int, where: str) -> Value:
    """A string literal as a value of another kind."""
    stripped = text.strip()
    if kind is Kind.TIMESTAMP and TIME_TEXT.fullmatch(stripped):
        return Value(kind, t.integer(microseconds(text)))
    if kind is Kind.DATE and DATE_TEXT.fullmatch(stripped):
        return Value(kind, t.integer(microseconds(text)))
    if kind is Kind.BOOLEAN and stripped.lower() in ("true", "false"):
        return Value(kind, t.number(stripped.lower() == "true"))
    if kind is Kind.INTEGER and re.fullmatch(r"[+-]?\d{1,16}", stripped):
        return Value(kind, t.number(whole(stripped)))
    if kind is Kind.DOUBLE and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", stripped):
        return Value(kind, t.number(float(stripped)))
    if kind is Kind.DECIMAL and (match := re.fullmatch(r"([+-]?\d{1,15})(?:\.(\d+))?", stripped)):
        fraction = match[2] or ""
        if len(fraction) <= scale:
            return Value(kind, t.number(whole(match[1] + fraction.ljust(scale, "0"))), scale)
    article = "an" if kind in (Kind.INTEGER, Kind.INTERVAL) else "a"
    raise ExpressionError(f"{where} cannot read the text '{text}' as {article} {kind}")


def whole(text: str) -> int:
    """An integer from its digits; raises ExpressionError beyond what a double holds exactly."""
    value = int(text)
    if abs(value) > MAX_INTEGER:
        raise ExpressionError(f"the number {text} is beyond 2**53, up to which integers are exact: write {text}e0")
    return value


def microseconds(text: str) -> int:
    """An ISO 8601 date or time, in UTC, in microseconds since 1970."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ExpressionError(f"'{text}' is not a time: {error}") from error
    return (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


def as_int64(t: Tape, value: Value, limit: int) -> Node:
    """An integer as INT64; null where it is null or beyond ±`limit`. A null is never the result of a cast, since
    processors disagree on what NaN becomes."""
    node = value.node
    within = t.compare("LessOrEqual", t.op("Abs", node), t.number(limit))
    return t.where(within, t.cast(node, Dtype.INT64), t.null(Dtype.INT64))


def temporal(t: Tape, kind: Kind, node: Node, *operands: Node) -> Value:
    """A time made of `operands` (INT64); null where one of them is."""
    return Value(kind, t.where(t.either(*map(t.is_null, operands)), t.null(Dtype.INT64), node))


def counted(t: Tape, node: Node, *operands: Node, kind: Kind = Kind.INTEGER) -> Value:
    """An INT64 or DOUBLE made of times (`operands`), as a number; null where one of them is."""
    result = t.cast(node, Dtype.DOUBLE)
    return Value(kind, t.where(t.either(*map(t.is_null, operands)), t.null(Dtype.DOUBLE), result))
