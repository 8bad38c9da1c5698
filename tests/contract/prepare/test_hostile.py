"""Text from a manifest reaches neither files nor network, nor the program, even past the check of its text."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from levada.errors import Stalled
from levada.features import query
from levada.resources.conditions import Reason
from levada.steps.prepare import version
from tests.contract.prepare.conftest import World

SECRET = "a-secret-of-this-machine"

HOSTILE = {
    "csv": "SELECT * FROM read_csv('{folder}/secret.csv')",
    "replacement scan": "SELECT * FROM '{folder}/secret.csv'",
    "quoted name": 'SELECT * FROM "{folder}/secret.csv"',
    "text": "SELECT content FROM read_text('{folder}/secret.csv')",
    "blob": "SELECT content::VARCHAR AS c FROM read_blob('{folder}/secret.csv')",
    "glob": "SELECT * FROM glob('{folder}/*')",
    "sniff": "SELECT * FROM sniff_csv('{folder}/secret.csv')",
    "database": "SELECT * FROM read_duckdb('{folder}/secret.db', table_name = 't')",
    "environment": "SELECT getenv('HOME') AS home FROM numbers",
    "text that is a query": "SELECT * FROM query('SELECT * FROM ''{folder}/secret.csv''')",
    "variable of the program": "SELECT * FROM work",
    "http": "SELECT * FROM 'http://127.0.0.1:{port}/x.csv'",
    "http function": "SELECT * FROM read_csv('http://127.0.0.1:{port}/x.csv')",
    "s3": "SELECT * FROM 's3://127.0.0.1:{port}/x.parquet'",
    "copy out": "COPY numbers TO '{folder}/out.csv'",
    "copy out behind": "SELECT 1 AS id; COPY (SELECT 1) TO '{folder}/out.csv'",
    "copy out in brackets": "SELECT 1 AS id) TO '{folder}/out.csv'; COPY (SELECT 1",
    "attach": "ATTACH '{folder}/out.db'",
    "export": "EXPORT DATABASE '{folder}/out'",
    "unlock": "SET lock_configuration = false",
    "open up": "SET enable_external_access = true; SELECT * FROM '{folder}/secret.csv'",
    "allow": "SET allowed_directories = ['{folder}']",
    "install": "INSTALL httpfs",
    "load": "LOAD '{folder}/secret.csv'",
    "pragma": "PRAGMA enable_profiling",
    "call": "CALL enable_logging()",
    "table": "CREATE TABLE x AS SELECT 1 AS id",
    "table behind": "SELECT id FROM numbers; CREATE TABLE x AS SELECT 1 AS id",
    "delete": "WITH x AS (DELETE FROM numbers RETURNING *) SELECT * FROM x",
}


@pytest.fixture
def listener() -> socket.socket:
    """A port of this machine on which nobody should call."""
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("case", HOSTILE)
def test_x5_hostile_text_is_refused_by_the_engine_too(
    world: World, tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.csv").write_text(f"id\n{SECRET}\n")
    world.add_batch("numbers", {"id": [1, 2]})
    sql = HOSTILE[case].format(folder=folder, port=listener.getsockname()[1])
    spec = {"inputs": [{"dataset": "numbers"}], "entity": {"keys": ["id"]}, "query": sql}
    monkeypatch.setattr(version, "check_query", lambda sql, tables: None)
    monkeypatch.setattr(version, "depends_on_order", lambda sql, integers: False)

    with pytest.raises(Stalled) as stalled:
        world.prepare("numbers", spec)

    assert stalled.value.reason in (Reason.INVALID_QUERY, Reason.INVALID_SPEC)
    assert SECRET not in stalled.value.message
    assert sorted(path.name for path in folder.iterdir()) == ["secret.csv"]
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()


@pytest.mark.parametrize("case", HOSTILE)
def test_x5_hostile_text_is_refused_by_the_check_of_its_text(case: str) -> None:
    with pytest.raises(Stalled) as stalled:
        query.check_query(HOSTILE[case].format(folder="/x", port=1), ["numbers"])
    assert stalled.value.reason is Reason.INVALID_QUERY
