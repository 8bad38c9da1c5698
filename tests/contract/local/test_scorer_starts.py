"""A scorer that ends while it starts: tried again, and in the end its versions are to blame."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from levada.engines.local import scorers as module
from levada.engines.local.home import Home, Record
from levada.engines.local.scorers import Scorers
from levada.engines.local.servers import Endpoints
from levada.planners.plan import ServedVersion, Serving, ServingState
from levada.resources import Deployment
from levada.settings import Settings
from levada.stores.open import open_objects
from levada.stores.ports import Objects
from tests.contract.serving.scorers import version

pytestmark = pytest.mark.anyio

DEPLOYMENT = Deployment.model_validate({"metadata": {"name": "small"}, "spec": {"model": {"candidate": "small-1"}}})
RECORD = Record(DEPLOYMENT)
GUARD = 120.0  # seconds; a guard, not a measurement


@pytest.fixture
def objects(settings: Settings) -> Objects:
    return open_objects(settings)


@pytest.fixture
def serving(objects: Objects) -> Serving:
    v = version(objects, 1, factor=0.1)
    assert v.model_prefix is not None
    return Serving("small", DEPLOYMENT.ref, (ServedVersion(1, v.candidate, v.model_prefix, v.onnx_digest, 100),))


async def served(home: Home, objects: Objects, environment: dict[str, str], serving: Serving) -> ServingState:
    """What comes of serving where another program takes the port before the scorer can."""
    changed, broken = asyncio.Event(), list[BaseException]()

    async def stores() -> tuple[Objects, dict[str, str]]:
        return objects, environment

    scorers = Scorers(home, stores, lambda _: changed.set(), broken.append, keep=False)
    scorers.ensure(serving, RECORD)
    port = int((home.serving(DEPLOYMENT.ref) / "port").read_text())
    with socket.create_server(("127.0.0.1", port)):
        try:
            async with asyncio.timeout(GUARD):
                while scorers.starting:
                    await changed.wait()
                    changed.clear()
        finally:
            state = scorers.observe(RECORD)
            await scorers.stop()
    assert broken == []
    return state


async def test_x5_a_port_that_was_taken_meanwhile_rejects_no_version(
    tmp_path: Path, objects: Objects, endpoints: Endpoints, serving: Serving
) -> None:
    state = await served(Home(tmp_path), objects, endpoints.environment(), serving)

    assert state.error is None
    assert state.ready_versions == {1}


async def test_x5_a_scorer_that_never_starts_is_an_error_that_says_how_it_ended(
    tmp_path: Path, objects: Objects, endpoints: Endpoints, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    environment = endpoints.environment() | {"LEVADA_POSTGRES_DSN": ""}  # recording has no catalogue

    state = await served(Home(tmp_path), objects, environment, serving)

    assert state.error is not None
    assert "the scorer ended with exit code 2 while it started" in state.error.message
