"""The forker: real processes, one of which forks the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from levada.engines.local.children import Child, end
from levada.engines.local.forker import PRELOAD
from levada.engines.local.forkers import Forker
from tests.contract.local.conftest import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not Path("/proc").exists(), reason="forkers are for Linux")]


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """An input that a step waits for: a pipe into which nobody writes."""
    path = tmp_path / "input"
    os.mkfifo(path)
    return path


async def step(forker: Forker, input: Path, kind: str = "score") -> Child:
    environment = {**os.environ, "LEVADA_TERMINATION_LOG": str(input.parent / "termination.json")}
    return await forker.run(kind, [str(input)], environment, input.parent / "log.txt")


def children_of(pid: int) -> list[int]:
    return [int(p) for task in Path(f"/proc/{pid}/task").glob("*/children") for p in task.read_text().split()]


async def forked(pid: int) -> int:
    """The step that a forker has started, once it leads a group of its own."""
    return await eventually(lambda: next((p for p in children_of(pid) if os.getpgid(p) == p), 0))


def loaded_by(pid: int) -> str:
    """The libraries that a process has in memory."""
    return Path(f"/proc/{pid}/maps").read_text()


async def forker_pid() -> int:
    def look() -> int:
        own = children_of(os.getpid())
        return next((p for p in own if b"levada.engines.local.forker" in Path(f"/proc/{p}/cmdline").read_bytes()), 0)

    return await eventually(look)


async def test_x5_the_exit_code_of_a_step_comes_back_and_its_words_are_in_the_log(
    forker: Forker, tmp_path: Path
) -> None:
    (tmp_path / "input").write_text(json.dumps({"no": "step input"}))

    child = await step(forker, tmp_path / "input")

    assert await child.wait() == 1
    assert "ValidationError" in (tmp_path / "log.txt").read_text()


async def test_x5_a_step_that_was_killed_is_known_by_its_signal(forker: Forker, blocked: Path) -> None:
    child = await step(forker, blocked)
    os.kill(await forked(await forker_pid()), signal.SIGKILL)

    assert await child.wait() == -signal.SIGKILL


async def test_x5_a_step_can_be_ended_from_the_moment_it_was_asked_for(forker: Forker, blocked: Path) -> None:
    child = await step(forker, blocked)

    await end(child, grace=60)

    assert child.returncode == -signal.SIGTERM


async def test_x5_a_killed_forker_takes_its_steps_along_and_is_replaced(forker: Forker, blocked: Path) -> None:
    first = await step(forker, blocked)
    pid = await forker_pid()
    started = await forked(pid)
    os.kill(pid, signal.SIGKILL)

    assert await first.wait() == -signal.SIGKILL
    await eventually(lambda: not Path(f"/proc/{started}").exists() or is_zombie(started))

    second = await step(forker, blocked)
    assert await forked(await forker_pid()) != started
    await end(second, grace=60)
    assert second.returncode == -signal.SIGTERM


async def test_x8_a_forker_that_has_the_libraries_of_all_work_has_one_thread(forker: Forker, tmp_path: Path) -> None:
    # Another thread might hold a lock while a step is forked, and in the step there is nobody to open it.
    (tmp_path / "input").write_text(json.dumps({"no": "step input"}))
    for kind in PRELOAD:  # each is loaded before its process is forked
        assert await (await step(forker, tmp_path / "input", kind)).wait() in (1, 2)
    pid = await forker_pid()
    threads, loaded = os.listdir(f"/proc/{pid}/task"), loaded_by(pid)

    assert all(library in loaded for library in ("sklearn", "pyarrow", "duckdb", "onnxruntime"))
    assert threads == [str(pid)]


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


ENGINE = """
import asyncio, os, sys
from pathlib import Path
import levada.engines.local.session
from levada.engines.local.forker import PRELOAD
from levada.engines.local.forkers import Forker

async def run(forker, pid):
    child = await forker.run("score", [sys.argv[1]], dict(os.environ), Path(sys.argv[1]).parent / "log.txt")
    code = await child.wait()
    group = os.getpgid(pid)  # it has begun by now
    await forker.stop()
    return group, code

forker, spare = Forker(Path("forker.log")), Forker(Path("forker.log"))
spare.fork_now()
forker.fork_now()
pid, _ = forker._born
spare.kill()
print(pid, *asyncio.run(run(forker, pid)))
os.waitpid(-1, 0)
"""


def test_x8_a_forker_that_was_forked_from_the_engine_before_its_threads_starts_steps(tmp_path: Path) -> None:
    (tmp_path / "input").write_text(json.dumps({"no": "step input"}))
    engine = subprocess.run(
        [sys.executable, "-c", ENGINE, "input"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    pid, group, code = engine.stdout.split()
    assert group == pid  # Ctrl-C does not reach it
    assert code == "1"
    assert "ValidationError" in (tmp_path / "log.txt").read_text()
    assert "ChildProcessError" in engine.stderr  # none is left, not even to be collected


def test_x8_with_threads_a_forker_is_a_process_of_its_own(tmp_path: Path) -> None:
    forker = Forker(tmp_path / "forker.log")
    before = children_of(os.getpid())
    ending = threading.Event()
    thread = threading.Thread(target=ending.wait)
    thread.start()
    try:
        forker.fork_now()
        assert set(children_of(os.getpid())) <= set(before)
    finally:
        ending.set()
        thread.join()
