"""Jobs whose steps are scripted, over the real object store."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest

from levada.engines.local.children import Child, spawn
from levada.engines.local.forkers import Forker
from levada.engines.local.home import Home
from levada.engines.local.jobs import Jobs
from levada.engines.local.servers import S3Endpoint
from levada.errors import StoreUnavailable
from levada.names import Kind
from levada.planners.plan import Job, JobState
from levada.resources import Ref
from levada.resources.dataset import DatasetSpec
from levada.settings import from_environment
from levada.steps.io import IngestWork, Owner, StepInput, StepResult
from levada.stores.open import open_objects
from levada.stores.ports import Objects
from tests.support.waiting import until

T = TypeVar("T")
OWNER = Ref(Kind.DATASET, "default", "flights")
SPEC = DatasetSpec.model_validate(
    {"source": {"type": "object", "object": {"uri": "s3://landing/"}}, "format": {"type": "csv"}}
)
GUARD = 60.0  # seconds; a guard, not a measurement


class Scripted:
    """Starts tests/contract/local/step.py in the place of steps, and counts."""

    def __init__(self) -> None:
        self.started = 0
        self.environment: dict[str, str] = {}  # of the last one

    async def start(self, kinds: Iterable[str]) -> None: ...

    async def stop(self) -> None: ...

    async def run(self, kind: str, arguments: list[str], environment: dict[str, str], log: Path) -> Child:
        self.started += 1
        self.environment = environment
        return await spawn([sys.executable, "-S", str(Path(__file__).parent / "step.py"), *arguments], environment, log)


@dataclass
class Bench:
    """A home, what its steps do, and the store of their results; `jobs` is one life of the engine's part."""

    home: Home
    script: Path
    objects: Objects
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    broken: list[BaseException] = field(default_factory=list)
    unavailable: int = 0  # times that the store will not answer
    fetched: list[str] = field(default_factory=list)
    steps: Scripted = field(default_factory=Scripted)

    def write(
        self, *indexes: str, name: str = "ingest", results: bool = True, spec: DatasetSpec = SPEC, **fields: object
    ) -> Job:
        """A job whose indexes do what their scripts say; results lie in the store as steps would have put them."""
        for index, words in enumerate(indexes):
            (self.script / str(index)).write_text(words)
            result = StepResult(job=name, index=index, finished_at=datetime(2026, 1, 1, tzinfo=UTC))
            if results:
                self.objects.put(f"steps/{OWNER.namespace}/{name}/{index}.json", result.to_bytes())
        owner = Owner(kind=OWNER.kind, namespace=OWNER.namespace, name=OWNER.name, uid="uid", generation=1)
        work = IngestWork(batch="batch-1", spec=spec)
        step_input = StepInput(job=name, owner=owner, execution="batch-1", completions=len(indexes), work=work)
        wanted = {"completions": len(indexes), "parallelism": len(indexes), **fields}
        return Job(name=name, owner=OWNER, input=step_input, **wanted)  # type: ignore[arg-type]

    @asynccontextmanager
    async def jobs(self, slots: int = 4) -> AsyncIterator[Jobs]:
        """One life of Jobs; leaving it is what an engine does on Ctrl-C."""

        async def stores() -> tuple[Objects, dict[str, str]]:
            return self, {"SCRIPT": str(self.script), "PATH": os.environ["PATH"]}  # type: ignore[return-value]

        forkers = {"ingest": self.steps}
        jobs = Jobs(self.home, stores, slots, lambda _: self.changed.set(), self.broken.append, forkers)
        try:
            yield jobs
        finally:
            await jobs.stop()

    def get(self, key: str) -> bytes:
        """The store as Jobs see it: the real one, when it answers."""
        if self.unavailable:
            self.unavailable -= 1
            raise StoreUnavailable("the object store does not answer")
        self.fetched.append(key)
        return self.objects.get(key)

    def delete_prefix(self, prefix: str) -> None:
        if self.unavailable:
            raise StoreUnavailable("the object store does not answer")
        self.objects.delete_prefix(prefix)

    async def until(self, look: Callable[[], bool]) -> None:
        """Wait for something that a job's change brings about."""
        async with asyncio.timeout(GUARD):
            while not look():
                assert not self.broken, self.broken
                await self.changed.wait()
                self.changed.clear()

    async def outcome(self, jobs: Jobs, job: Job) -> JobState:
        """How a job ended."""
        jobs.ensure(job)
        await self.until(lambda: not jobs.active)
        return jobs.of(OWNER)[job.name]

    async def hanging(self) -> int:
        """The process of a step once it hangs."""
        path = self.script / "hanging"
        return await eventually(lambda: int(path.read_text() or 0) if path.exists() else 0)

    def given(self, job: Job) -> StepInput:
        """What the steps of a job are given."""
        return StepInput.from_bytes((self.home.jobs / OWNER.namespace / job.name / "input.json").read_bytes())

    def attempts(self) -> list[str]:
        """The indexes that were attempted, in order."""
        return (self.script / "attempts").read_text().split()


async def eventually(look: Callable[[], T | None]) -> T:
    """What a look at the file system or the processes shows once it shows something."""
    return await asyncio.to_thread(until, look)


@pytest.fixture
async def forker(tmp_path: Path) -> AsyncIterator[Forker]:
    forker = Forker(tmp_path / "forker.log")
    yield forker
    await forker.stop()


@pytest.fixture
def bench(bucket: S3Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("levada.engines.local.jobs.FIRST_BACKOFF", 0.0)
    script = tmp_path / "script"
    script.mkdir()
    settings = from_environment(
        {
            "LEVADA_OBJECTS_ENDPOINT": bucket.endpoint,
            "LEVADA_OBJECTS_BUCKET": bucket.bucket,
            "LEVADA_OBJECTS_ACCESS_KEY": bucket.access_key,
            "LEVADA_OBJECTS_SECRET_KEY": bucket.secret_key,
        }
    )
    return Bench(Home(tmp_path / "home"), script, open_objects(settings))
