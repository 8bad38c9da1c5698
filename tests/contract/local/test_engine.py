"""The local engine with scripted steps and real stores: what stands in the home while it works."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from levada import names
from levada.engines.local import job_folder
from levada.engines.local.engine import LocalEngine
from levada.engines.local.forkers import Forker
from levada.engines.local.home import Home, Record
from levada.engines.local.servers import LocalServers
from levada.engines.local.stores import Stores
from levada.engines.retention import KEPT
from levada.names import Kind
from levada.planners import plan
from levada.planners.plan import Job, Observed, Plan
from levada.resources import AnyResource, Dataset, Ref
from levada.resources.conditions import ConditionType, condition_of
from levada.resources.dataset import DatasetSpec
from levada.resources.status import Execution, Progress
from levada.steps.io import ProgressRecord, StepInput, StepResult
from tests.contract.local.conftest import Scripted, eventually
from tests.unit.planners.worlds import World

pytestmark = pytest.mark.anyio

FLIGHTS = Ref(Kind.DATASET, "default", "flights")
STEPS = ("ingest", "prepare", "train", "evaluate", "score", "serve")


def dataset(folder: Path, requested: str = "", name: str = "flights") -> Dataset:
    """A Dataset of one file; another text asks for it by hand once more."""
    path = folder / "flights.csv"
    if not path.exists():  # writing it once more would be a change of the source, which an engine at work may see
        path.write_text("a\n1\n")
    source = {"type": "object", "object": {"uri": path.as_uri()}}
    metadata = {"name": name, "annotations": {names.ANNOTATION_REQUESTED: requested}}
    return Dataset.model_validate({"metadata": metadata, "spec": {"source": source, "format": {"type": "csv"}}})


@asynccontextmanager
async def at_work(home: Home) -> AsyncIterator[tuple[LocalEngine, Stores]]:
    """An engine that runs; leaving it is Ctrl-C."""

    async def go_on() -> bool:
        return True

    with LocalServers(home.root, durable=False) as servers:
        stores = Stores(servers, home.root)
        steps = cast("dict[str, Forker]", dict.fromkeys(STEPS, Scripted()))
        engine = LocalEngine(home, stores, steps, serve=False)
        running = asyncio.create_task(engine.run(go_on))
        try:
            yield engine, stores
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await stores.close()


def execution(home: Home) -> Execution | None:
    """The execution as another process sees it."""
    record = home.get(FLIGHTS)
    return record.resource.status.execution if record and isinstance(record.resource, Dataset) else None


def progress(home: Home) -> Progress | None:
    run = execution(home)
    return run.progress if run is not None else None


async def test_x4_a_status_says_how_far_a_step_is_and_is_written_only_when_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[Record] = []
    looks: list[ProgressRecord | None] = []
    look = job_folder.progress

    class Counted(Home):
        def save(self, record: Record) -> None:
            saves.append(record)
            super().save(record)

    def counted(folder: Path, completions: int) -> ProgressRecord | None:
        looks.append(look(folder, completions))
        return looks[-1]

    monkeypatch.setattr(job_folder, "progress", counted)
    monkeypatch.setattr("levada.engines.local.jobs.PROGRESS_EVERY", 0.02)
    monkeypatch.setattr("levada.engines.local.engine.PROGRESS_EVERY", 0.02)
    monkeypatch.setenv("SCRIPT", str(tmp_path))
    home = Counted(tmp_path / "home")
    (tmp_path / "0").write_text("hang")
    async with at_work(home) as (engine, _):
        engine.apply([dataset(tmp_path)])
        await eventually((tmp_path / "hanging").exists)
        (folder,) = home.jobs_of(FLIGHTS)

        async def says(**record: Any) -> int:
            """Have the step say how far it is; how many writes it took until the home says so and after."""
            before = len(saves)
            with (folder / "0" / "progress.jsonl").open("a") as file:
                file.write(json.dumps(record) + "\n")
            expected = Progress(step=record["phase"], done=record["done"], total=record["total"], unit="rows")
            await eventually(lambda: progress(home) == expected)
            seen = len(looks)
            await eventually(lambda: len(looks) >= seen + 5)
            return len(saves) - before

        assert await says(phase="read", done=1, total=10) == 1
        assert await says(phase="read", done=5, total=10) == 1


async def test_x8_after_a_success_old_jobs_are_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("levada.engines.local.jobs.FIRST_BACKOFF", 0.0)
    monkeypatch.setenv("SCRIPT", str(tmp_path))
    times = KEPT + 2
    (tmp_path / "0").write_text("hang ok " * times)
    home = Home(tmp_path / "home")
    hanging, jobs = tmp_path / "hanging", list[str]()

    def succeeded() -> bool:
        run = execution(home)
        return run is not None and run.job == jobs[-1] and run.state == "Succeeded"

    async with at_work(home) as (engine, stores):
        for number in range(times):
            engine.apply([dataset(tmp_path, str(number))])
            pid = await eventually(lambda: hanging.exists() and int(hanging.read_text() or 0))
            run = await eventually(lambda: execution(home))
            jobs.append(run.job)
            given = StepInput.from_bytes((home.jobs / "default" / run.job / "input.json").read_bytes())
            # What the step would have left in the store, had it not been a script.
            output = World().output(Job(run.job, FLIGHTS, given), 0)
            result = StepResult(job=run.job, index=0, output=output, finished_at=run.started_at)
            objects, _ = await stores.for_steps()
            objects.put(f"{given.result_prefix}0.json", result.to_bytes())
            hanging.unlink()
            os.kill(pid, signal.SIGKILL)
            await eventually(succeeded)

        await eventually(lambda: {folder.name for folder in home.jobs_of(FLIGHTS)} == set(jobs[-KEPT:]))
        assert len({info.key.split("/")[2] for info in objects.list("steps/default/")}) == KEPT


async def test_x5_an_error_in_planning_is_said_of_its_resource_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(resource: AnyResource, observed: Observed, now: datetime) -> Plan:
        if resource.metadata.name == "bad":
            raise KeyError("wheel")
        return plan(resource, observed, now)

    monkeypatch.setattr("levada.engines.local.engine.plan", planned)
    monkeypatch.setenv("SCRIPT", str(tmp_path))
    (tmp_path / "0").write_text("hang")
    home = Home(tmp_path / "home")
    bad = dataset(tmp_path, name="bad")
    async with at_work(home) as (engine, _):
        engine.apply([bad, dataset(tmp_path)])
        await eventually((tmp_path / "hanging").exists)

        def said() -> str | None:
            record = home.get(bad.ref)
            stalled = condition_of(record.resource.status.conditions, ConditionType.STALLED) if record else None
            return stalled.message if stalled is not None else None

        assert "KeyError: 'wheel'; this is a fault of Levada" in await eventually(said)
        assert execution(home) is not None


async def test_x5_a_source_is_looked_at_beside_the_engine_and_not_while_it_is_ingested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[threading.Thread] = []
    plans: list[Observed] = []

    def look(_: DatasetSpec) -> str:
        looks.append(threading.current_thread())
        return "seen"

    def planned(resource: AnyResource, observed: Observed, now: datetime) -> Plan:
        plans.append(observed)
        return plan(resource, observed, now)

    monkeypatch.setattr("levada.engines.local.engine.source_fingerprint", look)
    monkeypatch.setattr("levada.engines.local.engine.plan", planned)
    monkeypatch.setattr("levada.engines.local.engine.PROGRESS_EVERY", 0.02)
    monkeypatch.setenv("SCRIPT", str(tmp_path))
    (tmp_path / "0").write_text("hang")
    async with at_work(Home(tmp_path / "home")) as (engine, _):
        engine.apply([dataset(tmp_path)])
        await eventually((tmp_path / "hanging").exists)
        before, seen = len(looks), len(plans)
        await eventually(lambda: len(plans) >= seen + 5)

    assert len(looks) == before
    assert threading.current_thread() not in looks
