"""Kill engine or step after every single write: what comes of it is the same as without.

The small pipeline is run in three stages (data, training, serving). For each stage a first run from the home as the
stages before left it counts the writes. Then, for each write, the same from the same home: the process that makes that
write is killed (SIGKILL) right after it, the engine is run again if it was the one, and everything that was made is
compared. The loop is dealt to several tests so that they run side by side. The writes of `levada delete` are gone
through in the same way, on a smaller home. The servers outlive a killed engine here (elsewhere they end with it): what
they were told is what counts, and they take longer to start than the pipeline to run. The object store, which takes
longest, even outlives the homes: it is filled anew for each.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import nats
import psycopg
import pytest

from levada.engines.local.servers import Endpoints, LocalServers, S3Endpoint
from levada.settings import Settings, from_environment
from levada.stores.open import open_catalogue, open_objects
from tests.conftest import s3_client
from tests.e2e.pipelines import PIPELINE, Outcome, Pipeline, small_pipeline
from tests.support.warm import warm_levada

KILLED = -signal.SIGKILL
NEVER = 1_000_000
STAGES = {"data": (4, 3), "training": (5, 2), "serving": (7, 2)}  # manifests up to the stage, tests it is dealt to
CLOCK = ("At", "Time", "since", "digest")  # fields that tell the time, and digests of documents that hold such fields


def staged(folder: Path, manifests: int) -> Pipeline:
    """The small pipeline with one algorithm, up to a stage."""
    # The data is written once: files that are written again are a changed source.
    pipeline = Pipeline(folder) if folder.exists() else small_pipeline(folder, rows=240)
    text = PIPELINE.replace("    - {name: tree, type: decisionTree, params: {maxDepth: 3}}\n", "")
    pipeline.write("pipeline.yaml", "---".join(text.split("---")[:manifests]))
    return pipeline


def without_clock(value: Any) -> Any:
    """A document without what the clock says."""
    if isinstance(value, dict):
        return {k: without_clock(v) for k, v in value.items() if not k.endswith(CLOCK)}
    return [without_clock(v) for v in value] if isinstance(value, list) else value


def made_by(pipeline: Pipeline, settings: Settings) -> dict[str, Any]:
    """All that a home holds: statuses, manifests with the digests of their files, models, scores, decisions, events."""
    statuses = {
        "/".join(path.parts[-3:]): without_clock(json.loads(path.read_text())["resource"]["status"])
        for path in sorted(pipeline.home.glob("resources/*/*/*.json"))
    }
    catalogue, objects = open_catalogue(settings), open_objects(settings)
    keys = [info.key for info in objects.list("")]
    manifests = {key: json.loads(objects.get(key)) for key in keys if key.endswith("/manifest.json")}
    files = {
        key: sorted((file["key"], file["digest"]) for name in ("typed", "files") for file in manifest.get(name, []))
        for key, manifest in manifests.items()
    }
    ids = [key.split("/")[-2] for key in manifests if not key.startswith("models/")]
    with psycopg.connect(settings.postgres_dsn.get_secret_value()) as connection:
        scores = connection.execute(
            "SELECT mode, owner, count(*), count(DISTINCT id) FROM scores GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()
    made = {
        "statuses": statuses,
        "jobs": sorted("/".join(path.parts[-2:]) for path in pipeline.home.glob("jobs/*/*")),
        "keys": keys,
        "files": files,
        "models": {key: sha256(objects.get(key)).hexdigest() for key in keys if key.endswith(".onnx")},
        "scores": scores,
        "decisions": sorted((d["kind"], d["name"], d["action"], d["message"]) for d in catalogue.audit(limit=1000)),
        "lineage": {id: sorted((n.type, n.id, *n.parents) for n in catalogue.lineage(id)) for id in ids},
        "unpublished": catalogue.pending_events(),
        "published": asyncio.run(published(settings)),
    }
    catalogue.close()
    return made


async def published(settings: Settings) -> dict[str, int]:
    """How many events the bus has of each subject."""
    password = settings.nats_password.get_secret_value()
    client = await nats.connect(settings.nats_url, user=settings.nats_user, password=password)
    try:
        info = await client.jetstream().stream_info("levada", subjects_filter=">")
    finally:
        await client.close()
    return dict(sorted((info.state.subjects or {}).items()))


Levada = Callable[..., Outcome]
"""`levada` with arguments, in the pipeline's folder and over its servers; `environment` is added to what it has."""


@dataclass
class Template:
    """A home that can be had again and again as it was, and what its bucket held."""

    home: Path
    store: S3Endpoint
    objects: dict[str, bytes]

    @contextmanager
    def restored(self, pipeline: Pipeline) -> Iterator[tuple[Levada, Settings]]:
        """`levada` for the home of a pipeline, which is this one again, and what leads to its stores."""
        shutil.rmtree(pipeline.home, ignore_errors=True)
        subprocess.run(["cp", "-a", self.home, pipeline.home], check=True)  # with the owner of Postgres' files
        client, bucket = s3_client(self.store), self.store.bucket
        for key in set(keys_in(self.store)) - self.objects.keys():
            client.remove_object(bucket, key)
        for key, data in self.objects.items():
            client.put_object(bucket, key, BytesIO(data), len(data))
        with servers_of(pipeline.home, self.store) as endpoints:
            levada = partial(warm_levada, cwd=pipeline.folder, endpoints=endpoints)
            yield levada, from_environment(endpoints.environment())


def keys_in(store: S3Endpoint) -> list[str]:
    """What the bucket has."""
    return [str(item.object_name) for item in s3_client(store).list_objects(store.bucket, recursive=True)]


