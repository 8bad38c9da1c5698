"""The contract of `copy_scores` and `record_scores`."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from levada.errors import Stalled
from levada.events import EventType
from levada.names import Kind
from levada.resources import Ref
from levada.resources.conditions import Reason
from levada.stores.ports import BLOCK_ROWS, ScoreBlock, ScoreRow
from levada.stores.postgres import PostgresCatalogue
from levada.stores.postgres.scores import SCHEMA
from tests.contract.stores import samples
from tests.contract.stores.samples import DIGEST, NOW, URI

MANIFEST = samples.scores()
COLUMNS = "row, value, label, entity, event_time"


def batch(first: int = 0, rows: int = 4, **columns: Any) -> pa.RecordBatch:
    data: dict[str, Any] = {
        "row": list(range(first, first + rows)),
        "value": [n / 7 for n in range(first, first + rows)],
    }
    return pa.RecordBatch.from_pydict({**dict.fromkeys(SCHEMA.names, [None] * rows), **data, **columns}, SCHEMA)


def random_batch(first: int, rows: int) -> pa.RecordBatch:
    random = np.random.default_rng(first)
    some = random.random((4, rows)) < 0.8

    def texts(there: Any, width: int) -> list[str | None]:
        alphabet = np.array(list("aé漢😀\n\t\\\"',"))
        return ["".join(random.choice(alphabet, random.integers(0, width))) if each else None for each in there]

    times = random.integers(-(10**15), 4 * 10**15, rows)
    return batch(
        first,
        rows,
        value=pa.array(random.standard_normal(rows), mask=~some[0]),
        label=texts(some[1], 4),
        entity=texts(some[2], 20),
        event_time=pa.array(times, pa.timestamp("us", tz="UTC"), mask=~some[3]),
    )


@pytest.mark.parametrize("first", [32_000, 2**31 - 100])
def test_score4_parts_may_begin_and_end_on_both_sides_of_the_bounds_of_smaller_integers(
    catalogue: PostgresCatalogue, postgres: str, first: int
) -> None:
    assert catalogue.copy_scores(MANIFEST, 1, first, [batch(first, 30_000)]) == 30_000

    assert _rows(postgres, "SELECT count(*), min(row) FROM score_rows") == [(30_000, first)]


@pytest.mark.parametrize(
    "rows",
    [
        batch(),
        batch(rows=0),
        batch(value=[0.1, math.inf, -0.0, 5e-324], label=["a", "", "ü😀", "a\tb\n\\"]),
        batch(value=[None, 1.0, None, 2.0]),
        batch(label=["a", None, "", None]),
        batch(entity=["N1", None, "N2", "N3"], event_time=[NOW, None, datetime(1900, 1, 1, tzinfo=UTC), NOW]),
        batch(first=2**62, entity=["N1", "N2", "N3", "N4"]),
        random_batch(0, 50_000),
    ],
    ids=["numbers", "none", "texts", "values", "labels", "entities", "large", "random"],
)
def test_score4_rows_are_kept_as_they_are(catalogue: PostgresCatalogue, postgres: str, rows: pa.RecordBatch) -> None:
    first = rows.column("row")[0].as_py() if rows.num_rows else 0
    assert catalogue.copy_scores(MANIFEST, 0, first, [rows]) == rows.num_rows
    expected = [tuple(row.values()) for row in rows.select(COLUMNS.split(", ")).to_pylist()]
    found = _rows(postgres, f"SELECT {COLUMNS} FROM score_rows ORDER BY row")
    assert found == expected
    # == does not tell -0.0 from 0.0
    assert [math.copysign(1, row[1] or 0) for row in found] == [math.copysign(1, row[1] or 0) for row in expected]


def test_nan_is_kept(catalogue: PostgresCatalogue, postgres: str) -> None:
    catalogue.copy_scores(MANIFEST, 0, 0, [batch(value=[math.nan, None, 1.0, 2.0])])
    assert _rows(postgres, "SELECT value = 'NaN' FROM score_rows ORDER BY row") == [
        (True,),
        (None,),
        (False,),
        (False,),
    ]


def test_other_widths_and_missing_columns_are_taken(catalogue: PostgresCatalogue, postgres: str) -> None:
    narrow = pa.RecordBatch.from_pydict(
        {
            "row": pa.array([0, 1], pa.uint32()),
            "value": pa.array([0.5, 0.1], pa.float32()),
            "label": pa.array(["a", "b"]).dictionary_encode(),
            "event_time": pa.array([NOW, None], pa.timestamp("ns", tz="Europe/Berlin")),
        }
    )
    catalogue.copy_scores(MANIFEST, 0, 0, [narrow])
    assert _rows(postgres, f"SELECT {COLUMNS} FROM score_rows ORDER BY row") == [
        (0, 0.5, "a", None, NOW),
        (1, float(np.float32(0.1)), "b", None, None),
    ]


def test_x5_scores_count_once_they_are_committed(catalogue: PostgresCatalogue, postgres: str) -> None:
    catalogue.copy_scores(MANIFEST, 0, 0, [batch(label=["a", "b", "c", "d"])])
    assert _rows(postgres, "SELECT id FROM scores") == []
    assert catalogue.lineage("scoring-1:2") == []
    catalogue.commit_scores(MANIFEST, URI, DIGEST, samples.event(EventType.SCORES_READY))
    assert _rows(postgres, "SELECT id, mode, namespace, owner, candidate, label FROM scores WHERE row = 2") == [
        ("scoring-1:2", "batch", "default", "nightly", "late-trees-1", "c")
    ]
    assert catalogue.lineage("scoring-1:2")[0].id == "scoring-1:2"


def test_x5_a_part_that_is_loaded_again_replaces_itself(catalogue: PostgresCatalogue, postgres: str) -> None:
    catalogue.copy_scores(MANIFEST, 0, 0, [batch()])
    catalogue.copy_scores(MANIFEST, 1, 4, [batch(first=4)])
    assert catalogue.copy_scores(MANIFEST, 0, 0, [batch(rows=2, label=["x", "y"])]) == 2
    assert _rows(postgres, "SELECT row, label FROM score_rows ORDER BY row") == [
        (0, "x"),
        (1, "y"),
        *((row, None) for row in range(4, 8)),
    ]
    assert catalogue.copy_scores(MANIFEST, 0, 0, [batch()]) == 4
    assert _rows(postgres, "SELECT count(*) FROM score_rows") == [(8,)]


@pytest.mark.parametrize("before", [[3, 3, 2], [8], [1, 7], [2, 2, 2, 2]])
@pytest.mark.parametrize("order", [1, -1])
def test_x5_parts_that_are_divided_otherwise_replace_those_before(
    catalogue: PostgresCatalogue, postgres: str, before: list[int], order: int
) -> None:
    def load(sizes: list[int], label: str) -> None:
        starts = [sum(sizes[:part]) for part in range(len(sizes))]
        for part in list(range(len(sizes)))[::order]:
            rows = batch(starts[part], sizes[part], label=[label] * sizes[part])
            catalogue.copy_scores(MANIFEST, part, starts[part], [rows])

    load(before, "old")
    load([4, 0, 4], "new")
    assert _rows(postgres, "SELECT row, label FROM score_rows ORDER BY row") == [(row, "new") for row in range(8)]


def test_x5_a_load_that_fails_leaves_what_was_there(catalogue: PostgresCatalogue, postgres: str) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield batch(label=["new"] * 4)
        raise OSError("the input ended early")

    catalogue.copy_scores(MANIFEST, 0, 0, [batch(label=["old"] * 4)])
    with pytest.raises(OSError, match="the input ended early"):
        catalogue.copy_scores(MANIFEST, 0, 0, failing())
    assert _rows(postgres, "SELECT DISTINCT label FROM score_rows") == [("old",)]
    assert catalogue.copy_scores(MANIFEST, 0, 0, [batch(label=["new"] * 4)]) == 4


def test_rows_that_cannot_be_kept_are_told(catalogue: PostgresCatalogue, postgres: str) -> None:
    with pytest.raises(Stalled, match="scores from row 100 on cannot be kept in the catalogue: invalid byte") as caught:
        catalogue.copy_scores(MANIFEST, 0, 100, [batch(100, label=["a", "b\0", "c", "d"])])
    assert caught.value.reason is Reason.INVALID_DATA
    with pytest.raises(ValueError, match="a score has no row"):
        catalogue.copy_scores(MANIFEST, 0, 0, [pa.RecordBatch.from_pydict({"row": pa.array([0, None])})])
    for first, batches in [(0, [batch(1)]), (0, [batch(0), batch(5)]), (0, [batch(0), batch(0)])]:
        with pytest.raises(ValueError, match="the rows of a part of scores must follow each other"):
            catalogue.copy_scores(MANIFEST, 0, first, batches)
    assert _rows(postgres, "SELECT count(*) FROM score_rows") == [(0,)]


def test_score4_parts_are_loaded_side_by_side(catalogue: PostgresCatalogue, postgres: str) -> None:
    """A part whose load is still going on does not make another wait."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[pa.RecordBatch]:
        yield batch()
        begun.set()
        assert go_on.wait(60)

    first = threading.Thread(target=catalogue.copy_scores, args=[MANIFEST, 0, 0, slow()])
    first.start()
    assert begun.wait(60)
    assert catalogue.copy_scores(MANIFEST, 1, 4, [batch(first=4)]) == 4
    assert _rows(postgres, "SELECT min(row), count(*) FROM score_rows") == [(4, 4)]
    go_on.set()
    first.join()
    assert _rows(postgres, "SELECT min(row), count(*) FROM score_rows") == [(0, 8)]


