"""Child processes that never outlive the engine: scorers, and steps forked from a process that has their libraries."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
# Loaded here and not in the child: between fork and exec nothing may allocate or import.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if _LINUX else None
# Libraries that the forker loads must not start threads before it forks.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
    "OMP_WAIT_POLICY": "PASSIVE"  # threads of one step that wait do not take the core from another step
}


class Child(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...


def _die_with_parent() -> None:
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def spawn(command: list[str], environment: dict[str, str], log: Path) -> Child:
    """Start a process in a session of its own (Ctrl-C does not reach it) that is killed when the engine dies."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


async def end(child: Child, grace: float) -> None:
    """Ask a process (with its own children) to end, and end it after `grace` seconds."""
    if child.returncode is not None:
        return
    _signal_group(child, signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), grace)
    except TimeoutError:
        _signal_group(child, signal.SIGKILL)
        await child.wait()


def _signal_group(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


@dataclass
class _Forked:
    """A step that the forker started."""

    pid: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    returncode: int | None = None

    async def wait(self) -> int:
        await self.ended.wait()
        assert self.returncode is not None
        return self.returncode


class Forker:
    """Starts steps by forking (see forker.py) on Linux, as ordinary processes elsewhere."""

    def __init__(self, steps: tuple[str, ...], log: Path) -> None:
        self._steps = steps
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._children: dict[str, _Forked] = {}
        self._ids = itertools.count()

    async def start(self) -> None:
        """Start the forker, so that it loads libraries while other things start too. Not needed, and quick."""
        if self._process is not None or not _LINUX:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "levada.engines.local.forker",
                *self._steps,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=os.environ | _ONE_THREAD,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._reader = asyncio.create_task(self._read(self._process))

    async def step(self, step: str, input: Path, environment: dict[str, str], log: Path) -> Child:
        """Start `python -m levada.steps INPUT` for a kind of step."""
        if not _LINUX:
            return await spawn([sys.executable, "-m", "levada.steps", str(input)], environment, log)
        await self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        child, id = _Forked(), str(next(self._ids))
        self._children[id] = child
        request = {"id": id, "step": step, "input": str(input), "environment": environment, "log": str(log)}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        await self._process.stdin.drain()
        await child.started.wait()
        return child

    async def stop(self) -> None:
        """End the forker; its children are to be ended before."""
        if self._process is not None and self._process.stdin is not None and self._reader is not None:
            self._process.stdin.close()
            await self._process.wait()
            await self._reader
            self._process = None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            message = json.loads(line)
            child = self._children[message["id"]]
            if "pid" in message:
                child.pid = message["pid"]
                child.started.set()
            else:
                self._finish(message["id"], message["code"])
        for id in list(self._children):  # the forker was killed, and its children with it
            self._finish(id, -signal.SIGKILL)
        self._process = None

    def _finish(self, id: str, code: int) -> None:
        child = self._children.pop(id)
        child.returncode = code
        child.started.set()
        child.ended.set()
