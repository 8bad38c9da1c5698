"""Scorers as processes: what KServe does for a Deployment, on one machine.

With `keep` a scorer stays up and its configuration is rewritten when the set of versions changes (it loads the new ones
beside the old and switches). Without, a scorer is started once for each new set of versions, shows that it loads and
answers, and is ended with the engine; a set that was seen to work before is not looked at again.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from levada import names
from levada.engines.local.children import Child, end, spawn
from levada.engines.local.home import Home, Record, write_atomically
from levada.planners.plan import Serving, ServingState
from levada.resources import Ref
from levada.resources.conditions import Reason
from levada.serving.config import ScorerConfig, ScorerVersion
from levada.steps.io import StepError
from levada.stores.ports import Objects

READY_WITHIN = 60.0  # seconds that a scorer may take to load its models
LOOK_EVERY = 0.05  # seconds between looks at a scorer that is loading
GRACE = 10.0  # seconds to drain


@dataclass
class _Scorer:
    wanted: Serving
    port: int
    state: ServingState = field(default_factory=ServingState)
    loading: bool = False
    process: Child | None = None
    task: asyncio.Task[None] | None = None


class Scorers:
    """Runs a scorer per Deployment; `changed(owner)` is called whenever there is something new to observe."""

    def __init__(
        self,
        home: Home,
        stores: Callable[[], Awaitable[tuple[Objects, dict[str, str]]]],
        changed: Callable[[Ref], None],
        *,
        keep: bool,
    ) -> None:
        self._folder = home.root / "serving"
        self._stores = stores
        self._changed = changed
        self._keep = keep
        self._scorers: dict[Ref, _Scorer] = {}
        self._checked: dict[Ref, str] = {}
        self._stopped = False

    @property
    def starting(self) -> bool:
        """Whether a scorer is loading."""
        return any(scorer.loading for scorer in self._scorers.values())

    def observe(self, record: Record) -> ServingState:
        """What is served for a Deployment now; where nothing is to be kept up, what was seen to work."""
        ref = record.resource.ref
        if ref in self._scorers:
            return self._scorers[ref].state
        if record.checked_serving and not self._keep:
            _, _, versions = record.checked_serving.partition(":")
            return ServingState(ready_versions=frozenset(int(v) for v in versions.split(",") if v))
        return ServingState()

    def checked(self, record: Record) -> str:
        """What to keep in the record: which set of versions was seen to work."""
        return self._checked.get(record.resource.ref, record.checked_serving)

    def ensure(self, serving: Serving, record: Record) -> None:
        """Serve a set of versions (or see that it works)."""
        ref = serving.owner
        scorer = self._scorers.get(ref)
        if self._stopped or (scorer is not None and scorer.wanted == serving):
            return
        if scorer is None:
            if not self._keep and self.checked(record) == _digest(serving):
                return
            scorer = self._scorers[ref] = _Scorer(serving, self._port(ref))
        elif scorer.task is not None:
            scorer.task.cancel()
        scorer.wanted, scorer.loading = serving, True
        scorer.task = asyncio.create_task(self._bring_up(ref, scorer))

    async def stop(self) -> None:
        """Drain and end all scorers."""
        self._stopped = True
        for scorer in self._scorers.values():
            if scorer.task is not None:
                scorer.task.cancel()
        running = [s.process for s in self._scorers.values() if s.process is not None]
        await asyncio.gather(*(end(process, GRACE) for process in running))
        self._keep = False
        self._scorers.clear()

    async def _bring_up(self, ref: Ref, scorer: _Scorer) -> None:
        folder = self._folder / ref.namespace / ref.name
        config = folder / "scorer.json"
        write_atomically(config, _config(scorer.wanted).to_bytes())
        if scorer.process is None or scorer.process.returncode is not None:
            _, environment = await self._stores()
            command = [sys.executable, "-m", "levada.serving", "--config", str(config)]
            command += ["--host", "127.0.0.1", "--port", str(scorer.port)]
            scorer.process = await spawn(command, os.environ | environment, folder / "log.txt")
        wanted = frozenset(v.version for v in scorer.wanted.versions)
        scorer.state = await self._wait(scorer, wanted, folder / "log.txt")
        if wanted <= scorer.state.ready_versions:
            self._checked[ref] = _digest(scorer.wanted)
        scorer.loading = False
        self._changed(ref)

    async def _wait(self, scorer: _Scorer, wanted: frozenset[int], log: Path) -> ServingState:
        """Wait until a scorer has the wanted versions, or says that it cannot load one, or ends."""
        url = f"http://127.0.0.1:{scorer.port}/v2/models/{scorer.wanted.name}"
        deadline = asyncio.get_running_loop().time() + READY_WITHIN
        while asyncio.get_running_loop().time() < deadline:
            assert scorer.process is not None
            if scorer.process.returncode is not None:
                return ServingState(error=StepError(reason=Reason.NOT_READY, message=f"the scorer ended; see {log}"))
            status = await asyncio.to_thread(_status, scorer.port)
            ready = frozenset(status.get("ready", ()))
            failed = {int(v): why for v, why in status.get("failed", {}).items() if int(v) in wanted}
            if failed:
                message = "; ".join(f"version {v}: {why}" for v, why in failed.items())
                error = StepError(reason=Reason.NOT_READY, message=message)
                return ServingState(ready, url, message, error)
            if wanted <= ready:
                return ServingState(ready, url)
            await asyncio.sleep(LOOK_EVERY)
        return ServingState(message=f"the scorer was not ready after {READY_WITHIN:.0f} s; see {log}")

    def _port(self, ref: Ref) -> int:
        """A free port of the loopback interface; the one of the last time if it is still free."""
        path = self._folder / ref.namespace / ref.name / "port"
        for wanted in (int(path.read_text()) if path.exists() else 0, 0):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", wanted))
                except OSError:
                    continue
                port = int(probe.getsockname()[1])
        write_atomically(path, str(port).encode())
        return port


def _config(serving: Serving) -> ScorerConfig:
    return ScorerConfig(
        name=serving.name,
        namespace=serving.owner.namespace,
        recording=serving.recording,
        record_requests=serving.record_requests,
        versions=[
            ScorerVersion(
                version=v.version,
                candidate=v.candidate,
                model_prefix=v.model_prefix,
                onnx_digest=v.onnx_digest,
                weight=v.weight,
            )
            for v in serving.versions
        ],
    )


def _digest(serving: Serving) -> str:
    versions = ",".join(str(v.version) for v in serving.versions)
    return f"{names.short_hash(_config(serving).document())}:{versions}"


def _status(port: int) -> dict[str, Any]:
    """What the scorer says of its versions: `{"ready": [1], "failed": {"2": "why"}}`; empty if nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/levada/versions")
        status: dict[str, Any] = json.loads(connection.getresponse().read())
        return status
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