def test_x5_the_same_part_by_two_at_once_is_there_once(catalogue: PostgresCatalogue, postgres: str) -> None:
    ready = threading.Barrier(4)

    def load() -> None:
        ready.wait()
        catalogue.copy_scores(MANIFEST, 0, 0, [batch()])

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _rows(postgres, "SELECT count(*), count(DISTINCT row) FROM score_rows") == [(4, 4)]


def test_executions_do_not_meet(catalogue: PostgresCatalogue, postgres: str) -> None:
    for number, manifest in enumerate([MANIFEST, samples.scores("scoring-2"), samples.scores(scoring_run="other")]):
        catalogue.copy_scores(manifest, 0, 0, [batch()])
        catalogue.commit_scores(manifest, URI, DIGEST, samples.event(EventType.SCORES_READY, number))
    assert _rows(postgres, "SELECT count(*) FROM scores") == [(12,)]
    assert catalogue.forget(Ref(Kind.SCORING_RUN, "default", "nightly")) == [
        "scores/default/nightly/scoring-1/",
        "scores/default/nightly/scoring-2/",
    ]
    assert _rows(postgres, "SELECT DISTINCT owner FROM scores") == [("other",)]
    assert _rows(postgres, "SELECT count(*) FROM score_rows") == [(4,)]


