"""What the query of a FeatureSet may say: one SELECT over the declared inputs, with the same answer every time.

The check needs nothing but the text, so a manifest is judged when it is read. It is the first of two walls: the step
runs the query in an engine that can reach neither files nor network, whatever the text says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.tokens import Token, TokenType  # type: ignore[attr-defined]

from levada.errors import Stalled
from levada.features.rules import nearest
from levada.resources.conditions import Reason

FIELD = "spec.query"

# fmt: off
# What gives another answer each time it is asked.
VOLATILE = frozenset({
    "ago", "current_connection_id", "current_date", "current_localtime", "current_localtimestamp",
    "current_query", "current_query_id", "current_time", "current_timestamp", "current_transaction_id", "currval",
    "gen_random_uuid", "get_current_time", "get_current_timestamp", "localtime", "localtimestamp", "nextval",
    "now", "pg_conf_load_time", "pg_postmaster_start_time", "pg_sleep", "random", "setseed", "setval", "sleep_ms",
    "stats", "today", "transaction_timestamp", "txid_current", "uuid", "uuidv4", "uuidv7", "vector_type",
    "write_log",
})
# What looks at the engine, the file system or the environment instead of at the inputs.
OUTSIDE = frozenset({
    "current_catalog", "current_database", "current_role", "current_schema", "current_schemas", "current_setting",
    "current_user", "getenv", "getvariable", "glob", "in_search_path", "parquet_scan", "pg_get_constraintdef",
    "pg_get_viewdef", "query", "query_table", "read_blob", "read_csv", "read_csv_auto", "read_duckdb",
    "read_json", "read_json_auto", "read_json_objects", "read_json_objects_auto", "read_ndjson",
    "read_ndjson_auto", "read_ndjson_objects", "read_parquet", "read_text", "session_user", "sniff_csv", "user",
    "version",
})
# Functions that SQL calls without parentheses.
BARE = frozenset({
    "current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp",
    "current_user", "localtime", "localtimestamp", "session_user",
})
# fmt: on
TABLE_FUNCTIONS = (exp.GenerateSeries, exp.Unnest)
BEGINNINGS = ("select", "with", "from", "(")
STATEMENTS = (
    exp.Command,
    exp.Create,
    exp.Delete,
    exp.Describe,
    exp.Insert,
    exp.Into,
    exp.Merge,
    exp.Show,
    exp.Summarize,
    exp.Update,
)


def check_query(sql: str, tables: Collection[str]) -> None:
    """Judge a query by its text; `tables` are the names by which it may read its inputs.

    Raises:
        Stalled: INVALID_QUERY, with one sentence that says what is wrong and where.
    """
    tree = parse(sql)
    for node in tree.walk(bfs=False):
        _check_node(node, sql)
    _check_tables(tree, tables, sql)


def statement(sql: str) -> str:
    """The text without what surrounds it: comments, blanks and semicolons at either end. Raises as `check_query`."""
    tokens = _tokens(sql)
    return sql[tokens[0].start : tokens[-1].end + 1]


def parse(sql: str) -> exp.Query:
    """The syntax tree of exactly one SELECT. Raises as `check_query`."""
    tokens = _tokens(sql)
    if tokens[0].text.lower() not in BEGINNINGS:
        raise refused(f"it begins with '{tokens[0].text}'; write a single SELECT over the inputs", sql, tokens[0].start)
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            raise refused("there are several statements; write a single SELECT", sql, token.start)
    _check_functions(tokens, sql)
    try:
        tree = sqlglot.parse_one(sql[: tokens[-1].end + 1], read="duckdb")
    except ParseError as error:
        where = error.errors[0] if error.errors else {}
        raise refused(f"not SQL: {_reason(where)}", sql, _offset(sql, where)) from error
    except (SqlglotError, RecursionError) as error:
        raise refused("not SQL that can be read", sql) from error
    if not isinstance(tree, exp.Query):
        raise refused("it is not a SELECT", sql)
    return tree


def refused(what: str, sql: str, offset: int | None = None) -> Stalled:
    """A sentence about a query, with line and column where the offset into its text is known."""
    where = ""
    if offset is not None:
        line = sql.count("\n", 0, offset) + 1
        where = f", line {line}, column {offset - (sql.rfind(chr(10), 0, offset) + 1) + 1}"
    return Stalled(Reason.INVALID_QUERY, f"{FIELD}{where}: {what}")


def _tokens(sql: str) -> Sequence[Token]:
    """The tokens of a text, without semicolons at either end; at least one."""
    try:
        tokens = sqlglot.tokenize(sql, read="duckdb")
    except SqlglotError as error:
        raise refused("a quote or a comment is not closed", sql) from error
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    while tokens and tokens[0].token_type is TokenType.SEMICOLON:
        tokens.pop(0)
    if not tokens:
        raise refused("it is empty; write a SELECT", sql)
    return tokens


def _check_functions(tokens: Sequence[Token], sql: str) -> None:
    """Functions are looked for among the tokens, since the parser gives many of them other names."""
    for name, token in _called(tokens):
        if name in VOLATILE:
            raise refused(
                f"{name} gives another answer each time, so a version could not be made again; take such a value from "
                "an input",
                sql,
                token.start,
            )
        if name in OUTSIDE:
            raise refused(f"{name} looks outside of the inputs, which a query may not", sql, token.start)


def _called(tokens: Sequence[Token]) -> Iterator[tuple[str, Token]]:
    """The functions that a text calls, in lower case."""
    before = TokenType.SEMICOLON
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        name = token.text.lower()
        called = following is not None and following.token_type is TokenType.L_PAREN
        bare = name in BARE and token.token_type is not TokenType.IDENTIFIER
        function = called or (bare and before is not TokenType.DOT)
        if function and before is not TokenType.ALIAS and token.token_type is not TokenType.STRING:
            yield name, token
        before = token.token_type


def _check_node(node: exp.Expr, sql: str) -> None:
    if isinstance(node, STATEMENTS):
        raise refused(f"{node.key.upper()} is not allowed in a SELECT over the inputs", sql)
    if isinstance(node, exp.TableSample):
        raise refused("a sample gives another answer each time, so a version could not be made again", sql)
    if isinstance(node, exp.Placeholder | exp.Parameter):
        raise refused(f"'{node.sql('duckdb')}' is a parameter, and there is nothing to put in", sql)
    if isinstance(node, exp.Anonymous) and node.name.lower() == "age" and len(node.expressions) == 1:
        raise refused("age() of one time counts from now; give it a second time to count from", sql)


def _check_tables(tree: exp.Query, tables: Collection[str], sql: str) -> None:
    known = {name.lower() for name in tables} | {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        source = table.this
        if isinstance(source, TABLE_FUNCTIONS):
            continue
        offset = _position(source)
        if isinstance(source, exp.Func):
            name = source.name if isinstance(source, exp.Anonymous) else source.sql_name()
            raise refused(f"it reads from {name.lower()}(), but may read only its inputs: {_list(tables)}", sql, offset)
        if table.db or table.name.lower() not in known:
            name = ".".join(part.name for part in table.parts)
            hint = "" if table.db else nearest(name, dict.fromkeys(tables))
            inputs = f" (the inputs are {_list(tables)})" if not hint else ""
            raise refused(f"it reads '{name}', which is not one of its inputs{hint}{inputs}", sql, offset)


def _position(node: exp.Expr) -> int | None:
    start = node.meta.get("start")
    return start if isinstance(start, int) else None


def _reason(where: dict[str, object]) -> str:
    """What the parser says, without its own classes and tokens."""
    text = str(where.get("description", "it cannot be read"))
    if "<class" in text:
        return "something is missing here"
    text = text.split(" but got <")[0]
    return text[:1].lower() + text[1:]


def _offset(sql: str, where: dict[str, object]) -> int | None:
    """Where a parse error lies: the parser counts lines, and columns to the end of what it stumbled over."""
    line, column = where.get("line"), where.get("col")
    if not isinstance(line, int) or not isinstance(column, int):
        return None
    start = 0
    for _ in range(line - 1):
        start = sql.find("\n", start) + 1
    highlight = str(where.get("highlight") or "")
    return min(max(start + column - len(highlight), 0), len(sql))


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
