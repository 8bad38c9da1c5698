"""A scorer that ends while it starts, or takes its time: its versions are not to blame."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from levada.engines.local import scorers as module
from levada.engines.local.children import end, spawn
from levada.engines.local.forkers import Forker
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

    forker = Forker(home.root / "forker.log")
    scorers = Scorers(home, stores, lambda _: changed.set(), broken.append, forker, keep=False)
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
            await forker.stop()
    assert broken == []
    return state


async def test_x5_a_port_that_was_taken_meanwhile_rejects_no_version(
    tmp_path: Path, objects: Objects, endpoints: Endpoints, serving: Serving
) -> None:
    state = await served(Home(tmp_path), objects, endpoints.environment(), serving)

    assert state.failed == {}
    assert state.ready_versions == {1}


async def test_x5_a_scorer_that_never_starts_says_how_it_ended_and_is_tried_again_by_the_next_run(
    tmp_path: Path, objects: Objects, endpoints: Endpoints, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    without_catalogue = endpoints.environment() | {"LEVADA_POSTGRES_DSN": ""}

    state = await served(Home(tmp_path), objects, without_catalogue, serving)

    assert state.failed == {}
    assert "the scorer ended with exit code 2 while it started" in state.message
    assert str(tmp_path / "serving" / "default" / "small" / "log.txt") in state.message

    state = await served(Home(tmp_path), objects, endpoints.environment(), serving)

    assert state.ready_versions == {1}


class Speaking(BaseHTTPRequestHandler):
    """Says of its versions that the first waits, and the fifth time that it is ready."""

    said = 0

    def do_GET(self) -> None:
        type(self).said += 1
        body = json.dumps({"ready": [1]} if self.said >= 5 else {"waiting": {"1": "no memory"}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


async def test_x5_a_scorer_may_take_its_time_to_load_as_long_as_it_answers(
    tmp_path: Path, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_WITHIN", -1.0)  # seconds: none is left once it does not answer
    process = await spawn(["sleep", str(GUARD)], dict(os.environ), tmp_path / "log.txt")
    with ThreadingHTTPServer(("127.0.0.1", 0), Speaking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        scorer = module._Scorer(serving, tmp_path, server.server_port)
        told: list[str] = []
        try:
            state = await module._wait(scorer, process, told.append)
        finally:
            server.shutdown()
            thread.join()
    silent = await module._wait(scorer, process, told.append)
    await end(process, GUARD)

    assert state.ready_versions == {1}
    assert told == ["version 1: no memory"]
    assert "said nothing" in silent.message
    assert silent.failed == {}
