"""Derived features: SQL expressions over one row, parsed in DuckDB's dialect, checked, and turned into nodes.

What `rules.py` does not list is refused by name, and so is a known operator with an argument that its rule does not
honour (the parser marks some variants only that way).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from levada.features.operators.casts import INTEGERS, KINDS
from levada.features.rules import FUNCTIONS, HARMLESS, REASONS, RULES, Scope, nearest
from levada.features.tape import Dtype, Node, Tape, is_fixed
from levada.features.types import ColumnType, ExpressionError
from levada.features.values import COLUMN_KINDS, DTYPES, RESULT_TYPES, Kind, Value, as_double

MAX_LENGTH = 4096
CASTS = {*INTEGERS, *KINDS, "DECIMAL"}
# Parts of other nodes, whose rules read them.
PARTS = (exp.Identifier, exp.Var, exp.DataTypeParam)


@dataclass
class Derivation:
    """Derived features as nodes of one tape.

    outputs: a node of shape [N, 1] for each feature, by name, in the order of definition.
    types: of the features.
    """

    tape: Tape = field(default_factory=Tape)
    outputs: dict[str, Node] = field(default_factory=dict)
    types: dict[str, ColumnType] = field(default_factory=dict)


def check(expression: str, columns: Mapping[str, ColumnType]) -> ColumnType:
    """The type of an expression over `columns`.

    Raises:
        ExpressionError: it cannot be compiled; one sentence says what in it, and why.
    """
    tape = Tape()
    return RESULT_TYPES[_feature(Scope(tape, _inputs(tape, columns)), expression).kind]


def request_columns(expression: str) -> tuple[str, ...]:
    """The columns that an expression names, as it spells them, in order of appearance.

    Needs no types, so it tells at once whether a manifest uses anything that is not supported.

    Raises:
        ExpressionError: not SQL, or something in it cannot be compiled.
    """
    return tuple(dict.fromkeys(column.name for column in parse(expression).find_all(exp.Column, bfs=False)))


def derive(derived: Sequence[tuple[str, str]], columns: Mapping[str, ColumnType]) -> Derivation:
    """Derived features, each a name and an expression over `columns` and the features before it.

    Raises:
        ExpressionError: a name is taken, or an expression cannot be compiled; the sentence names the feature.
    """
    result = Derivation()
    scope = Scope(result.tape, _inputs(result.tape, columns))
    names = [name for name, _ in derived]
    for position, (name, expression) in enumerate(derived):
        if any(name.lower() == known.lower() for known in scope.columns):
            kind = "derived feature" if name.lower() in map(str.lower, names[:position]) else "column"
            raise ExpressionError(f"derived feature '{name}': there is a {kind} of that name already")
        try:
            _refuse_later(expression, scope, names[position:])
            value = _feature(scope, expression)
        except ExpressionError as error:
            raise ExpressionError(f"derived feature '{name}': {error}") from error
        result.outputs[name] = value.node
        result.types[name] = RESULT_TYPES[value.kind]
        scope.columns[name] = value
    return result


def _inputs(tape: Tape, columns: Mapping[str, ColumnType]) -> dict[str, Value]:
    kinds = {name: COLUMN_KINDS[column_type] for name, column_type in columns.items()}
    return {name: Value(kind, tape.input(name, DTYPES[kind])) for name, kind in kinds.items()}


def _refuse_later(expression: str, scope: Scope, later: Sequence[str]) -> None:
    """Features that do not exist yet get a better sentence than other unknown names."""
    for name in request_columns(expression):
        if name in later and name not in scope.columns:
            raise ExpressionError("it uses itself" if name == later[0] else f"it uses '{name}', which is derived later")


def _feature(scope: Scope, expression: str) -> Value:
    """The value of an expression, as a column of shape [N, 1]."""
    tree = parse(expression)
    try:
        value = scope.value(tree)
    except RecursionError as error:
        raise ExpressionError("the expression is nested too deeply") from error
    if value.kind is Kind.NULL:
        raise ExpressionError("the expression is always null")
    if value.kind is Kind.INTERVAL:
        raise ExpressionError("the result is an interval: make it a number with epoch() or date_diff()")
    if value.kind is Kind.DECIMAL:
        value = Value(Kind.DOUBLE, as_double(scope.t, value))
    if not is_fixed(value.node):
        return value
    column = tree.find(exp.Column)
    if column is None:
        raise ExpressionError("the expression uses no column, so it is the same for every row")
    rows = scope.t.op("Shape", scope.column(column.name).node, dtype=Dtype.INT64)
    return Value(value.kind, scope.t.op("Expand", value.node, rows))


def parse(expression: str) -> Any:
    """The syntax tree (sqlglot's) of an expression in which everything is supported, types aside.

    Raises:
        ExpressionError: not SQL, or something in it cannot be compiled.
    """
    if len(expression) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
    try:
        tree: Any = sqlglot.parse_one(expression, read="duckdb")
    except ParseError as error:
        where = error.errors[0] if error.errors else {}
        raise ExpressionError(f"not a SQL expression: {where.get('description', 'it is empty')}") from error
    except SqlglotError as error:
        raise ExpressionError("not a SQL expression: a quote or a bracket is not closed") from error
    except RecursionError as error:
        raise ExpressionError("the expression is nested too deeply") from error
    for node in tree.walk(bfs=False):
        _refuse_unsupported(node)
    return tree


def _refuse_unsupported(node: Any) -> None:
    if isinstance(node, PARTS):
        return
    if isinstance(node, exp.DataType):
        if node.this.name not in CASTS:
            raise ExpressionError(f"the type {node.sql('duckdb')} is not supported")
        return
    if isinstance(node, exp.Anonymous):
        function = FUNCTIONS.get(node.name.lower())
        if function is None:
            raise ExpressionError(f"the function {node.name}() is not supported{nearest(node.name, FUNCTIONS)}")
        if len(node.expressions) != function.arity:
            raise ExpressionError(f"{node.name}() takes {function.arity} arguments, not {len(node.expressions)}")
        return
    rule = RULES.get(type(node))
    if rule is None:
        reasons = [reason for refused, reason in REASONS.items() if isinstance(node, refused)]
        raise ExpressionError(f"{_called(node)} is not supported" + "".join(f": {reason}" for reason in reasons[:1]))
    unknown = [name for name, value in node.args.items() if value and name not in rule.args | HARMLESS]
    if unknown:
        raise ExpressionError(f"{_called(node)} with '{unknown[0]}' is not supported")


def _called(node: Any) -> str:
    """What a person calls a syntax node."""
    if isinstance(node, exp.Func):
        return f"{node.sql_name().lower()}()"
    text: str = node.sql("duckdb")
    return f"'{text if len(text) <= 60 else text[:57] + '...'}'"
