"""One run of the local engine from start to end: servers, stores, engine, display, reports."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import structlog

from levada.engines.local.access import open_servers
from levada.engines.local.display import Display, rows_of
from levada.engines.local.engine import LocalEngine
from levada.engines.local.forkers import Forker, forkers
from levada.engines.local.home import Home, write_atomically
from levada.engines.local.servers import LocalServers
from levada.engines.local.stores import Stores
from levada.errors import StoreUnavailable
from levada.resources import AnyResource, ModelCandidate, Ref

log = structlog.get_logger()

SHOW_EVERY = 0.125  # seconds

Settled = Callable[[LocalEngine, Stores], Awaitable[bool]]
"""Awaited whenever nothing is left to do for now, while everything is up; whether to go on."""


def run_session(
    root: Path, resources: Iterable[AnyResource], display: Display, *, serve: bool, settled: Settled | None = None
) -> dict[Ref, AnyResource]:
    """Apply manifests to a home and carry them out, shown on `display`; the home's resources as they stand at the end.

    It ends when nothing is left to do, unless `settled` says to go on. Raises Unchangeable where a manifest changes
    what may not change (nothing is taken over then), HomeInUse where another engine has the home, KeyboardInterrupt on
    Ctrl-C and SIGTERM.
    """
    starters = forkers(root / "forker.log")
    try:
        # Before the display, the servers or anything else starts a thread, or opens what is the engine's alone.
        for forker in set(starters.values()):
            forker.fork_now()
        with display, open_servers(root) as servers:
            return asyncio.run(_run(Home(root), servers, starters, resources, display, serve, settled))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None  # SIGTERM: asyncio knows of Ctrl-C only
    finally:
        for forker in set(starters.values()):
            forker.kill()


async def _run(
    home: Home,
    servers: LocalServers,
    starters: Mapping[str, Forker],
    resources: Iterable[AnyResource],
    display: Display,
    serve: bool,
    settled: Settled | None,
) -> dict[Ref, AnyResource]:
    stores = Stores(servers, home.root)
    engine = LocalEngine(home, stores, starters, serve=serve)
    engine.apply(resources)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    async def when_settled() -> bool:
        try:
            await export_reports(home, engine, stores)
        except StoreUnavailable as error:
            log.warning("evaluation reports are copied the next time", error=str(error))
        display.show(rows_of(engine))
        return settled is not None and await settled(engine, stores)

    showing = asyncio.create_task(_show(engine, display))
    try:
        await stores.finish_interrupted()
        await engine.run(when_settled)
    finally:
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing
        await stores.close()
    return {ref: record.resource for ref, record in engine.records.items()}


async def _show(engine: LocalEngine, display: Display) -> None:
    while True:
        display.show(rows_of(engine))
        await asyncio.sleep(SHOW_EVERY)


def report_path(home: Home, candidate: ModelCandidate) -> Path | None:
    """Where the evaluation report of a candidate can be opened; None if it has none yet."""
    evaluation = candidate.status.evaluation
    return home.reports(candidate.ref) / f"{evaluation.id}.html" if evaluation else None


async def export_reports(home: Home, engine: LocalEngine, stores: Stores) -> None:
    """Copy the evaluation reports that are new to the home, where a browser can open them, and the same as JSON."""
    for record in engine.records.values():
        if isinstance(record.resource, ModelCandidate):
            path = report_path(home, record.resource)
            if path is None or path.exists():
                continue
            evaluation = record.resource.status.evaluation
            assert evaluation is not None
            objects, _ = await stores.for_steps()
            page = objects.key(evaluation.report)
            for key, copy in ((page.removesuffix(".html") + ".json", path.with_suffix(".json")), (page, path)):
                write_atomically(copy, await asyncio.to_thread(objects.get, key))
