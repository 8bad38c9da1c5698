"""Failpoints, and what dying after any write of an output leaves: an output that is made known is made known once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import nats
import psycopg

from levada.engines.local.servers import Endpoints
from levada.settings import from_environment
from levada.stores.open import open_catalogue, open_objects

COUNT = """
import sys
from levada.stores.failpoints import after_write
for number in range(int(sys.argv[1])):
    print(number, flush=True)
    after_write(f"write {number}")
"""

COMMIT = """
import asyncio, sys
import pyarrow as pa
from levada import names
from levada.events import EventType
from levada.settings import Settings
from levada.stores.open import open_bus, open_catalogue, open_objects
from levada.stores.outbox import relay
from tests.contract.stores import samples

async def main():
    objects, catalogue, bus = open_objects(Settings()), open_catalogue(Settings()), open_bus(Settings())
    manifest = samples.scores()
    with objects.writer("scores/part-00000.parquet") as stream:
        stream.write(b"rows")
    rows = pa.RecordBatch.from_pydict({"row": range(4), "value": [0.1, 0.2, 0.3, 0.4]})
    catalogue.copy_scores(manifest, 0, 0, [rows])
    objects.put_if_absent("scores/manifest.json", manifest.to_bytes())
    digest = names.digest(objects.get("scores/manifest.json"))
    event = samples.event(EventType.SCORES_READY, name=sys.argv[1])
    catalogue.commit_scores(manifest, objects.uri("scores/"), digest, event)
    await relay(catalogue, bus)
    await bus.close()
    catalogue.close()

asyncio.run(main())
"""


def test_x5_only_the_nth_write_kills(tmp_path: Path) -> None:
    done = _run(COUNT, "5", file=tmp_path / "writes", at=3)
    assert done.returncode == -9
    assert done.stdout.split() == ["0", "1", "2"]
    assert "failpoint 3: killed after write 2" in done.stderr
    again = _run(COUNT, "5", file=tmp_path / "writes", at=3)
    assert again.returncode == 0
    assert (tmp_path / "writes").stat().st_size == 8


def test_writes_of_all_processes_count_together(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", COUNT, "200"], env=_environment(tmp_path / "writes", 333))
        for _ in range(4)
    ]
    codes = sorted(process.wait() for process in processes)
    assert codes == [-9, 0, 0, 0]


def test_without_the_variables_nothing_is_counted(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LEVADA_FAILPOINT")}
    code = "from levada.stores import failpoints\nfailpoints.after_write('x')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_x5_dying_after_any_write_and_beginning_again_ends_the_same(endpoints: Endpoints, tmp_path: Path) -> None:
    """Objects, score rows, manifest, catalogue row with its event, publication, outbox: each once, whatever died."""
    catalogue = open_catalogue(from_environment(endpoints.environment()))
    catalogue.migrate()
    catalogue.close()
    killed = 0
    while _run(COMMIT, f"late-{killed}", file=tmp_path / str(killed), at=killed + 1, servers=endpoints).returncode:
        done = _run(COMMIT, f"late-{killed}", file=tmp_path / "no", at=0, servers=endpoints)
        assert done.returncode == 0, done.stderr
        _assert_once(endpoints, f"late-{killed}")
        _remove_everything(endpoints)
        killed += 1
        assert killed < 50
    assert killed >= 7
    _assert_once(endpoints, f"late-{killed}")


def _assert_once(endpoints: Endpoints, scoring_run: str) -> None:
    objects = open_objects(from_environment(endpoints.environment()))
    assert [info.key for info in objects.list("scores/")] == ["scores/manifest.json", "scores/part-00000.parquet"]
    with psycopg.connect(endpoints.postgres) as connection:
        counts = "SELECT (SELECT count(*) FROM artifacts), (SELECT count(*) FROM scores), (SELECT count(*) FROM outbox)"
        assert connection.execute(counts).fetchone() == (1, 4, 0)
    assert asyncio.run(_published(endpoints, scoring_run)) == 1


def _remove_everything(endpoints: Endpoints) -> None:
    open_objects(from_environment(endpoints.environment())).delete_prefix("scores/")
    with psycopg.connect(endpoints.postgres) as connection:
        connection.execute("TRUNCATE artifacts, lineage, score_runs, score_parts, score_blocks, outbox")


async def _published(endpoints: Endpoints, scoring_run: str) -> int:
    """How many events of a resource the stream has."""
    client = await nats.connect(endpoints.nats.url, user=endpoints.nats.user, password=endpoints.nats.password)
    try:
        subject = f"levada.default.scoringrun.{scoring_run}.>"
        info = await client.jetstream().stream_info("levada", subjects_filter=subject)
        return sum((info.state.subjects or {}).values())
    finally:
        await client.close()


def _run(
    code: str, *arguments: str, file: Path, at: int, servers: Endpoints | None = None
) -> subprocess.CompletedProcess[str]:
    environment = _environment(file, at) | (servers.environment() if servers else {})
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def _environment(file: Path, at: int) -> dict[str, str]:
    return os.environ | {"LEVADA_FAILPOINT_FILE": str(file), "LEVADA_FAILPOINT_AT": str(at)}
