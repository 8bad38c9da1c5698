"""Preparing again: the same inputs give the same bytes, whoever was killed before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import SecretStr

from levada import names
from levada.engines.local.servers import Endpoints
from levada.errors import StoreUnavailable
from levada.steps.io import PrepareOutput, StepInput, StepResult, Termination
from levada.stores.open import open_catalogue
from tests.contract.prepare.conftest import NAMESPACE, World

T0 = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)
COUNT = 300_000
SPEC: dict[str, Any] = {"inputs": [{"dataset": "numbers"}], "entity": {"keys": ["k"], "timestamp": "t"}}


@pytest.fixture(scope="module")
def numbers() -> pa.Table:
    """Doubles in groups; times that tie, and rows that are the same but for their values."""
    random = np.random.default_rng(7)
    return pa.table(
        {
            "k": random.integers(0, 50, COUNT),
            "t": pa.array([T0 + timedelta(hours=int(n)) for n in random.integers(0, 100, COUNT)], pa.timestamp("us")),
            "x": random.random(COUNT),
        }
    )


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM numbers",
        "SELECT k, t, sum(x) AS s, avg(x) AS a, stddev(x) AS d FROM numbers GROUP BY ALL",
        "SELECT k, t, x, lag(x) OVER w AS before, avg(x) OVER (w ROWS 6 PRECEDING) AS recent "
        "FROM numbers WINDOW w AS (PARTITION BY k ORDER BY t)",
        "SELECT DISTINCT ON (k, t) k, t, x FROM numbers",
    ],
    ids=["ties", "sums", "windows", "first of each"],
)
def test_prep4_the_same_inputs_give_the_same_bytes(world: World, numbers: pa.Table, query: str) -> None:
    world.add_batch("numbers", numbers, files=3)
    work = world.work("numbers", SPEC | {"query": query})
    outputs = []
    for attempt in range(4):
        outputs.append(world.run("numbers", work.model_copy(update={"version": f"features-{attempt}"})))

    files = [output.manifest.files for output in outputs]
    assert files == [files[0]] * 4
    assert all(file.digest.startswith("sha256:") for file in files[0])


def test_prep4_the_order_of_the_input_does_not_show_in_the_version(world: World, numbers: pa.Table) -> None:
    digests = []
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(numbers.num_rows)
        world.add_batch("numbers", numbers.take(order), files=seed + 1)
        digests.append([file.digest for file in world.prepare("numbers", SPEC).manifest.files])

    assert digests[0] == digests[1]


def test_x5_a_version_that_is_there_is_not_made_again(world: World) -> None:
    world.add_batch("numbers", {"k": [1, 1], "t": pa.array([T0, T0], pa.timestamp("us"))})
    work = world.work("numbers", SPEC)
    first, warnings = world.run("numbers", work), world.context.warnings
    before = list(world.objects.list(first.prefix))
    world.objects.delete_prefix(work.inputs[0].prefixes[0])  # it would not find its input

    assert world.run("numbers", work) == first
    assert world.context.warnings == warnings != []
    assert list(world.objects.list(first.prefix)) == before
    assert len(world.catalogue.pending_events()) == 1


def test_x5_a_manifest_that_the_catalogue_did_not_get_is_announced_later(world: World, catalogue_dsn: str) -> None:
    world.add_batch("numbers", {"k": [1], "t": pa.array([T0], pa.timestamp("us"))})
    work, catalogue = world.work("numbers", SPEC), world.catalogue
    world.catalogue = open_catalogue(world.settings.model_copy(update={"postgres_dsn": SecretStr(f"{catalogue_dsn}x")}))
    with pytest.raises(StoreUnavailable):
        world.run("numbers", work)
    world.catalogue.close()
    world.catalogue = catalogue
    manifest = world.objects.get(names.features_prefix(NAMESPACE, "numbers", work.version) + names.MANIFEST)

    output = world.run("numbers", work)
    assert names.digest(manifest) == output.digest
    (event,) = catalogue.pending_events()
    assert event.time == output.manifest.created_at
    assert catalogue.lineage(work.version)[0].id == work.version


def test_x5_killed_after_any_write_it_ends_as_if_it_had_not_been(
    world: World, endpoints: Endpoints, tmp_path: Path
) -> None:
    world.add_batch("numbers", {"k": list(range(20)), "t": pa.array([T0] * 20, pa.timestamp("us"))})
    spec = SPEC | {"online": {"enabled": True}, "partitions": 2, "derive": [{"name": "x", "expression": "k + 1"}]}
    work = world.work("numbers", spec)
    expected = world.run("numbers", work)
    given = world.context.input
    environment = os.environ | endpoints.environment() | {"LEVADA_TERMINATION_LOG": str(tmp_path / "termination")}

    def step(version: str, **failpoint: str) -> int:
        changed = given.model_copy(update={"work": work.model_copy(update={"version": version}), "job": version})
        (tmp_path / "input.json").write_bytes(changed.to_bytes())
        assert StepInput.from_bytes((tmp_path / "input.json").read_bytes()) == changed
        command = [sys.executable, "-m", "levada.steps", str(tmp_path / "input.json")]
        return subprocess.run(command, env=environment | failpoint, timeout=120, capture_output=True).returncode

    write, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        write += 1
        version = f"features-killed-{write}"
        writes = tmp_path / f"writes{write}"
        code = step(version, LEVADA_FAILPOINT_FILE=str(writes), LEVADA_FAILPOINT_AT=str(write))
        if code == -signal.SIGKILL:
            assert step(version) == 0
        termination = Termination.from_bytes((tmp_path / "termination").read_bytes())
        assert termination.result is not None
        output = StepResult.from_bytes(world.objects.get(termination.result)).output
        assert isinstance(output, PrepareOutput)
        assert output.manifest.files == expected.manifest.files
        keys = {info.key.removeprefix(output.prefix) for info in world.objects.list(output.prefix)}
        parts = {"rows/part-00000.parquet", "rows/part-00001.parquet"}
        assert keys == {*parts, "derive.onnx", "manifest.json", "online/kept"}
    assert code == 0
    assert write > 6
    made = [event.data["version"] for event in world.catalogue.pending_events() if "killed" in event.data["version"]]
    assert sorted(made) == sorted(f"features-killed-{n + 1}" for n in range(write))