def test_forgetting_takes_scores_that_were_not_committed(catalogue: PostgresCatalogue, postgres: str) -> None:
    catalogue.copy_scores(MANIFEST, 0, 0, [batch()])
    assert catalogue.forget(Ref(Kind.SCORING_RUN, "default", "nightly")) == []
    for table in ("score_blocks", "score_runs", "score_parts"):
        assert _rows(postgres, f"SELECT count(*) FROM {table}") == [(0,)]


# --- online ---------------------------------------------------------------------------------------------------------


def online(seq: int, version: int = 1, source: str = "scorer-1", **values: Any) -> ScoreRow:
    given = {"value": seq / 7, "label": None, "request": None} | values
    return ScoreRow(source, seq, "late", "default", version, f"late-trees-{version}", NOW, **given)


def test_score2_online_scores_are_kept_as_they_are(catalogue: PostgresCatalogue, postgres: str) -> None:
    rows = [
        online(0, label="ü", request='{"a": [1, null], "b": "ü"}'.encode()),
        online(1, value=None),
        online(2, value=math.inf, label=""),
        online(2**40, version=2),
        online(0, source="scorer-2"),
    ]
    catalogue.record_scores(rows)
    query = "SELECT id, version, candidate, scored_at, value, label, request FROM scores ORDER BY source, row"
    assert _rows(postgres, query) == [
        ("scorer-1:0", 1, "late-trees-1", NOW, 0.0, "ü", {"a": [1, None], "b": "ü"}),
        ("scorer-1:1", 1, "late-trees-1", NOW, None, None, None),
        ("scorer-1:2", 1, "late-trees-1", NOW, math.inf, "", None),
        (f"scorer-1:{2**40}", 2, "late-trees-2", NOW, 2**40 / 7, None, None),
        ("scorer-2:0", 1, "late-trees-1", NOW, 0.0, None, None),
    ]


def test_x5_online_scores_that_come_twice_are_there_once(catalogue: PostgresCatalogue, postgres: str) -> None:
    catalogue.record_scores([online(seq) for seq in range(3)])
    catalogue.record_scores([online(seq, label="again") for seq in range(5)])
    catalogue.record_scores([])
    assert _rows(postgres, "SELECT seq, label FROM online_score_rows ORDER BY seq") == [
        (0, None),
        (1, None),
        (2, None),
        (3, "again"),
        (4, "again"),
    ]


REQUESTS: list[dict[str, Any]] = [
    {"a": 1.0, "b": 0.1, "c": "ü", "d": True},
    {"a": None, "b": -1e-300, "c": None, "d": [1]},
    {"a": 2.0**53, "b": 3.0, "c": "\0", "d": False},
]


