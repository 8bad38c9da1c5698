"""Kill engine or step after every single write: what comes of it is the same as without.

The small pipeline is run in three stages (data, training, serving). For each stage a first run from the home as the
stages before left it counts the writes. Then, for each write, the same from the same home: the process that makes that
write is killed (SIGKILL) right after it, the engine is run again if it was the one, and everything that was made is
compared. The loop is dealt to several tests so that they run side by side.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from levada.engines.local.access import settings_of
from levada.stores.open import open_catalogue, open_objects
from tests.e2e.pipelines import PIPELINE, Pipeline, small_pipeline

KILLED = -signal.SIGKILL
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


def made_by(pipeline: Pipeline) -> dict[str, Any]:
    """All that a home holds: statuses, manifests with the digests of their files, decisions, events left, lineage."""
    statuses = {
        "/".join(path.parts[-3:]): without_clock(json.loads(path.read_text())["resource"]["status"])
        for path in sorted(pipeline.home.glob("resources/*/*/*.json"))
    }
    with settings_of(pipeline.home) as settings:
        catalogue, objects = open_catalogue(settings), open_objects(settings)
        keys = [info.key for info in objects.list("")]
        manifests = {key: json.loads(objects.get(key)) for key in keys if key.endswith("/manifest.json")}
        files = {
            key: sorted((file["key"], file["digest"]) for name in ("typed", "files") for file in manifest.get(name, []))
            for key, manifest in manifests.items()
        }
        ids = [key.split("/")[-2] for key in manifests if not key.startswith("models/")]
        made = {
            "statuses": statuses,
            "keys": keys,
            "files": files,
            "decisions": sorted((d["kind"], d["name"], d["action"], d["message"]) for d in catalogue.audit(limit=1000)),
            "lineage": {id: sorted((n.type, n.id, *n.parents) for n in catalogue.lineage(id)) for id in ids},
            "unpublished": catalogue.pending_events(),
        }
        catalogue.close()
    return made


def run_with_kill(pipeline: Pipeline, at: int) -> int:
    """Run with the process of the given write killed after it, and again if that was the engine; the writes so far."""
    count = pipeline.folder / "writes"
    count.unlink(missing_ok=True)
    environment = {"LEVADA_FAILPOINT_FILE": str(count), "LEVADA_FAILPOINT_AT": str(at)}
    outcome = pipeline.run(environment=environment)
    assert outcome.code in (0, KILLED), f"write {at}: {outcome.err}"
    if outcome.code == KILLED:
        finished = {path: path.stat().st_mtime_ns for path in pipeline.home.glob("jobs/*/*/*/result.json")}
        again = pipeline.run()
        assert again.code == 0, f"after write {at}: {again.err}"
        for path, written in finished.items():
            assert path.stat().st_mtime_ns == written, f"write {at}: the completed step {path.parent} ran again"
    return count.stat().st_size


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("stage", "shard", "shards"),
    [(stage, shard, shards) for stage, (_, shards) in STAGES.items() for shard in range(shards)],
)
def test_x5_killing_after_any_write_changes_nothing_in_the_end(
    tmp_path: Path, stage: str, shard: int, shards: int
) -> None:
    folder, template = tmp_path / "pipeline", tmp_path / "template"
    before = list(STAGES).index(stage)
    if before:
        outcome = staged(folder, list(STAGES.values())[before - 1][0]).run()
        assert outcome.code == 0, outcome.err
        (folder / ".levada").rename(template)
    pipeline = staged(folder, STAGES[stage][0])

    def start_over() -> None:
        shutil.rmtree(pipeline.home, ignore_errors=True)
        if before:
            subprocess.run(["cp", "-a", template, pipeline.home], check=True)  # with the owner of Postgres' files

    start_over()
    total = run_with_kill(pipeline, at=1_000_000)
    expected = made_by(pipeline)
    assert total > 10  # else the writes are not counted
    assert not expected["unpublished"]

    for at in range(1 + shard, total + 1, shards):
        start_over()
        run_with_kill(pipeline, at)
        assert made_by(pipeline) == expected, f"write {at}"
