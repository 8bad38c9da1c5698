"""Which of SQL's operators and functions are supported, and what makes each.

Names of classes are sqlglot's, which reads DuckDB's spellings into them; functions that it has no class for stand in
`FUNCTIONS` by name.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlglot import exp

from levada.features.operators import arithmetic, casts, functions, logic, strings, temporal
from levada.features.tape import Tape
from levada.features.types import NULL_STRING, ExpressionError
from levada.features.values import MAX_SCALE, NUMERIC, Kind, Truth, Value, boolean, null, total, truth, unify, whole

EXACT_DIGITS = 15  # of a decimal literal; with more it is a double


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression is read: the tape it is written to, and the columns that it may name."""

    t: Tape
    columns: dict[str, Value]

    def value(self, node: exp.Expression) -> Value:
        """The value of a part of an expression."""
        if isinstance(node, exp.Anonymous):
            return FUNCTIONS[node.name.lower()](self, *node.expressions)
        return RULES[type(node)].make(self, node)

    def column(self, name: str) -> Value:
        """The column `name`; as in DuckDB, case matters only where two names differ in nothing else."""
        if name in self.columns:
            return self.columns[name]
        alike = [column for column in self.columns if column.lower() == name.lower()]
        if len(alike) == 1:
            return self.columns[alike[0]]
        if alike:
            raise ExpressionError(f"the column '{name}' could be any of {', '.join(alike)}")
        raise ExpressionError(f"there is no column '{name}'{nearest(name, self.columns)}")


@dataclass(frozen=True, slots=True)
class Rule:
    """Makes the value of one class of syntax node. args: those of the node's arguments that it honours."""

    make: Callable[[Scope, Any], Value]
    args: frozenset[str]


