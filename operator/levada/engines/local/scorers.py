"""Scorers as processes: what KServe does for a Deployment, on one machine.

With `keep` a scorer stays up (one that ends is started again) and its configuration is rewritten when the set of
versions changes (it loads the new ones beside the old and switches). Without, a scorer is started once for each new
set of versions, shows that it loads and answers, and is ended with the engine; a set that was seen to work before is
not looked at again.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from levada import names
from levada.engines.local.children import Child, end
from levada.engines.local.forkers import Starter
from levada.engines.local.home import Home, Record, write_atomically
from levada.engines.scorers import scorer_config
from levada.errors import StoreUnavailable
from levada.planners.plan import Serving, ServingState
from levada.resources import Ref
from levada.resources.conditions import Reason
from levada.steps.io import StepError
from levada.stores.ports import Objects

log = structlog.get_logger()

SILENT_WITHIN = 60.0  # seconds that a scorer may say nothing at all; it may take its time to load its models
LOOK_EVERY = 0.05  # seconds between looks at a scorer that is loading
GRACE = 10.0  # seconds to drain
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a scorer that ended is started again; doubled each time
MOST_STARTS = 3  # times that a scorer may end before it is ready; then it is left to the next run


@dataclass
class _Scorer:
    wanted: Serving
    folder: Path
    port: int
    state: ServingState = field(default_factory=ServingState)
    loading: bool = False
    process: Child | None = None
    task: asyncio.Task[None] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"


class Scorers:
    """Runs a scorer per Deployment; `changed(owner)` is called whenever there is something new to observe,
    `broken(error)` when one ended by an error of the engine's own."""

    def __init__(
        self,
        home: Home,
        stores: Callable[[], Awaitable[tuple[Objects, dict[str, str]]]],
        changed: Callable[[Ref], None],
        broken: Callable[[BaseException], None],
        forker: Starter,
        *,
        keep: bool,
    ) -> None:
        self._folder = home.serving
        self._stores = stores
        self._changed = changed
        self._broken = broken
        self._forker = forker
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
            scorer = self._scorers[ref] = _Scorer(serving, self._folder(ref), self._port(ref))
        before = scorer.task
        if before is not None:
            before.cancel()
        scorer.wanted, scorer.loading = serving, True
        scorer.task = asyncio.create_task(self._serve(ref, scorer, before))
        scorer.task.add_done_callback(self._is_over)

    def _is_over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)

    async def stop(self) -> None:
        """Drain and end all scorers."""
        self._stopped = True
        tasks = [scorer.task for scorer in self._scorers.values() if scorer.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        running = [scorer.process for scorer in self._scorers.values() if scorer.process is not None]
        await asyncio.gather(*(end(process, GRACE) for process in running))
        self._scorers.clear()

    async def _serve(self, ref: Ref, scorer: _Scorer, before: asyncio.Task[None] | None) -> None:
        """Bring a set of versions up, and start a scorer that is to be kept again whenever it ends."""
        if before is not None:
            await asyncio.wait([before])  # it may just be starting the process
        pause, starts = FIRST_PAUSE, 0
        write_atomically(scorer.folder / "scorer.json", scorer_config(scorer.wanted).to_bytes())
        while True:
            try:
                process = await self._process_of(scorer)
            except StoreUnavailable as error:
                self._observed(ref, scorer, ServingState(message=str(error)), loading=True)
            else:
                wanted = frozenset(v.version for v in scorer.wanted.versions)
                state = await _wait(scorer, process, partial(self._waits, ref, scorer))
                starts += 1
                if wanted <= state.ready_versions:
                    self._checked[ref] = _digest(scorer.wanted)
                    pause, starts = FIRST_PAUSE, 0
                if process.returncode is not None and 0 < starts < MOST_STARTS:
                    # Somebody took its port or killed it.
                    self._observed(ref, scorer, state, loading=True)
                    await asyncio.sleep(pause)
                    scorer.port = self._port(ref)
                    continue
                self._observed(ref, scorer, state)
                if not self._keep:
                    return
                # Now and then it is asked again for what it cannot load: it goes on trying.
                within = None if wanted <= state.ready_versions else pause
                with suppress(TimeoutError):
                    code = await asyncio.wait_for(process.wait(), within)
                    message = f"the scorer ended with exit code {code} and is started again; see {scorer.log}"
                    log.warning(message, deployment=str(ref))
                    self._observed(ref, scorer, ServingState(message=message))
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _observed(self, ref: Ref, scorer: _Scorer, state: ServingState, *, loading: bool = False) -> None:
        scorer.state, scorer.loading = state, loading
        self._changed(ref)

    def _waits(self, ref: Ref, scorer: _Scorer, message: str) -> None:
        """Say what a scorer that loads waits for."""
        self._observed(ref, scorer, replace(scorer.state, message=message), loading=True)

    async def _process_of(self, scorer: _Scorer) -> Child:
        """The scorer's process; started if it does not run. Raises StoreUnavailable."""
        if scorer.process is None or scorer.process.returncode is not None:
            _, environment = await self._stores()
            arguments = ["--config", str(scorer.folder / "scorer.json")]
            arguments += ["--host", "127.0.0.1", "--port", str(scorer.port)]
            # What it could not record yet lies there: requests and scores are for nobody else to read.
            scorer.folder.chmod(0o700)
            environment = os.environ | environment | {"LEVADA_SCRATCH": str(scorer.folder)}
            starting = asyncio.ensure_future(self._forker.run("serve", arguments, environment, scorer.log))
            try:
                scorer.process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                scorer.process = await starting  # else nobody would know of it
                raise
        return scorer.process

    def _port(self, ref: Ref) -> int:
        """A free port of the loopback interface; the one of the last time if it is still free."""
        path = self._folder(ref) / "port"
        last = int(path.read_text()) if path.exists() else 0
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", last))
            except OSError:
                probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        write_atomically(path, str(port).encode())
        return port


async def _wait(scorer: _Scorer, process: Child, tell: Callable[[str], None]) -> ServingState:
    """Wait until a scorer has the wanted versions, or says that it cannot load one, or ends. `tell` is called with what
    it waits for itself, whenever that is something else.

    Only what it says itself is the fault of a version: one that ends was killed, or its machine is to blame.
    """
    url = f"http://127.0.0.1:{scorer.port}/v2/models/{scorer.wanted.name}"
    wanted = {v.version: v for v in scorer.wanted.versions}
    clock = asyncio.get_running_loop().time
    heard, told = clock(), ""
    while process.returncode is None:
        status = await asyncio.to_thread(_status, scorer.port)
        ready = frozenset(status.get("ready", ()))
        failed = {int(v): why for v, why in status.get("failed", {}).items() if int(v) in wanted.keys() - ready}
        # While one that has a weight cannot be loaded, none of the others is taken over.
        if wanted.keys() <= ready | failed.keys() or any(wanted[v].weight for v in failed):
            message = _sentence(failed)
            errors = {v: StepError(reason=Reason.NOT_READY, message=why) for v, why in failed.items()}
            return ServingState(ready, url, message, errors)
        waits = _sentence(status.get("waiting", {}))
        if waits and waits != told:
            tell(waits)
            told = waits
        if status:
            heard = clock()
        elif clock() - heard > SILENT_WITHIN:
            return ServingState(message=f"the scorer said nothing for {SILENT_WITHIN:.0f} s; see {scorer.log}")
        await asyncio.sleep(LOOK_EVERY)
    message = f"the scorer ended with exit code {process.returncode} while it started; see {scorer.log}"
    return ServingState(message=message)


def _sentence(problems: Mapping[int, str] | Mapping[str, str]) -> str:
    return "; ".join(f"version {version}: {why}" for version, why in problems.items())


def _digest(serving: Serving) -> str:
    versions = ",".join(str(v.version) for v in serving.versions)
    return f"{names.short_hash(scorer_config(serving).document())}:{versions}"


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
