"""DuckDB as the engine of a query: it reads the staged files and nothing else, whatever the query says.

Tables are views of the staged files, and those are all that it may open; then external access is switched off and the
configuration locked, and only then is text from a manifest run, which has to be one SELECT for DuckDB itself as well.
What does not fit into memory goes to a folder of the scratch space.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from levada.errors import Stalled
from levada.features.lookups import ROW, quote
from levada.features.query import FIELD, statement
from levada.features.types import ColumnType
from levada.resources.conditions import Reason
from levada.steps.context import StepContext
from levada.steps.prepare.inputs import LocalFile

SCHEMA = "levada"  # of what is no input
QUERY = f"{SCHEMA}.query"
BATCH_ROWS = 122_880  # as many as DuckDB hands over at once, and of a row group

DUCKDB_TYPES = {
    ColumnType.INT64: "BIGINT",
    ColumnType.FLOAT64: "DOUBLE",
    ColumnType.STRING: "VARCHAR",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.TIMESTAMP: "TIMESTAMP",
    ColumnType.DATE: "DATE",
}
# DuckDB's kinds of errors that only the user can put right.
OUT_OF_MEMORY = "Out of Memory"
REASONS = {
    OUT_OF_MEMORY: Reason.STEP_FAILED,
    **dict.fromkeys(("Conversion", "Mismatch Type", "Out of Range"), Reason.INVALID_DATA),
    **dict.fromkeys(
        ("Binder", "Catalog", "Invalid Input", "Invalid Type", "Not implemented", "Parser", "Permission", "Syntax"),
        Reason.INVALID_QUERY,
    ),
}
THREAD_MEMORY = 128 * 2**20  # what DuckDB wants for each thread, so that everything can spill


@contextmanager
def opened(
    scratch: Path, threads: int, memory: int | None, *, keeps_order: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine with at most so many threads, and so many bytes of memory (most of the machine's if None).

    `keeps_order`: whether rows that are put into a table of the engine come out of it in their order.
    """
    if memory is not None:
        threads = max(1, min(threads, memory // THREAD_MEMORY))
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "temp_directory": str(scratch / "spill"),
        # A sort gives its rows in order all the same, and whatever needs their order before that has one thread: for
        # all but tables this only takes memory.
        "preserve_insertion_order": keeps_order,
        "python_enable_replacements": False,  # a table's name must not find a variable of this program
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_persistent_secrets": False,
    }
    if memory is not None:
        config["memory_limit"] = f"{memory}B"
    connection = duckdb.connect(":memory:", config=config)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = true")  # without it nothing tells how far a query is
        connection.execute("SET enable_progress_bar_print = false")
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
        yield connection
    finally:
        connection.close()


def add_input(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, ColumnType], files: Sequence[LocalFile]
) -> None:
    """Make a table of the query from typed files."""
    if not files:
        definitions = ", ".join(f"{quote(name)} {DUCKDB_TYPES[type]}" for name, type in columns.items())
        connection.execute(f"CREATE TABLE {quote(table)} ({definitions})")
        return
    values = ", ".join(f"{quote(name)}::{DUCKDB_TYPES[type]} AS {quote(name)}" for name, type in columns.items())
    paths = ", ".join(_text(file.path) for file in files)
    connection.execute(
        f"CREATE VIEW {quote(table)} AS "
        f"SELECT {values} FROM read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
    )


def add_version(connection: duckdb.DuckDBPyConnection, number: int, files: Sequence[LocalFile]) -> str:
    """Make a relation of a looked-up version as lookups.py wants it; its name."""
    parts, first = [], 0
    for file in files:
        parts.append(
            f"SELECT * EXCLUDE (file_row_number), file_row_number + {first} AS {ROW} "
            f"FROM read_parquet({_text(file.path)}, file_row_number = true, hive_partitioning = false)"
        )
        first += file.rows
    name = f"{SCHEMA}.version_{number}"
    connection.execute(f"CREATE VIEW {name} AS {' UNION ALL '.join(parts)}")
    return name