def nearest(name: str, known: Mapping[str, object]) -> str:
    """A hint at the known name that is most like `name`, or nothing."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f": did you mean '{by_lower[close[0]]}'?" if close else ""


def _rule(make: Callable[[Scope, Any], Value], *args: str) -> Rule:
    return Rule(make, frozenset(args))


def _unary(make: Callable[[Tape, Value], Value]) -> Rule:
    return _rule(lambda scope, node: make(scope.t, scope.value(node.this)), "this")


def _binary(make: Callable[[Tape, Value, Value], Value]) -> Rule:
    return _rule(
        lambda scope, node: make(scope.t, scope.value(node.this), scope.value(node.expression)), "this", "expression"
    )


def _comparison(op: str) -> Rule:
    return _binary(lambda t, left, right: logic.compare(t, op, left, right))


def _listed(make: Callable[[Tape, list[Value]], Value]) -> Rule:
    """`this` and `expressions` as one list."""
    return _rule(
        lambda scope, node: make(scope.t, [scope.value(item) for item in (node.this, *node.expressions)]),
        *("this", "expressions"),
    )


def _part(name: str) -> Rule:
    return _unary(lambda t, value: temporal.part(t, name, value))


def _literal(scope: Scope, node: exp.Literal) -> Value:
    t, text = scope.t, str(node.this)
    if node.is_string:
        if text == NULL_STRING:
            raise ExpressionError("the text U+10FFFD stands for null: write NULL")
        return Value(Kind.STRING, t.text(text), literal=text)
    if re.fullmatch(r"\d+", text):
        return Value(Kind.INTEGER, t.number(whole(text)))
    if match := re.fullmatch(r"(\d*)\.(\d*)", text):
        digits, scale = match[1] + match[2], len(match[2])
        if len(digits.lstrip("0")) <= EXACT_DIGITS and scale <= MAX_SCALE:
            return Value(Kind.DECIMAL, t.number(int(digits)), scale)
    return Value(Kind.DOUBLE, t.number(float(text)))


def _boolean(scope: Scope, node: exp.Boolean) -> Value:
    return boolean(scope.t, total(scope.t, scope.t.flag(bool(node.this))))


def _is(scope: Scope, node: exp.Is) -> Value:
    value = scope.value(node.this)
    if isinstance(node.expression, exp.Null):
        return logic.is_null(scope.t, value)
    if isinstance(node.expression, exp.Boolean):
        return logic.is_truth(scope.t, value, bool(node.expression.this))
    raise ExpressionError(f"'{node.sql('duckdb')}' is not supported: IS takes NULL, TRUE or FALSE")


def _between(scope: Scope, node: exp.Between) -> Value:
    return logic.between(scope.t, *(scope.value(node.args[name]) for name in ("this", "low", "high")))


def _in(scope: Scope, node: exp.In) -> Value:
    return logic.member(scope.t, scope.value(node.this), [scope.value(item) for item in node.expressions])


def _case(scope: Scope, node: exp.Case) -> Value:
    subject = scope.value(node.this) if node.this is not None else None
    conditions: list[Truth] = []
    for branch in node.args["ifs"]:
        condition = scope.value(branch.this)
        if subject is None:
            conditions.append(truth(scope.t, condition, "CASE WHEN"))
        else:
            conditions.append(logic.compared(scope.t, "Equal", subject, condition))
    results = [scope.value(branch.args["true"]) for branch in node.args["ifs"]]
    default = node.args.get("default")
    return logic.case(scope.t, conditions, results, None if default is None else scope.value(default))


def _if(scope: Scope, node: exp.If) -> Value:
    condition = truth(scope.t, scope.value(node.this), "IF")
    otherwise = node.args.get("false")
    result = scope.value(node.args["true"])
    return logic.case(scope.t, [condition], [result], None if otherwise is None else scope.value(otherwise))


def _rounded(name: str) -> Rule:
    def make(scope: Scope, node: exp.Round | exp.Trunc) -> Value:
        digits = node.args.get("decimals")
        places = 0 if digits is None else _constant_integer(scope, digits, f"{name}()")
        return arithmetic.rounded(scope.t, scope.value(node.this), places, name)

    return _rule(make, "this", "decimals")


def _constant_integer(scope: Scope, node: exp.Expression, where: str) -> int:
    value = scope.value(node)
    number = value.node.scalar
    if value.kind is not Kind.INTEGER or number is None or not abs(float(number)) <= MAX_SCALE:
        raise ExpressionError(f"{where} needs the number of digits as a constant between -{MAX_SCALE} and {MAX_SCALE}")
    return int(number)


def _logarithm(scope: Scope, node: exp.Log) -> Value:
    if node.expression is None:
        return functions.logarithm(scope.t, scope.value(node.this), 10.0)
    base = scope.value(node.this)
    if base.kind not in NUMERIC or base.node.scalar is None:
        raise ExpressionError("log() needs a constant base: write ln(x) / ln(base)")
    return functions.logarithm(scope.t, scope.value(node.expression), float(base.node.scalar) / 10.0**base.scale)


def _cast(scope: Scope, node: exp.Cast) -> Value:
    parameters = tuple(int(parameter.name) for parameter in node.to.expressions)
    return casts.cast(scope.t, scope.value(node.this), node.to.this.name, parameters)


def _interval(scope: Scope, node: exp.Interval) -> Value:
    unit = node.args.get("unit")
    if node.this is None or not (unit is None or isinstance(unit, exp.Var)):
        raise ExpressionError(f"'{node.sql('duckdb')}' is not supported: write INTERVAL 90 MINUTE")
    return casts.interval(scope.t, scope.value(node.this), None if unit is None else unit.name)


def _extract(scope: Scope, node: exp.Extract) -> Value:
    return temporal.part(scope.t, node.this.name, scope.value(node.expression))


def _date_trunc(scope: Scope, node: exp.DateTrunc | exp.TimestampTrunc) -> Value:
    return temporal.truncate(scope.t, node.args["unit"].name, scope.value(node.this))


def _date_diff(scope: Scope, node: exp.DateDiff) -> Value:
    start, end = unify(scope.t, [scope.value(node.expression), scope.value(node.this)], "date_diff()")
    return temporal.difference(scope.t, node.args["unit"].name, start, end)


def _epoch_in_milliseconds(scope: Scope, node: exp.UnixToTime) -> Value:
    return temporal.epoch_in(scope.t, "millisecond", scope.value(node.this))


def _like(scope: Scope, node: exp.Like) -> Value:
    result = strings.like(scope.t, scope.value(node.this), scope.value(node.expression))
    return logic.negation(scope.t, result) if node.args.get("negate") else result


def _swapped_part(name: str, t: Tape, value: Value) -> Value:
    return temporal.part(t, name, value)


def _infinite(t: Tape, value: Value) -> Value:
    (node,) = arithmetic.doubles(t, "isinf()", value)
    infinity = t.number(math.inf)
    size = t.op("Abs", node)
    return boolean(t, Truth(t.compare("Equal", size, infinity), t.compare("Less", size, infinity)))


RULES: dict[type[exp.Expression], Rule] = {
    exp.Column: _rule(lambda scope, node: scope.column(node.name), "this"),
    exp.Literal: _rule(_literal, "this", "is_string"),
    exp.Boolean: _rule(_boolean, "this"),
    exp.Null: _rule(lambda scope, node: null(scope.t)),
    exp.Paren: _unary(lambda t, value: value),
    exp.Try: _unary(lambda t, value: value),
    # Arithmetic
    exp.Add: _binary(arithmetic.add),
    exp.Sub: _binary(arithmetic.subtract),
    exp.Mul: _binary(arithmetic.multiply),
    exp.Div: _binary(arithmetic.divide),
    exp.IntDiv: _binary(arithmetic.int_divide),
    exp.Mod: _binary(arithmetic.modulo),
    exp.Neg: _unary(arithmetic.negative),
    exp.Abs: _unary(arithmetic.absolute),
    exp.Sign: _unary(arithmetic.sign),
    exp.Floor: _unary(lambda t, value: arithmetic.to_integral(t, "Floor", value)),
    exp.Ceil: _unary(lambda t, value: arithmetic.to_integral(t, "Ceil", value)),
    exp.Round: _rounded("round"),
    exp.Trunc: _rounded("trunc"),
    # Functions of doubles
    exp.Sqrt: _unary(functions.square_root),
    exp.Ln: _unary(functions.natural_logarithm),
    exp.Log: _rule(_logarithm, "this", "expression"),
    exp.Exp: _unary(partial(functions.in_pairs, "Exp", "exp()")),
    exp.Sin: _unary(partial(functions.in_pairs, "Sin", "sin()")),
    exp.Cos: _unary(partial(functions.in_pairs, "Cos", "cos()")),
    exp.Tanh: _unary(partial(functions.in_pairs, "Tanh", "tanh()")),
    exp.Pow: _binary(functions.power),
    exp.Radians: _unary(functions.radians),
    exp.Degrees: _unary(functions.degrees),
    exp.Pi: _rule(lambda scope, node: functions.pi(scope.t)),
    exp.IsInf: _unary(_infinite),
    # Comparison and logic
    exp.EQ: _comparison("Equal"),
    exp.NEQ: _binary(logic.unequal),
    exp.LT: _comparison("Less"),
    exp.LTE: _comparison("LessOrEqual"),
    exp.GT: _comparison("Greater"),
    exp.GTE: _comparison("GreaterOrEqual"),
    exp.And: _binary(logic.both),
    exp.Or: _binary(logic.either),
    exp.Not: _unary(logic.negation),
    exp.Is: _rule(_is, "this", "expression"),
    exp.NullSafeEQ: _binary(lambda t, left, right: logic.negation(t, logic.distinct(t, left, right))),
    exp.NullSafeNEQ: _binary(logic.distinct),
    exp.Between: _rule(_between, "this", "low", "high"),
    exp.In: _rule(_in, "this", "expressions"),
    # Choice
    exp.Case: _rule(_case, "this", "ifs", "default"),
    exp.If: _rule(_if, "this", "true", "false"),
    exp.Coalesce: _listed(logic.coalesce),
    exp.Nullif: _binary(logic.nullif),
    exp.Greatest: _listed(lambda t, values: logic.extreme(t, values, "GreaterOrEqual", "greatest()")),
    exp.Least: _listed(lambda t, values: logic.extreme(t, values, "LessOrEqual", "least()")),
    exp.Cast: _rule(_cast, "this", "to"),
    exp.TryCast: _rule(_cast, "this", "to"),
    # Times
    exp.Interval: _rule(_interval, "this", "unit"),
    exp.Extract: _rule(_extract, "this", "expression"),
    **dict.fromkeys((exp.DateTrunc, exp.TimestampTrunc), _rule(_date_trunc, "this", "unit")),
    exp.DateDiff: _rule(_date_diff, "this", "expression", "unit"),
    exp.ToDays: _unary(lambda t, value: casts.interval(t, value, "day")),
    exp.DateAdd: _binary(arithmetic.add),
    exp.DateFromParts: _rule(
        lambda scope, node: temporal.make_date(scope.t, *(scope.value(node.args[n]) for n in ("year", "month", "day"))),
        *("year", "month", "day"),
    ),
    exp.LastDay: _unary(temporal.last_day),
    exp.TimeToUnix: _part("epoch"),
    exp.UnixToTime: _rule(_epoch_in_milliseconds, "this", "scale"),
    exp.Dayname: _unary(lambda t, value: temporal.named(t, "dayname", value)),
    exp.Monthname: _unary(lambda t, value: temporal.named(t, "monthname", value)),
    exp.Year: _part("year"),
    exp.Quarter: _part("quarter"),
    exp.Month: _part("month"),
    exp.Week: _part("week"),
    exp.WeekOfYear: _part("week"),
    exp.Day: _part("day"),
    exp.DayOfMonth: _part("day"),
    exp.DayOfYear: _part("doy"),
    exp.DayOfWeek: _part("dow"),
    exp.DayOfWeekIso: _part("isodow"),
    exp.Hour: _part("hour"),
    exp.Minute: _part("minute"),
    exp.Second: _part("second"),
    # Strings
    exp.DPipe: _binary(strings.concatenate),
    exp.Concat: _rule(
        lambda scope, node: strings.concat(scope.t, [scope.value(e) for e in node.expressions]), "expressions"
    ),
    exp.Like: _rule(_like, "this", "expression", "negate"),
    exp.StartsWith: _binary(strings.starts_with),
    exp.EndsWith: _binary(strings.ends_with),
    exp.Contains: _binary(strings.contains),
}


@dataclass(frozen=True, slots=True)
class Function:
    """A function that sqlglot knows by name only."""

    make: Callable[..., Value]
    arity: int

    def __call__(self, scope: Scope, *arguments: exp.Expression) -> Value:
        return self.make(scope, *arguments)


def _function(make: Callable[..., Value], arity: int = 1) -> Function:
    """A function of `arity` values."""
    return Function(lambda scope, *nodes: make(scope.t, *(scope.value(node) for node in nodes)), arity)


def _with_unit(make: Callable[..., Value], arity: int) -> Function:
    """A function of the name of a date part, and of `arity` - 1 values."""

    def call(scope: Scope, unit: exp.Expression, *nodes: exp.Expression) -> Value:
        if not (isinstance(unit, exp.Literal) and unit.is_string):
            raise ExpressionError(f"'{unit.sql('duckdb')}' has to be a date part in quotes, such as 'hour'")
        return make(scope.t, unit.name, *(scope.value(node) for node in nodes))

    return Function(call, arity)


def _duration(unit: str) -> Function:
    return _function(lambda t, count: casts.interval(t, count, unit))


FUNCTIONS: dict[str, Function] = {
    **{name: _with_unit(temporal.part, 2) for name in ("date_part", "datepart")},
    **{name: _with_unit(temporal.whole_units, 3) for name in ("date_sub", "datesub")},
    **{name: _function(partial(_swapped_part, name)) for name in ("weekday", "isoyear", "millisecond", "microsecond")},
    **{f"to_{unit}s": _duration(unit) for unit in temporal.UNITS if unit != "day"},
    "epoch_us": _function(lambda t, value: temporal.epoch_in(t, "microsecond", value)),
    "isfinite": _function(lambda t, value: logic.negation(t, _infinite(t, value))),
    "prefix": _function(strings.starts_with, 2),
    "suffix": _function(strings.ends_with, 2),
}

# Arguments by which sqlglot tells dialects apart; as it reads DuckDB's, they say what is done here anyway.
HARMLESS = frozenset({"typed", "safe", "ignore_nulls", "coalesce", "date_part_boundary"})

# Why something is refused, where its name alone does not say.
REASONS: dict[type[Any], str] = {
    exp.Tan: "write sin(x) / cos(x)",
    **dict.fromkeys(
        (exp.Asin, exp.Acos, exp.Atan, exp.Atan2, exp.Sinh, exp.Cosh, exp.Cbrt),
        "ONNX Runtime has no such function of doubles; put it in the query",
    ),
    **dict.fromkeys(
        (exp.Lower, exp.Upper, exp.Length, exp.Substring, exp.Trim, exp.Replace, exp.ILike, exp.RegexpLike),
        "ONNX Runtime does not treat texts as DuckDB does; put it in the query",
    ),
    exp.IsNan: "a NaN is a null here; write IS NULL",
    **dict.fromkeys(
        (exp.Window, exp.AggFunc, exp.Subquery, exp.Query), "it needs more than one row; put it in the query"
    ),
    **dict.fromkeys(
        (exp.Rand, exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp),
        "a feature depends on its row alone, so that it can be computed again",
    ),
}
