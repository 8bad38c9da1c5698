"""The home's stores while an engine runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from levada.engines.local.access import catalogue_of
from levada.engines.local.keeper import ServerFailed
from levada.engines.local.servers import LocalServers
from levada.engines.local.stores import Stores
from levada.events import EventType
from tests.contract.local.conftest import eventually
from tests.contract.stores.samples import DIGEST, URI, batch, event

pytestmark = pytest.mark.anyio


async def kill(home: Path, server: str) -> None:
    """Kill a server as the machine would when memory runs out."""
    pid = json.loads((home / "servers" / server / "process.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    # Until its last thread has ended; the engine collects it.
    await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("server", ["postgres", "nats", "objects"])
async def test_x5_a_server_that_ends_in_the_middle_is_started_anew_and_nothing_is_lost(
    tmp_path: Path, server: str
) -> None:
    with LocalServers(tmp_path, durable=False) as servers:
        stores = Stores(servers, tmp_path)
        catalogue, (objects, environment) = await stores.catalogue(), await stores.for_steps()
        objects.put("kept", b"42")
        catalogue.commit_batch(batch(), URI, DIGEST, event(EventType.RAW_DATA_EXTRACTED, 1))
        await kill(tmp_path, server)

        again, (_, same) = await stores.catalogue(), await stores.for_steps()

        assert (again, same) == (catalogue, environment)
        assert objects.get("kept") == b"42"
        catalogue.commit_batch(batch("batch-2"), URI, DIGEST, event(EventType.RAW_DATA_EXTRACTED, 2))
        assert all(catalogue.lineage(id) for id in ("batch-1", "batch-2"))
        await stores.close()
    assert not (tmp_path / "unpublished").exists()


async def test_x5_a_server_that_nothing_asks_for_is_started_anew_as_well(tmp_path: Path) -> None:
    with LocalServers(tmp_path, durable=False) as servers:
        stores = Stores(servers, tmp_path)
        await stores.catalogue()
        port = int(servers.nats().url.rpartition(":")[2])
        watching = asyncio.create_task(stores.watch())
        await kill(tmp_path, "nats")

        await eventually(lambda: listens(port))
        watching.cancel()
        await stores.close()


async def test_x8_an_engine_that_needs_no_server_starts_them_for_another_process(tmp_path: Path) -> None:
    (tmp_path / "resources").mkdir()

    def audit() -> list[dict[str, Any]]:
        with catalogue_of(tmp_path) as catalogue:
            return catalogue.audit(None, 10)

    with LocalServers(tmp_path, durable=False) as servers:
        stores = Stores(servers, tmp_path)
        watching = asyncio.create_task(stores.watch())

        assert await asyncio.to_thread(audit) == []
        assert not servers.asked
        watching.cancel()
        await stores.close()


def test_x8_an_engine_that_does_not_answer_is_not_waited_for_forever(tmp_path: Path) -> None:
    with LocalServers(tmp_path, durable=False) as servers:
        assert LocalServers.ask(tmp_path, patience=0.2) is None
        assert servers.asked
    assert LocalServers.ask(tmp_path) is None


async def test_x5_a_server_that_ends_again_at_once_is_told_of_and_not_waited_for(tmp_path: Path) -> None:
    with LocalServers(tmp_path, durable=False) as servers:
        stores = Stores(servers, tmp_path)
        for _ in range(2):
            await stores.catalogue()
            await kill(tmp_path, "nats")

        for ask in (stores.catalogue, stores.for_steps, stores.watch):
            with pytest.raises(ServerFailed, match=r"^NATS has ended twice within a minute: .*; run again to go on"):
                await ask()
        await stores.close()
    assert (tmp_path / "unpublished").exists() is False


async def test_x5_a_server_whose_port_was_taken_meanwhile_is_told_of(tmp_path: Path) -> None:
    with LocalServers(tmp_path, durable=False) as servers:
        stores = Stores(servers, tmp_path)
        await stores.catalogue()
        port = int(servers.nats().url.rpartition(":")[2])
        await kill(tmp_path, "nats")
        with socket.create_server(("127.0.0.1", port)):
            with pytest.raises(ServerFailed, match=f"^NATS has ended, and its port {port} is taken: run again"):
                await stores.catalogue()
            with pytest.raises(ServerFailed, match=r"^NATS has ended twice"):
                await stores.for_steps()
            await stores.close()


async def test_x1_what_was_left_in_the_outbox_is_known_until_it_is_published(tmp_path: Path) -> None:
    with LocalServers(tmp_path, durable=False) as servers:
        stores = Stores(servers, tmp_path)
        assert not (tmp_path / "unpublished").exists()

        await stores.finish_interrupted()
        assert not (tmp_path / "servers/postgres").exists()  # nothing was left, so nothing is started

        await stores.for_steps()
        assert (tmp_path / "unpublished").exists()
        await stores.close()
        assert not (tmp_path / "unpublished").exists()
