"""Scorers of Deployments: real ones, kept up whatever happens to them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from levada.engines.local.forkers import Forker
from levada.engines.local.home import Home, Record
from levada.engines.local.scorers import Scorers
from levada.engines.local.servers import Endpoints
from levada.errors import StoreUnavailable
from levada.planners.plan import ServedVersion, Serving, ServingState
from levada.resources import Deployment
from levada.settings import Settings
from levada.stores.open import open_objects
from levada.stores.ports import Objects
from tests.contract.serving.scorers import version

pytestmark = pytest.mark.anyio

DEPLOYMENT = Deployment.model_validate(
    {"metadata": {"name": "small"}, "spec": {"model": {"candidate": "small-1"}}, "status": {}}
)
RECORD = Record(DEPLOYMENT)


def serving(objects: Objects, *numbers: int, digest: str | None = None) -> Serving:
    versions: list[ServedVersion] = []
    for number in numbers:
        v = version(objects, number, factor=0.1 * number)
        assert v.model_prefix is not None
        versions.append(
            ServedVersion(number, v.candidate, v.model_prefix, digest or v.onnx_digest, 100 * (not versions))
        )
    return Serving("small", DEPLOYMENT.ref, tuple(versions))


class World:
    """Scorers of one home, and whatever they tell the engine."""

    def __init__(self, home: Path, settings: Settings, endpoints: Endpoints) -> None:
        self.home = Home(home)
        self.objects = open_objects(settings)
        self._environment = endpoints.environment()
        self.unavailable = 0
        self._broken: BaseException | None = None
        self._changed = asyncio.Event()

    async def _stores(self) -> tuple[Objects, dict[str, str]]:
        if self.unavailable:
            self.unavailable -= 1
            raise StoreUnavailable("the catalogue does not answer")
        return self.objects, self._environment

    @asynccontextmanager
    async def scorers(self, *, keep: bool = True) -> AsyncIterator[Scorers]:
        forker = Forker(self.home.root / "forker.log")
        scorers = Scorers(self.home, self._stores, lambda _: self._changed.set(), self._break, forker, keep=keep)
        try:
            yield scorers
        finally:
            await scorers.stop()
            await forker.stop()

    def _break(self, error: BaseException) -> None:
        self._broken = error
        self._changed.set()

    async def until(self, scorers: Scorers, look: Callable[[ServingState], bool]) -> ServingState:
        async with asyncio.timeout(120):
            while not look(state := scorers.observe(RECORD)):
                await self._changed.wait()
                self._changed.clear()
                if self._broken is not None:
                    raise self._broken
            return state


@pytest.fixture
def world(tmp_path: Path, settings: Settings, endpoints: Endpoints) -> World:
    return World(tmp_path, settings, endpoints)


def process() -> psutil.Process:
    """The scorer that runs."""
    (found,) = [p for p in psutil.Process().children(True) if p.name() == "levada serve"]
    return found


async def test_x5_a_scorer_that_was_killed_is_started_again_at_the_same_address(world: World) -> None:
    async with world.scorers() as scorers:
        scorers.ensure(serving(world.objects, 1), RECORD)
        before = await world.until(scorers, lambda state: 1 in state.ready_versions)
        first = process()
        os.kill(first.pid, signal.SIGKILL)

        gone = await world.until(scorers, lambda state: not state.ready_versions)
        after = await world.until(scorers, lambda state: 1 in state.ready_versions)

        assert "exit code -9" in gone.message
        assert after.url == before.url
        assert process().pid != first.pid


async def test_dep3_a_new_set_of_versions_is_taken_over_by_the_process_that_runs(world: World) -> None:
    async with world.scorers() as scorers:
        scorers.ensure(serving(world.objects, 1), RECORD)
        scorers.ensure(serving(world.objects, 1, 2), RECORD)  # before the first could start
        await world.until(scorers, lambda state: {1, 2} <= state.ready_versions)
        first = process()

        scorers.ensure(serving(world.objects, 2, 3), RECORD)
        await world.until(scorers, lambda state: {2, 3} <= state.ready_versions)

        assert process().pid == first.pid
    assert not first.is_running()


async def test_dep1_a_model_that_cannot_be_loaded_is_an_error_that_names_the_version(world: World) -> None:
    async with world.scorers(keep=False) as scorers:
        scorers.ensure(serving(world.objects, 1, digest="sha256:" + "0" * 64), RECORD)
        state = await world.until(scorers, lambda state: bool(state.failed))

    assert list(state.failed) == [1]
    assert "digest" in state.failed[1].message
    assert "version 1" in state.message


async def test_dep3_a_version_that_cannot_be_loaded_is_told_apart_from_those_that_can(world: World) -> None:
    good, broken = serving(world.objects, 1), serving(world.objects, 2, digest="sha256:" + "0" * 64)
    wanted = replace(good, versions=(*good.versions, replace(broken.versions[0], weight=0)))
    async with world.scorers() as scorers:
        scorers.ensure(wanted, RECORD)
        state = await world.until(scorers, lambda state: bool(state.failed))

    assert state.ready_versions == {1}
    assert list(state.failed) == [2]


async def test_x3_what_a_scorer_could_not_record_yet_lies_in_the_home_for_its_user_alone(world: World) -> None:
    async with world.scorers() as scorers:
        scorers.ensure(serving(world.objects, 1), RECORD)
        await world.until(scorers, lambda state: 1 in state.ready_versions)

        folder = world.home.serving(DEPLOYMENT.ref)
        assert (folder / "levada-scores").is_dir()
        assert folder.stat().st_mode & 0o077 == 0


async def test_x5_a_store_that_does_not_answer_is_waited_for(world: World) -> None:
    world.unavailable = 1
    async with world.scorers(keep=False) as scorers:
        scorers.ensure(serving(world.objects, 1), RECORD)
        await world.until(scorers, lambda state: bool(state.message))
        assert scorers.starting

        await world.until(scorers, lambda state: 1 in state.ready_versions)
        assert not scorers.starting


async def test_x8_an_address_stays_the_same_from_run_to_run(world: World) -> None:
    urls = []
    for _ in range(2):
        async with world.scorers() as scorers:
            scorers.ensure(serving(world.objects, 1), RECORD)
            urls.append((await world.until(scorers, lambda state: 1 in state.ready_versions)).url)

    assert urls[0] == urls[1]


async def test_x8_what_was_seen_to_work_is_not_started_again_unless_it_is_kept_up(world: World) -> None:
    wanted = serving(world.objects, 1)
    async with world.scorers(keep=False) as scorers:
        scorers.ensure(wanted, RECORD)
        await world.until(scorers, lambda state: 1 in state.ready_versions)
        seen = Record(DEPLOYMENT, checked_serving=scorers.checked(RECORD))

    async with world.scorers(keep=False) as scorers:
        scorers.ensure(wanted, seen)

        assert not scorers.starting
        assert scorers.observe(seen) == ServingState(ready_versions=frozenset({1}))
