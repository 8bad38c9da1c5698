"""Kill engine or step after every single write: what comes of it is the same as without.

A first run counts the writes of a small pipeline. Then, for each write, a fresh home: the process that makes that write
is killed (SIGKILL) right after it; the engine is run again if it was the one; and everything that was made is compared.
The loop is dealt to several tests so that they run side by side.
"""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.pipelines import Pipeline, levada, small_pipeline

SHARDS = 4
KILLED = -signal.SIGKILL


def prepared(folder: Path) -> Pipeline:
    """The smallest pipeline with every kind of step."""
    pipeline = small_pipeline(folder, rows=240)
    manifest = (folder / "pipeline.yaml").read_text()
    manifest = manifest.replace("    - {name: tree, type: decisionTree, params: {maxDepth: 3}}\n", "")
    pipeline.write("pipeline.yaml", manifest)
    return pipeline


def without_times(value: Any) -> Any:
    """A status without what the clock says."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not k.endswith(("At", "Time", "since"))}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def result_of(pipeline: Pipeline) -> dict[str, Any]:
    """Everything that a finished run made: statuses, decisions (each once) and what each score came from."""
    resources = levada("get", "all", "-o", "json", cwd=pipeline.folder).resources()
    decisions = json.loads(levada("audit", "-o", "json", cwd=pipeline.folder).out)
    execution = resources["ScoringRun/all-orders"]["status"]["execution"]["id"]
    nodes = json.loads(levada("lineage", f"{execution}:7", "-o", "json", cwd=pipeline.folder).out)
    return {
        "statuses": {name: without_times(resource["status"]) for name, resource in resources.items()},
        "decisions": sorted((d["kind"], d["name"], d["action"], d["reason"]) for d in decisions),
        "lineage": sorted((node["type"], node["id"], *sorted(node["parents"])) for node in nodes),
    }


def run_with_kill(pipeline: Pipeline, at: int) -> tuple[int, int]:
    """Run with the process of the given write killed after it, and again while the engine was it.

    Returns how many writes there were until the first run ended, and how often the engine was run.
    """
    count = pipeline.folder / "writes"
    environment = {"LEVADA_FAILPOINT_FILE": str(count), "LEVADA_FAILPOINT_AT": str(at)}
    outcome = pipeline.run(environment=environment)
    writes = count.stat().st_size
    assert outcome.code in (0, KILLED), f"write {at}: {outcome.err}"
    if outcome.code == 0:
        return writes, 1
    finished = set(pipeline.home.glob("jobs/*/*/*/result.json"))
    stamps = {path: path.stat().st_mtime_ns for path in finished}
    again = pipeline.run()
    assert again.code == 0, f"after write {at}: {again.err}"
    assert {path: path.stat().st_mtime_ns for path in finished} == stamps, f"write {at}: a completed step ran again"
    return writes, 2


@pytest.mark.parametrize("shard", range(SHARDS))
def test_x5_killing_after_any_write_changes_nothing_in_the_end(tmp_path: Path, shard: int) -> None:
    reference = prepared(tmp_path / "pipeline")
    total, _ = run_with_kill(reference, at=1_000_000)
    expected = result_of(reference)
    shutil.rmtree(reference.home)
    assert total > 40  # else the writes are not counted

    for at in range(1 + shard, total + 1, SHARDS):
        run_with_kill(reference, at)
        assert result_of(reference) == expected, f"write {at}"
        shutil.rmtree(reference.home)
        (reference.folder / "writes").unlink()
