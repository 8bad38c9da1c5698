"""The contract of `Catalogue.lineage`."""

from __future__ import annotations

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from levada.events import EventType
from levada.names import Kind
from levada.resources import Ref
from levada.stores.ports import BLOCK_ROWS, LineageNode, ScoreBlock, ScoreRow
from levada.stores.postgres import PostgresCatalogue, lineage
from tests.contract.stores import samples
from tests.contract.stores.samples import DIGEST, NOW, URI

SOURCES = {
    "batch-1/original/flights-0.csv.gz": (),
    "batch-1/original/flights-1.csv.gz": (),
    "batch-2/original/planes-0.csv.gz": (),
}
BATCHES = {
    "batch-1": ("batch-1/original/flights-0.csv.gz", "batch-1/original/flights-1.csv.gz"),
    "batch-2": ("batch-2/original/planes-0.csv.gz",),
    **SOURCES,
}
FEATURES = {"features-1": ("batch-1", "features-2"), "features-2": ("batch-2",), **BATCHES}
SPLIT = {"split-1": ("features-1",), **FEATURES}
CANDIDATE = {"late-trees-1": ("features-1", "split-1"), **SPLIT}


@pytest.fixture
def history(catalogue: PostgresCatalogue) -> PostgresCatalogue:
    samples.commit_history(catalogue)
    manifest = samples.scores()
    rows = pa.RecordBatch.from_pydict({"row": range(4), "value": [0.1, 0.2, 0.3, 0.4], "label": list("abcd")})
    catalogue.copy_scores(manifest, 0, 0, [rows])
    catalogue.commit_scores(manifest, URI, DIGEST, samples.event(EventType.SCORES_READY))
    return catalogue


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("batch-2", {"batch-2": BATCHES["batch-2"], "batch-2/original/planes-0.csv.gz": ()}),
        ("features-1", FEATURES),
        ("split-1", SPLIT),
        ("late-trees-1", CANDIDATE),
        ("evaluation-1", {"evaluation-1": ("late-trees-1",), **CANDIDATE}),
        ("scoring-1", {"scoring-1": ("late-trees-1", "features-1"), **CANDIDATE}),
        ("scoring-1:2", {"scoring-1:2": ("scoring-1",), "scoring-1": ("late-trees-1", "features-1"), **CANDIDATE}),
    ],
)
def test_x2_everything_leads_back_to_the_raw_files(
    history: PostgresCatalogue, id: str, expected: dict[str, tuple[str, ...]]
) -> None:
    nodes = history.lineage(id)
    assert nodes[0].id == id
    assert {node.id: node.parents for node in nodes} == expected
    assert len(nodes) == len(expected)
    _assert_children_first(nodes)


def test_x2_a_score_tells_what_it_is_and_what_made_it(history: PostgresCatalogue) -> None:
    nodes = {node.id: node for node in history.lineage("scoring-1:1")}
    score = nodes["scoring-1:1"]
    assert (score.type, score.name, score.created_at) == ("score", "nightly", NOW)
    assert score.details == {"namespace": "default", "row": 1, "value": 0.2, "label": "b"}
    assert nodes["scoring-1"].type == "scores"
    assert nodes["late-trees-1"].details["algorithm"] == "trees"
    assert nodes["split-1"].details["parts"] == {"train": 2, "test": 1}
    assert nodes["batch-1"].name == "flights"
    assert nodes["batch-1"].details["uri"] == URI
    assert nodes["batch-1"].details["quarantined"] == 1
    source = nodes["batch-1/original/flights-0.csv.gz"]
    original = samples.batch().originals[0]
    assert (source.type, source.name) == ("source", "flights-0.csv.gz")
    assert source.details == {"digest": original.digest, "bytes": original.bytes}


def test_x2_an_online_score_leads_back_to_the_raw_files(history: PostgresCatalogue) -> None:
    row = ScoreRow("scorer-1", 7, "late", "default", 3, "late-trees-1", NOW, 0.25, "true", b'{"hour": 5}')
    history.record_scores([row])
    nodes = history.lineage("scorer-1:7")
    assert {node.id: node.parents for node in nodes} == {"scorer-1:7": ("late-trees-1",), **CANDIDATE}
    assert (nodes[0].type, nodes[0].name, nodes[0].created_at) == ("score", "late", NOW)
    assert nodes[0].details == {
        "namespace": "default",
        "row": 7,
        "value": 0.25,
        "label": "true",
        "deployment": "late",
        "version": 3,
        "request": {"hour": 5},
    }


def test_x2_a_request_may_hold_any_text(history: PostgresCatalogue) -> None:
    request = b'{"text": "a\\u0000b\xc3\xbc"}'
    row = ScoreRow("scorer-1", 7, "late", "default", 3, "late-trees-1", NOW, 0.25, "true", request)
    history.record_scores([row])
    assert history.lineage("scorer-1:7")[0].details["request"] == {"text": "a\0bü"}