def lock(connection: duckdb.DuckDBPyConnection, files: Sequence[LocalFile]) -> None:
    """From here on nothing but these files (and what spills) can be reached, and that cannot be changed any more."""
    connection.execute(f"SET allowed_paths = [{', '.join(_text(file.path) for file in files)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def add_query(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[str, str]]:
    """Make the view `QUERY`; names and DuckDB's types of its columns, names as the query gives them (repeated or not).

    Raises Stalled if DuckDB does not see a single SELECT, or cannot run it.
    """
    text = statement(sql)
    try:
        with explained(lines_before=0):
            statements = connection.extract_statements(text)
    except Stalled as stalled:
        raise Stalled(stalled.reason, stalled.message + _advice(connection, text)) from stalled
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise Stalled(Reason.INVALID_QUERY, f"{FIELD}: it is not a single SELECT")
    with explained(lines_before=1):
        connection.execute(f"CREATE VIEW {QUERY} AS\n{text}")
        described = connection.execute(f"DESCRIBE {QUERY}").fetchall()
        return [(name, row[1]) for name, row in zip(connection.sql(text).columns, described, strict=True)]


def _advice(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    """What may be wrong with a text that does not parse: a column whose name is a word of SQL, without quotes."""
    found = connection.execute(
        "SELECT DISTINCT column_name FROM duckdb_columns() JOIN duckdb_keywords() ON lower(column_name) = keyword_name "
        "WHERE NOT internal AND keyword_category IN ('reserved', 'type_function') ORDER BY 1"
    ).fetchall()
    for (name,) in found:
        for word in re.finditer(rf"(?<![\w\".]){name}(?![\w\"])", text, re.IGNORECASE):
            with suppress(duckdb.Error):
                connection.extract_statements(text[: word.start()] + quote(name) + text[word.end() :])
                return f"; a column whose name is a word of SQL needs quotes: write {quote(name)}"
    return ""


@contextmanager
def explained(
    lines_before: int | None = None, field: str = FIELD, memory: str = "spec.engine.memory"
) -> Iterator[None]:
    """Turns DuckDB's errors into Stalled where the user must act.

    `lines_before`: how many lines stood before the query in the text that was run; None if the query was not in it.
    `field` and `memory`: the fields that say what is run, and how much memory it has.
    """
    try:
        yield
    except (duckdb.Error, OSError) as error:  # a stream of batches gives DuckDB's errors as OSError
        text = str(error)
        kind = text.partition(" Error: ")[0]
        if kind not in REASONS:
            raise
        found = re.search(r"^LINE (\d+):", text, re.MULTILINE) if lines_before is not None else None
        line = f", line {int(found[1]) - (lines_before or 0)}" if found else ""
        sentence = _sentence(text)
        if kind == OUT_OF_MEMORY:
            sentence = (
                f"it needs more memory than it may use, even with what can be put on disk; raise {memory} ({sentence})"
            )
        raise Stalled(REASONS[kind], f"{field}{line}: {sentence}") from error


@contextmanager
def watched(connection: duckdb.DuckDBPyConnection, context: StepContext) -> Iterator[threading.Event]:
    """Tells how far the query is, until the event is set or the block ends."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            context.progress("query", max(0, int(connection.query_progress())), 100, "%")

    thread = threading.Thread(target=watch, name="progress")
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


def stream(
    connection: duckdb.DuckDBPyConnection, sql: str, field: str = FIELD, memory: str = "spec.engine.memory"
) -> Iterator[pa.RecordBatch]:
    """The rows of a SELECT in batches of at most `BATCH_ROWS`, made while they are read; raises as `explained`."""
    with explained(None, field, memory):
        yield from connection.sql(sql).to_arrow_reader(BATCH_ROWS)


def _sentence(text: str) -> str:
    """What DuckDB says, in one line, without its kind, the excerpt of the query, and advice that nobody can follow."""
    text = re.split(r"\n\n(?:LINE|Possible solutions)", text.partition(" Error: ")[2])[0]
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