def block(first: int, rows: int = 3, **values: Any) -> ScoreBlock:
    """A block whose rows repeat REQUESTS."""
    requests = [REQUESTS[row % len(REQUESTS)] for row in range(rows)]
    numbers = [[math.nan if request[name] is None else request[name] for name in "ab"] for request in requests]
    given: dict[str, Any] = {
        "values": (first + np.arange(rows)) / 7,
        "labels": [f"ü{row % 2}" for row in range(rows)],
        "number_columns": ("a", "b"),
        "numbers": np.array(numbers, np.float64),
        "other_columns": ("c", "d"),
        "others": json.dumps([[request["c"], request["d"]] for request in requests]).encode(),
    }
    return ScoreBlock("scorer-1", first, "late", "default", 1, "late-trees-1", NOW, rows, **given | values)


def test_score2_a_block_of_online_scores_is_shown_row_by_row(catalogue: PostgresCatalogue, postgres: str) -> None:
    nothing = {"number_columns": (), "numbers": None, "other_columns": (), "others": None}
    scores: list[ScoreRow | ScoreBlock] = [
        block(0),
        online(3),
        block(4, 1, values=None, labels=None, number_columns=(), numbers=None),
        block(5, 2, other_columns=(), others=None),
        block(7, 2, **nothing),
    ]
    catalogue.record_scores(scores)
    query = "SELECT id, version, candidate, scored_at, value, label, request FROM scores ORDER BY row"
    same = (1, "late-trees-1", NOW)
    assert _rows(postgres, query) == [
        ("scorer-1:0", *same, 0.0, "ü0", REQUESTS[0]),
        ("scorer-1:1", *same, 1 / 7, "ü1", REQUESTS[1]),
        ("scorer-1:2", *same, 2 / 7, "ü0", REQUESTS[2]),
        ("scorer-1:3", *same, 3 / 7, None, None),
        ("scorer-1:4", *same, None, None, {"c": "ü", "d": True}),
        ("scorer-1:5", *same, 5 / 7, "ü0", {"a": 1, "b": 0.1}),
        ("scorer-1:6", *same, 6 / 7, "ü1", {"a": None, "b": -1e-300}),
        ("scorer-1:7", *same, 1.0, "ü0", None),
        ("scorer-1:8", *same, 8 / 7, "ü1", None),
    ]
    # Whole numbers look as they do in JSON.
    assert _rows(postgres, "SELECT request->>'a' FROM scores WHERE row = 5") == [("1",)]


def test_x5_blocks_of_online_scores_that_come_twice_are_there_once(catalogue: PostgresCatalogue, postgres: str) -> None:
    catalogue.record_scores([block(0), block(3)])
    catalogue.record_scores([block(0), block(3), block(6, labels=["again"] * 3)])
    assert _rows(postgres, "SELECT seq FROM online_scores ORDER BY seq") == [(seq,) for seq in range(9)]
    assert _rows(postgres, "SELECT DISTINCT label FROM online_scores WHERE seq > 5") == [("again",)]


def test_x5_halves_of_a_block_are_its_rows(catalogue: PostgresCatalogue, postgres: str) -> None:
    whole = block(0, BLOCK_ROWS)
    first, second = whole.halves()
    catalogue.record_scores([*first.halves(), second, whole._replace(source="scorer-2")])
    query = "SELECT row, value, label, request::text FROM scores WHERE source = 'scorer-{}' ORDER BY row"
    shown = _rows(postgres, query.format(1))
    assert len(shown) == BLOCK_ROWS
    assert shown == _rows(postgres, query.format(2))


def test_many_scorers_record_at_once(postgres: str, catalogue: PostgresCatalogue) -> None:
    ready = threading.Barrier(4)

    def record(number: int) -> None:
        own = PostgresCatalogue(postgres)
        ready.wait()
        for start in range(0, 300, 100):
            own.record_scores([online(seq, source=f"scorer-{number % 2}") for seq in range(start, start + 100)])
        own.close()

    threads = [threading.Thread(target=record, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _rows(postgres, "SELECT source, count(*) FROM scores GROUP BY 1 ORDER BY 1") == [
        ("scorer-0", 300),
        ("scorer-1", 300),
    ]


def test_forgetting_a_deployment_takes_its_scores(catalogue: PostgresCatalogue, postgres: str) -> None:
    catalogue.record_scores([online(0), online(1), block(3)])
    assert catalogue.forget(Ref(Kind.DEPLOYMENT, "default", "late")) == []
    assert _rows(postgres, "SELECT count(*) FROM online_scores") == [(0,)]
    catalogue.record_scores([online(2)])
    assert _rows(postgres, "SELECT id FROM scores") == [("scorer-1:2",)]


def _rows(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()