def test_x2_a_score_of_a_block_leads_back_as_well(history: PostgresCatalogue) -> None:
    numbers, labels = np.arange(BLOCK_ROWS, dtype=np.float64), ["true"] * BLOCK_ROWS
    identity = ("scorer-1", 7, "late", "default", 3, "late-trees-1", NOW)
    block = ScoreBlock(*identity, BLOCK_ROWS, numbers / 4, labels, ("hour",), numbers[:, None])
    history.record_scores([block, block._replace(first=7 + BLOCK_ROWS, rows=1, values=None, labels=None)])
    for row in (0, 5, BLOCK_ROWS - 1):
        nodes = history.lineage(f"scorer-1:{7 + row}")
        assert {node.id: node.parents for node in nodes} == {f"scorer-1:{7 + row}": ("late-trees-1",), **CANDIDATE}
        details = nodes[0].details
        assert (details["row"], details["value"], details["request"]) == (7 + row, row / 4, {"hour": row})
    assert history.lineage(f"scorer-1:{7 + BLOCK_ROWS}")[0].details["row"] == 7 + BLOCK_ROWS
    assert history.lineage("scorer-1:6") == []


@pytest.mark.parametrize(
    "id",
    [
        "",
        ":",
        "/",
        "unknown",
        "scoring-1:99",
        "scoring-1:",
        "scoring-1:x",
        "unknown:1",
        f"scoring-1:{2**64}",
        "a/b/c:1",
    ],
)
def test_an_id_that_is_unknown_has_no_history(history: PostgresCatalogue, id: str) -> None:
    assert history.lineage(id) == []


def test_x2_what_was_forgotten_still_shows_its_id(history: PostgresCatalogue) -> None:
    history.forget(Ref(Kind.DATASET, "default", "flights"))
    nodes = {node.id: node for node in history.lineage("scoring-1:0")}
    lost = nodes["batch-1"]
    assert (lost.type, lost.name, lost.created_at, lost.parents) == ("batch", "flights", None, ())
    assert lost.details == {"namespace": "default", "forgotten": True}
    assert "batch-2" in nodes
    assert history.lineage("batch-1") == []


def test_a_namespace_tells_apart_what_has_the_same_id(history: PostgresCatalogue) -> None:
    other = samples.candidate(namespace="other").model_copy(update={"split": None, "feature_set_version": None})
    history.commit_candidate(other, URI, DIGEST, samples.event(EventType.MODEL_TRAINED, 1))
    assert [node.details["namespace"] for node in history.lineage("other/late-trees-1")] == ["other"]
    assert {node.id: node.parents for node in history.lineage("default/late-trees-1")} == CANDIDATE
    assert history.lineage("default/scoring-1:0")[0].id == "scoring-1:0"
    assert history.lineage("other/scoring-1:0") == []
    assert sum(node.id == "late-trees-1" for node in history.lineage("late-trees-1")) == 2


def test_eval5_a_model_from_elsewhere_was_made_from_nothing(catalogue: PostgresCatalogue) -> None:
    catalogue.commit_candidate(samples.external(), URI, DIGEST, samples.event(EventType.MODEL_TRAINED))
    (node,) = catalogue.lineage("elsewhere")
    assert (node.type, node.parents) == ("candidate", ())


def test_x2_a_history_with_many_ways_to_the_same_is_read_once(catalogue: PostgresCatalogue) -> None:
    """Each version looks up both of the two before: the number of ways doubles at every second step."""
    catalogue.commit_batch(samples.batch(), URI, DIGEST, samples.event(EventType.RAW_DATA_EXTRACTED))
    for number in range(60):
        lookups = tuple((f"set-{before}", f"features-{before}") for before in (number - 1, number - 2) if before >= 0)
        manifest = samples.features(f"features-{number}", f"set-{number}", lookups=lookups)
        catalogue.commit_features(manifest, URI, DIGEST, samples.event(EventType.FEATURES_GENERATED, number))
    nodes = catalogue.lineage("features-59")
    assert len(nodes) == 60 + 1 + 2
    _assert_children_first(nodes)


def test_x2_lineage_is_one_query_that_finds_a_score_by_its_index(history: PostgresCatalogue, postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO score_blocks (run, first_row, part, rows, values) "
            "SELECT (SELECT min(run) FROM score_runs), n, 0, 1024, array_fill(n / 1024.0, ARRAY[1024]) "
            "FROM generate_series(1024, 1024 * 2000, 1024) n"
        )
        before = _blocks_read(connection)
        assert lineage.of(connection, f"scoring-1:{1024 * 1500 + 1023}")[0].details["value"] == 1500
        read = _blocks_read(connection) - before
    assert 0 < read < 20


def _blocks_read(connection: psycopg.Connection) -> int:
    """Blocks of the scores' tables and index that were looked at so far, by connections that have said so."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit + toast_blks_read + toast_blks_hit "
        "FROM pg_statio_user_tables WHERE relname = 'score_blocks'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _assert_children_first(nodes: list[LineageNode]) -> None:
    places = {node.id: place for place, node in enumerate(nodes)}
    for node in nodes:
        assert all(places[parent] > places[node.id] for parent in node.parents)
