"""The contract of `Catalogue`: commits, decisions, the outbox, forgetting, and a database that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from levada.errors import StoreUnavailable
from levada.events import Event, EventType
from levada.names import Kind
from levada.resources import Ref
from levada.settings import Settings
from levada.stores.open import open_catalogue
from levada.stores.ports import Catalogue, StoreRefused
from levada.stores.postgres import PostgresCatalogue
from tests.contract.stores import samples
from tests.contract.stores.samples import DIGEST, URI

Commit = Callable[[Catalogue], bool]

COMMITS: dict[str, Commit] = {
    "batch": lambda c: c.commit_batch(samples.batch(), URI, DIGEST, samples.event(EventType.RAW_DATA_EXTRACTED)),
    "features": lambda c: c.commit_features(
        samples.features(), URI, DIGEST, samples.event(EventType.FEATURES_GENERATED)
    ),
    "split": lambda c: c.commit_split(samples.split(), URI, DIGEST, samples.event(EventType.SPLIT_CREATED)),
    "candidate": lambda c: c.commit_candidate(samples.candidate(), URI, DIGEST, samples.event(EventType.MODEL_TRAINED)),
    "evaluation": lambda c: c.commit_evaluation(
        samples.evaluation(), URI, DIGEST, samples.event(EventType.MODEL_EVALUATED)
    ),
    "scores": lambda c: c.commit_scores(samples.scores(), URI, DIGEST, samples.event(EventType.SCORES_READY)),
}
DATASET = Ref(Kind.DATASET, "default", "flights")


@pytest.mark.parametrize("commit", COMMITS.values(), ids=COMMITS)
def test_x5_a_commit_is_a_row_its_lineage_and_its_event(
    catalogue: PostgresCatalogue, postgres: str, commit: Commit
) -> None:
    assert commit(catalogue) is True
    (event,) = catalogue.pending_events()
    (row,) = _rows(postgres, "SELECT type, uri, digest, created_at FROM artifacts")
    assert row == (_type(event), URI, DIGEST, samples.NOW)
    assert bool(_rows(postgres, "SELECT child FROM lineage")) == (_type(event) != "batch")


@pytest.mark.parametrize("commit", COMMITS.values(), ids=COMMITS)
def test_x5_a_second_commit_does_nothing_at_all(catalogue: PostgresCatalogue, postgres: str, commit: Commit) -> None:
    commit(catalogue)
    before = _everything(postgres)
    catalogue.mark_published([event.id for event in catalogue.pending_events()])
    assert commit(catalogue) is False
    assert _everything(postgres) == before
    assert catalogue.pending_events() == []


@pytest.mark.parametrize("commit", COMMITS.values(), ids=COMMITS)
def test_x5_of_many_writers_one_commits(postgres: str, catalogue: PostgresCatalogue, commit: Commit) -> None:
    results = _at_once(postgres, commit, 6)
    assert sorted(results) == [False] * 5 + [True]
    assert len(catalogue.pending_events()) == 1
    assert _rows(postgres, "SELECT count(*) FROM artifacts") == [(1,)]


def test_x5_a_commit_that_cannot_be_whole_is_not_at_all(catalogue: PostgresCatalogue, postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("ALTER TABLE outbox ADD CHECK (position < 0)")
    with pytest.raises(psycopg.IntegrityError):
        catalogue.commit_batch(samples.batch(), URI, DIGEST, samples.event(EventType.RAW_DATA_EXTRACTED))
    assert _everything(postgres) == {"artifacts": [], "lineage": [], "audit": []}


def test_x1_an_event_that_is_not_as_documented_is_refused(catalogue: PostgresCatalogue, postgres: str) -> None:
    event = samples.event(EventType.RAW_DATA_EXTRACTED)
    for wrong, message in [
        (
            event.model_copy(update={"data": {"rows": 3}}),
            "'raw-data-extracted' is not as documented: uri: Field required",
        ),
        (event.model_copy(update={"data": event.data | {"more": 1}}), "more: Extra inputs are not permitted"),
        (event.model_copy(update={"kind": Kind.SCORING_RUN}), "a ScoringRun does not announce 'raw-data-extracted'"),
    ]:
        with pytest.raises(ValueError, match=message):
            catalogue.commit_batch(samples.batch(), URI, DIGEST, wrong)
    assert _rows(postgres, "SELECT count(*) FROM artifacts") == [(0,)]


def test_resources_of_the_same_ids_do_not_meet(catalogue: PostgresCatalogue) -> None:
    for number, manifest in enumerate(
        [samples.batch(), samples.batch(dataset="weather"), samples.batch(namespace="other")]
    ):
        event = samples.event(EventType.RAW_DATA_EXTRACTED, number)
        assert catalogue.commit_batch(manifest, URI, DIGEST, event) is True
    assert len(catalogue.pending_events()) == 3


# --- outbox ---------------------------------------------------------------------------------------------------------


def test_x1_events_come_out_as_they_went_in_oldest_first(catalogue: PostgresCatalogue) -> None:
    samples.commit_history(catalogue)
    events = catalogue.pending_events()
    assert events[0] == samples.event(EventType.RAW_DATA_EXTRACTED, 1)
    assert [event.type for event in events] == [
        EventType.RAW_DATA_EXTRACTED,
        EventType.RAW_DATA_EXTRACTED,
        EventType.FEATURES_GENERATED,
        EventType.FEATURES_GENERATED,
        EventType.SPLIT_CREATED,
        EventType.MODEL_TRAINED,
        EventType.MODEL_EVALUATED,
    ]
    assert catalogue.pending_events(limit=2) == events[:2]


def test_x1_published_events_are_gone(catalogue: PostgresCatalogue) -> None:
    samples.commit_history(catalogue)
    events = catalogue.pending_events()
    catalogue.mark_published([events[0].id, events[2].id, "unknown"])
    catalogue.mark_published([])
    assert catalogue.pending_events() == [events[1], *events[3:]]


# --- audit ----------------------------------------------------------------------------------------------------------


def test_x2_a_decision_is_audited_once_and_announced(catalogue: PostgresCatalogue, postgres: str) -> None:
    event = samples.event()
    for expected in (True, False):
        done = catalogue.record_decision(DATASET, "levada", "stalled", "SourceNotFound", "there is no file", event)
        assert done is expected
    assert catalogue.pending_events() == [event]
    (entry,) = catalogue.audit()
    assert entry == {
        "id": event.id,
        "time": event.time,
        "kind": "Dataset",
        "namespace": "default",
        "name": "flights",
        "actor": "levada",
        "action": "stalled",
        "reason": "SourceNotFound",
        "message": "there is no file",
        "data": event.data,
    }


def test_x2_a_decision_that_quotes_data_with_nul_is_kept(catalogue: PostgresCatalogue) -> None:
    message = "column 'a\0' has no name"
    event = samples.event().model_copy(update={"data": {"reason": "InvalidData", "message": message}})
    assert catalogue.record_decision(DATASET, "levada", "stalled", "InvalidData", message, event)
    (entry,) = catalogue.audit()
    assert entry["message"] == "column 'a\\x00' has no name"
    assert entry["data"]["message"] == "column 'a\N{SYMBOL FOR NULL}' has no name"


def test_x2_of_many_engines_one_decides(postgres: str, catalogue: PostgresCatalogue) -> None:
    def decide(each: Catalogue) -> bool:
        return each.record_decision(DATASET, "levada", "stalled", "SourceNotFound", "why", samples.event())

    assert sorted(_at_once(postgres, decide, 6)) == [False] * 5 + [True]
    assert len(catalogue.pending_events()) == 1


def test_x2_the_audit_is_newest_first_and_of_a_resource_where_asked(catalogue: PostgresCatalogue) -> None:
    other = Ref(Kind.FEATURE_SET, "default", "flights")
    for number in range(6):
        event = samples.event(number=number).model_copy(update={"time": samples.NOW - timedelta(hours=number)})
        catalogue.record_decision(other if number % 2 else DATASET, "levada", "stalled", "r", str(number), event)
    assert [entry["message"] for entry in catalogue.audit()] == ["5", "4", "3", "2", "1", "0"]
    assert [entry["message"] for entry in catalogue.audit(DATASET)] == ["4", "2", "0"]
    assert [entry["message"] for entry in catalogue.audit(other, limit=2)] == ["5", "3"]
    assert catalogue.audit(Ref(Kind.DATASET, "other", "flights")) == []


# --- forgetting -----------------------------------------------------------------------------------------------------


def test_forgetting_a_resource_takes_its_own_and_nothing_else(catalogue: PostgresCatalogue, postgres: str) -> None:
    samples.commit_history(catalogue)
    catalogue.commit_batch(
        samples.batch(namespace="other"), URI, DIGEST, samples.event(EventType.RAW_DATA_EXTRACTED, 9)
    )
    expected = {
        DATASET: ["raw/default/flights/batch-1/"],
        Ref(Kind.FEATURE_SET, "default", "late"): ["features/default/late/features-1/"],
        Ref(Kind.TRAINING_RUN, "default", "late"): ["splits/default/late/split-1/"],
        Ref(Kind.MODEL_CANDIDATE, "default", "late-trees-1"): [
            "models/default/late-trees-1/",
            "evaluations/default/late-trees-1/evaluation-1/",
        ],
        Ref(Kind.DEPLOYMENT, "default", "late"): [],
        Ref(Kind.SCORING_RUN, "default", "late"): [],
    }
    for ref, prefixes in expected.items():
        assert catalogue.forget(ref) == prefixes
        assert catalogue.forget(ref) == []
    assert _rows(postgres, "SELECT key FROM artifacts ORDER BY key") == [
        ("batch/default/planes/batch-2",),
        ("batch/other/flights/batch-1",),
        ("features/default/planes/features-2",),
    ]
    assert _rows(postgres, "SELECT child FROM lineage") == [("features/default/planes/features-2",)]


def test_what_was_forgotten_can_be_committed_anew(catalogue: PostgresCatalogue) -> None:
    COMMITS["batch"](catalogue)
    catalogue.forget(DATASET)
    assert COMMITS["batch"](catalogue) is True


# --- a database that does not answer --------------------------------------------------------------------------------


def test_x5_a_dead_database_is_named_without_its_password(closed_port: int) -> None:
    catalogue = PostgresCatalogue(f"postgresql://levada:a-secret@127.0.0.1:{closed_port}/levada")
    uses: list[Callable[[], Any]] = [
        catalogue.migrate,
        lambda: COMMITS["batch"](catalogue),
        lambda: catalogue.lineage("batch-1"),
        catalogue.pending_events,
    ]
    for use in uses:
        with pytest.raises(StoreUnavailable) as caught:
            use()
        message = str(caught.value)
        assert message.startswith(f"the catalogue 127.0.0.1:{closed_port}/levada does not answer: ")
        assert "refused" in message
        assert "\n" not in message
        assert "a-secret" not in message


def test_wrong_credentials_are_refused_in_one_sentence_without_them(postgres: str) -> None:
    start, _, end = postgres.rpartition("@")
    right = start.rpartition(":")[2]
    for dsn, reason in [
        (f"postgresql://levada:a-wrong-one@{end}", 'password authentication failed for user "levada"'),
        (f"{start}@{end.rpartition('/')[0]}/nothing", 'database "nothing" does not exist'),
    ]:
        catalogue = PostgresCatalogue(dsn)
        with pytest.raises(StoreRefused) as caught:
            catalogue.pending_events()
        message = str(caught.value)
        assert message.endswith(f"refuses this user: {reason}")
        assert "a-wrong-one" not in message
        assert right not in message


def test_a_dsn_that_is_none_is_not_shown(postgres: str) -> None:
    with pytest.raises(StoreRefused, match="LEVADA_POSTGRES_DSN is not a connection string") as caught:
        PostgresCatalogue("postgresql:/levada:a-secret@host/db")
    assert "a-secret" not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="LEVADA_POSTGRES_DSN is not set"):
        open_catalogue(Settings.model_validate({"postgres_dsn": ""}))


def test_a_user_without_rights_is_told(postgres: str, catalogue: PostgresCatalogue) -> None:
    role = f"reader_{postgres.rpartition('/')[2]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'reader'")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    reader = PostgresCatalogue(f"postgresql://{role}:reader@{postgres.rpartition('@')[2]}")
    assert reader.pending_events() == []
    with pytest.raises(StoreRefused, match="refuses this user: permission denied for table"):
        COMMITS["batch"](reader)
    reader.close()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


def test_a_database_without_tables_is_told_from_a_dead_one(empty_catalogue: PostgresCatalogue) -> None:
    with pytest.raises(StoreUnavailable, match="has not been migrated to this version of Levada"):
        empty_catalogue.pending_events()


def test_x5_connections_that_the_server_ended_are_made_anew(catalogue: PostgresCatalogue, postgres: str) -> None:
    COMMITS["batch"](catalogue)
    with psycopg.connect(postgres, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchone()
    assert ended is not None
    assert ended[0] >= 1
    assert COMMITS["features"](catalogue) is True


def _type(event: Event) -> str:
    return {
        EventType.RAW_DATA_EXTRACTED: "batch",
        EventType.FEATURES_GENERATED: "features",
        EventType.SPLIT_CREATED: "split",
        EventType.MODEL_TRAINED: "candidate",
        EventType.MODEL_EVALUATED: "evaluation",
        EventType.SCORES_READY: "scores",
    }[event.type]


def _at_once(dsn: str, work: Commit, workers: int) -> list[bool]:
    """What each of several catalogues returned for the same work begun at the same moment."""
    ready = threading.Barrier(workers)
    results: list[bool] = []

    def run() -> None:
        catalogue = PostgresCatalogue(dsn)
        catalogue.pending_events()  # connected before the race
        ready.wait()
        results.append(work(catalogue))
        catalogue.close()

    threads = [threading.Thread(target=run) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _rows(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def _everything(dsn: str) -> dict[str, list[Any]]:
    return {table: _rows(dsn, f"SELECT * FROM {table} ORDER BY 1") for table in ("artifacts", "lineage", "audit")}


def test_x1_an_event_that_this_version_does_not_know_blocks_no_other(
    catalogue: PostgresCatalogue, postgres: str
) -> None:
    unknown = """INSERT INTO outbox (id, event) VALUES ('new', '{"id": "new", "type": "from-the-future"}')"""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(unknown)
    COMMITS["batch"](catalogue)

    assert [event.type for event in catalogue.pending_events()] == [EventType.RAW_DATA_EXTRACTED]
