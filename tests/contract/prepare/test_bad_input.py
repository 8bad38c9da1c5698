"""What only the user can put right: one sentence that names it, and nothing half-written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from levada.errors import Stalled
from levada.resources.conditions import Reason
from tests.contract.prepare.conftest import NAMESPACE, World

T0 = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)
NUMBERS = {"inputs": [{"dataset": "numbers"}], "entity": {"keys": ["id"]}}
LOOKUP = {"lookups": [{"featureSet": "other", "keys": ["id"]}]}


@pytest.fixture
def numbers(world: World) -> World:
    world.add_batch("numbers", {"id": [1, 2, 3], "x": [0.5, None, 1.5], "name": ["a", "b", "c"]})
    world.add_batch("other", {"id": [1, 2], "y": [1, 2]})
    world.prepare("other", {"inputs": [{"dataset": "other"}], "entity": {"keys": ["id"]}})
    return world


def refused(world: World, spec: dict[str, Any], reason: Reason, *words: str) -> None:
    """The preparation is refused so, and leaves nothing."""
    with pytest.raises(Stalled) as stalled:
        world.prepare("numbers", NUMBERS | spec)
    message = stalled.value.message
    assert stalled.value.reason is reason, message
    assert "\n" not in message
    for word in words:
        assert word in message
    assert list(world.objects.list(f"features/{NAMESPACE}/numbers/")) == []
    assert [e.name for e in world.catalogue.pending_events()] == ["other"]


def test_prep1_columns_of_two_batches_that_differ_only_in_case_are_refused(world: World) -> None:
    world.add_batch("numbers", {"id": [1], "size": [1]})
    world.add_batch("numbers", {"id": [2], "Size": [2]})
    inputs = {"inputs": [{"dataset": "numbers", "batches": "all"}]}
    with pytest.raises(Stalled) as stalled:
        world.prepare("numbers", NUMBERS | inputs)
    assert "the columns 'size' and 'Size'" in stalled.value.message


def test_prep1_a_column_that_is_called_as_a_word_of_sql_is_told_to_need_quotes(world: World) -> None:
    world.add_batch("numbers", {"id": [1], "at": [1], "left": [1]})
    with pytest.raises(Stalled) as stalled:
        world.prepare("numbers", NUMBERS | {"query": "SELECT id, at FROM numbers"})
    assert stalled.value.message.startswith("spec.query, line 1: ")
    assert stalled.value.message.endswith('a column whose name is a word of SQL needs quotes: write "at"')
    world.prepare("numbers", NUMBERS | {"query": 'SELECT id, "at" FROM numbers'})
    with pytest.raises(Stalled) as stalled:
        world.prepare("numbers", NUMBERS | {"query": "SELECT n.id FROM numbers AS n LEFT JOIN numbers AS m"})
    assert "quotes" not in stalled.value.message


QUERIES = {
    "not SQL": ("SELEC id FROM numbers", Reason.INVALID_QUERY, ("spec.query, line 1", "SELEC")),
    "reads a file": ("SELECT * FROM read_csv('/etc/passwd')", Reason.INVALID_QUERY, ("read_csv",)),
    "another table": ("SELECT * FROM number", Reason.INVALID_QUERY, ("'number'", "did you mean 'numbers'")),
    "unknown column": (
        "SELECT id,\n  nmae FROM numbers",
        Reason.INVALID_QUERY,
        ("spec.query, line 2", '"nmae"', '"name"'),
    ),
    "unknown function": ("SELECT id, frob(x) FROM numbers", Reason.INVALID_QUERY, ("line 1", "frob")),
    "no name": ("SELECT id, x + 1 FROM numbers", Reason.INVALID_QUERY, ("'(x + 1)'", "AS")),
    "names twice": ("SELECT id, x, name AS x FROM numbers", Reason.INVALID_QUERY, ("two columns", "'x'")),
    "a list": ("SELECT id, [x] AS l FROM numbers", Reason.INVALID_QUERY, ("'l'", "DOUBLE[]")),
    "bad cast": ("SELECT id, name::INT AS n FROM numbers", Reason.INVALID_DATA, ("spec.query", "'a'", "INT32")),
    "too large": ("SELECT id, id::HUGEINT << 70 AS n FROM numbers", Reason.INVALID_DATA, ("out of range",)),
    "inexact": ("SELECT id, 9007199254740993 AS n FROM numbers", Reason.INVALID_DATA, ("'n'", "9007199254740993")),
    "endless time": ("SELECT id, 'infinity'::TIMESTAMP AS t FROM numbers", Reason.INVALID_DATA, ("'t'", "years")),
    "no key": ("SELECT id AS no, x FROM numbers", Reason.INVALID_SPEC, ("spec.entity.keys", "'id'")),
    "zero rows": ("SELECT * FROM numbers WHERE id > 3", Reason.NO_ROWS, ("no row", "numbers (3 rows)")),
}


@pytest.mark.parametrize("case", QUERIES)
def test_x5_a_query_that_cannot_be_kept_is_refused(numbers: World, case: str) -> None:
    query, reason, words = QUERIES[case]

    refused(numbers, {"query": query}, reason, *words)


SPECS: dict[str, tuple[dict[str, Any], Reason, tuple[str, ...]]] = {
    "label": ({"label": "xx"}, Reason.INVALID_SPEC, ("spec.label", "'xx'", "did you mean 'x'")),
    "timestamp": (
        {"entity": {"keys": ["id"], "timestamp": "x"}},
        Reason.INVALID_SPEC,
        ("spec.entity.timestamp", "float64"),
    ),
    "features": ({"features": ["x", "nome"]}, Reason.INVALID_SPEC, ("spec.features", "did you mean 'name'")),
    "derive": (
        {"derive": [{"name": "y", "expression": "md5(name)"}]},
        Reason.INVALID_EXPRESSION,
        ("spec.derive", "'y'", "md5()"),
    ),
    "derived name": (
        {"derive": [{"name": "x", "expression": "id + 1"}]},
        Reason.INVALID_EXPRESSION,
        ("spec.derive", "'x'"),
    ),
    "name clash": (
        LOOKUP | {"query": "SELECT *, 1 AS other_y FROM numbers"},
        Reason.INVALID_SPEC,
        ("spec.lookups[0]", "'other_y'", "prefix"),
    ),
    "lookup of another type": (
        {"lookups": [{"featureSet": "other", "keys": ["name"]}]},
        Reason.INVALID_SPEC,
        ("spec.lookups[0].keys", "'name'", "string", "'id'", "int64"),
    ),
    "memory": (
        {"engine": {"memory": "16Mi"}, "query": "SELECT id, md5(r::VARCHAR) AS m FROM numbers, range(300000) t(r)"},
        Reason.STEP_FAILED,
        ("spec.engine.memory", "16.0 MiB"),
    ),
}


@pytest.mark.parametrize("case", SPECS)
def test_x5_a_spec_that_does_not_fit_the_data_is_refused(numbers: World, case: str) -> None:
    spec, reason, words = SPECS[case]

    refused(numbers, spec, reason, *words)


def test_x5_files_that_were_written_before_a_bad_row_are_taken_away(numbers: World) -> None:
    bad = "CASE r WHEN 1199999 THEN 9007199254740993 ELSE 1 END AS n"
    query = f"SELECT r AS id, {bad} FROM range(1200000) t(r), numbers WHERE numbers.id = 1"

    refused(numbers, {"query": query, "partitions": 8}, Reason.INVALID_DATA, "'n'", "9007199254740993")


def test_x5_an_input_without_rows_is_named(numbers: World) -> None:
    numbers.add_batch("numbers", {"id": pa.array([], pa.int64())})

    refused(numbers, {}, Reason.NO_ROWS, "no row", "numbers (0 rows)")


def test_x5_a_join_without_matches_names_all_inputs_with_their_rows(numbers: World) -> None:
    numbers.add_batch("late", {"id": [7] * 1234})
    inputs = [{"dataset": "numbers"}, {"dataset": "late"}]

    refused(
        numbers,
        {"inputs": inputs, "query": "SELECT id FROM numbers JOIN late USING (id)"},
        Reason.NO_ROWS,
        "numbers (3 rows), late (1,234 rows)",
    )


def test_x5_a_looked_up_version_without_time_must_have_a_row_a_key(world: World) -> None:
    world.add_batch("other", {"a": ["x", "x", "y", "x", "y", None, None], "b": [1, 1, 2, 1, 2, 3, 3], "v": range(7)})
    world.prepare("other", {"inputs": [{"dataset": "other"}], "entity": {"keys": ["a", "b"]}})
    world.add_batch("numbers", {"id": [1], "a": ["x"]})

    with pytest.raises(Stalled) as stalled:
        world.prepare("numbers", NUMBERS | {"lookups": [{"featureSet": "other", "keys": ["a", "id"]}]})
    assert stalled.value.reason is Reason.INVALID_DATA
    assert "spec.lookups[0]: FeatureSet other has 2 keys" in stalled.value.message
    assert "a = 'x', b = 1 in 3" in stalled.value.message
    assert "entity.timestamp" in stalled.value.message


def test_x5_batches_that_do_not_fit_together_are_named(world: World) -> None:
    first = world.add_batch("numbers", {"id": [1], "x": [1]})
    second = world.add_batch("numbers", {"id": [1], "x": ["one"]})

    with pytest.raises(Stalled) as stalled:
        world.prepare("numbers", NUMBERS | {"inputs": [{"dataset": "numbers", "batches": "all"}]})
    assert stalled.value.reason is Reason.INVALID_DATA
    assert f"'x' is string in {second}, but int64" in stalled.value.message
    assert first not in stalled.value.message


@pytest.mark.parametrize("gone", ["batch", "version"])
def test_x5_an_input_that_is_gone_is_named(numbers: World, gone: str) -> None:
    work = numbers.work("numbers", NUMBERS | LOOKUP)
    prefix = work.inputs[0].prefixes[0] if gone == "batch" else work.lookups[0].prefix
    numbers.objects.delete_prefix(prefix)

    with pytest.raises(Stalled) as stalled:
        numbers.run("numbers", work)
    assert stalled.value.reason is Reason.SOURCE_NOT_FOUND
    words = (work.inputs[0].batches[0], "numbers") if gone == "batch" else (work.lookups[0].version, "other")
    for word in words:
        assert word in stalled.value.message
