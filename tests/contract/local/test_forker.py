"""The forker: real processes, one of which forks the others."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from levada.engines.local.children import Child, Forker, end
from tests.contract.local.conftest import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not Path("/proc").exists(), reason="forkers are for Linux")]


STEPS = ("ingest", "prepare", "train", "evaluate", "score")


@pytest.fixture
async def forker(tmp_path: Path) -> AsyncIterator[Forker]:
    forker = Forker(("score",), tmp_path / "forker.log")
    yield forker
    await forker.stop()


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """An input that a step waits for: a pipe into which nobody writes."""
    path = tmp_path / "input"
    os.mkfifo(path)
    return path


async def step(forker: Forker, input: Path, kind: str = "score") -> Child:
    environment = {**os.environ, "LEVADA_TERMINATION_LOG": str(input.parent / "termination.json")}
    return await forker.step(kind, input, environment, input.parent / "log.txt")


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


async def test_x8_a_forker_that_has_the_libraries_of_all_steps_has_one_thread(tmp_path: Path) -> None:
    # Another thread might hold a lock while a step is forked, and in the step there is nobody to open it.
    (tmp_path / "input").write_text(json.dumps({"no": "step input"}))
    forker = Forker(STEPS, tmp_path / "forker.log")
    try:
        for kind in STEPS:  # each is loaded before its step is forked
            await (await step(forker, tmp_path / "input", kind)).wait()
        pid = await forker_pid()
        threads, loaded = os.listdir(f"/proc/{pid}/task"), loaded_by(pid)
    finally:
        await forker.stop()

    assert all(library in loaded for library in ("sklearn", "pyarrow", "duckdb", "onnxruntime"))
    assert threads == [str(pid)]


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