@contextmanager
def servers_of(home: Path, store: S3Endpoint) -> Iterator[Endpoints]:
    """The catalogue and the bus of a home, beside an object store that runs already."""
    with LocalServers(home, durable=False) as servers:
        yield Endpoints(servers.postgres(), servers.nats(), store)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3Endpoint]:
    """An object store for all homes of a test."""
    with LocalServers(tmp_path / "store", durable=False) as servers:
        yield servers.objects()


def with_kill(levada: Levada, pipeline: Pipeline, at: int, total: int, *command: str) -> tuple[int, bool]:
    """Call `levada` with the process of the given write killed after it: the writes, and whether it was that process.

    That the write was reached and its process killed is asserted. Only of the last of the `total` writes that were
    counted some may not be made: in how many passes the relay publishes is a matter of time.
    """
    count = pipeline.folder / "writes"
    count.unlink(missing_ok=True)
    environment = {"LEVADA_FAILPOINT_FILE": str(count), "LEVADA_FAILPOINT_AT": str(at)}
    outcome = levada(*command, environment=environment)
    assert outcome.code in (0, KILLED), f"write {at}: {outcome.err}"
    writes = count.stat().st_size
    if writes >= at:
        logs = [path.read_text() for name in ("log.txt", "forker.log") for path in pipeline.home.rglob(name)]
        assert any(f"failpoint {at}: killed after " in text for text in (outcome.err, *logs)), f"write {at}"
    else:
        assert at > min(total - 4, total * 3 // 4), f"write {at} of {total} was not made"
    return writes, outcome.code == KILLED


RUN = ("run", "-f", ".", "-o", "json")
DELETE = ("delete", "-f", ".", "-o", "json")


def run_with_kill(levada: Levada, pipeline: Pipeline, at: int, total: int = 0) -> int:
    """Run with the process of the given write killed after it, and again if that was the engine; the writes."""
    writes, killed = with_kill(levada, pipeline, at, total, *RUN)
    if killed:
        finished = {path: path.stat().st_mtime_ns for path in pipeline.home.glob("jobs/*/*/*/result.json")}
        again = levada(*RUN)
        assert again.code == 0, f"after write {at}: {again.err}"
        for path, written in finished.items():
            assert path.stat().st_mtime_ns == written, f"write {at}: the completed step {path.parent} ran again"
    return writes


def template_of(pipeline: Pipeline | None, home: Path, store: S3Endpoint) -> Template:
    """The home that a pipeline makes, or one in which nothing has run but servers, which start slowly at first."""
    with servers_of(pipeline.home if pipeline else home, store) as endpoints:
        if pipeline:
            outcome = warm_levada(*RUN, cwd=pipeline.folder, endpoints=endpoints)
            assert outcome.code == 0, outcome.err
    if pipeline:
        pipeline.home.rename(home)
    objects = {key: s3_client(store).get_object(store.bucket, key).data for key in keys_in(store)}
    return Template(home, store, objects)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("stage", "shard", "shards"),
    [(stage, shard, shards) for stage, (_, shards) in STAGES.items() for shard in range(shards)],
)
def test_x5_killing_after_any_write_changes_nothing_in_the_end(
    tmp_path: Path, store: S3Endpoint, stage: str, shard: int, shards: int
) -> None:
    folder = tmp_path / "pipeline"
    before = list(STAGES).index(stage)
    ran = staged(folder, list(STAGES.values())[before - 1][0]) if before else None
    template = template_of(ran, tmp_path / "template", store)
    pipeline = staged(folder, STAGES[stage][0])

    with template.restored(pipeline) as (levada, settings):
        total = run_with_kill(levada, pipeline, NEVER)
        expected = made_by(pipeline, settings)
    assert total > 10  # else the writes are not counted
    assert not expected["unpublished"]
    assert expected["published"]
    if stage == "serving":
        assert expected["models"]
        assert ("batch", "all-orders", 240, 240) in expected["scores"]

    for at in range(1 + shard, total + 1, shards):
        with template.restored(pipeline) as (levada, settings):
            run_with_kill(levada, pipeline, at, total)
            assert made_by(pipeline, settings) == expected, f"write {at}"


@pytest.mark.timeout(1800)
def test_x5_a_deletion_that_is_killed_after_any_write_ends_the_same_when_it_is_done_again(
    tmp_path: Path, store: S3Endpoint
) -> None:
    pipeline = small_pipeline(tmp_path / "pipeline", rows=240)
    pipeline.write("pipeline.yaml", "---".join(PIPELINE.split("---")[1:3]))  # a Dataset and a FeatureSet
    template = template_of(pipeline, tmp_path / "template", store)

    with template.restored(pipeline) as (levada, settings):
        total, _ = with_kill(levada, pipeline, NEVER, 0, *DELETE)
        expected = made_by(pipeline, settings)
    assert total > 5  # else the writes are not counted
    assert (expected["statuses"], expected["jobs"], expected["keys"]) == ({}, [], [".ready"])  # that of the server
    assert [action for _, _, action, _ in expected["decisions"]].count("deleted") == 2
    assert not expected["unpublished"]

    for at in range(1, total + 1):
        with template.restored(pipeline) as (levada, settings):
            writes, killed = with_kill(levada, pipeline, at, total, *DELETE)
            assert killed or writes < at
            again = levada(*DELETE)
            assert again.code == 0, f"after write {at}: {again.err}"
            assert made_by(pipeline, settings) == expected, f"write {at}"
