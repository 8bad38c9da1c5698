"""The home's stores while an engine runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from levada.engines.local.keeper import ServerFailed
from levada.engines.local.servers import LocalServers
from levada.engines.local.stores import Stores

pytestmark = pytest.mark.anyio


async def test_x5_a_server_that_ends_in_the_middle_is_told_of_and_not_waited_for(tmp_path: Path) -> None:
    with LocalServers(tmp_path, durable=False) as servers:
        stores = Stores(servers, tmp_path)
        await stores.catalogue()
        record = (tmp_path / "servers/nats/process.json").read_text()
        pid = json.loads(record)["pid"]
        os.kill(pid, signal.SIGKILL)
        # Until its last thread has ended; the engine collects it.
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)

        for ask in (stores.catalogue, stores.for_steps):
            with pytest.raises(ServerFailed, match=r"^NATS has ended: .*; run again to go on from here$"):
                await ask()
        await stores.close()
    assert (tmp_path / "unpublished").exists() is False


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
