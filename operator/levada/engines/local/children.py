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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
# Loaded here and not in the child: between fork and exec nothing may allocate or import.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if _LINUX else None
# Libraries that the forker loads must not start threads before it forks.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's jemalloc has one from the start
    "ORT_DISABLE_TELEMETRY": "1",  # so has onnxruntime, to report its use to its makers
    "OMP_WAIT_POLICY": "PASSIVE",  # threads of one step that wait do not take the core from another step
}


class Child(Protocol):
    """A process that was started, with whatever processes it started itself."""

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its own children; nothing if it has ended."""


@dataclass(frozen=True)
class _Spawned:
    """A child that leads a process group of its own."""

    process: asyncio.subprocess.Process

    @property
    def returncode(self) -> int | None:
        return self.process.returncode

    async def wait(self) -> int:
        return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            _signal_group(self.process.pid, number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _die_with(parent: int) -> None:
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before it was asked for
            os._exit(1)


async def spawn(command: list[str], environment: dict[str, str], log: Path) -> Child:
    """Start a process in a session of its own (Ctrl-C does not reach it) that is killed when the engine dies."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            preexec_fn=partial(_die_with, os.getpid()),
        )
    return _Spawned(process)


async def end(child: Child, grace: float) -> None:
    """Ask a process (with its own children) to end, and end it after `grace` seconds."""
    if child.returncode is not None:
        return
    child.signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), grace)
    except TimeoutError:
        child.signal(signal.SIGKILL)
        await child.wait()


class _Forked:
    """A step that a forker was asked to start."""

    def __init__(self) -> None:
        self.returncode: int | None = None
        self._pid: int | None = None
        self._asked: signal.Signals | None = None  # before there was a process to send it to
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def signal(self, number: signal.Signals) -> None:
        self._asked = number
        if self._pid is not None and self.returncode is None:
            _signal_group(self._pid, number)

    def started(self, pid: int) -> None:
        self._pid = pid
        if self._asked is not None:
            self.signal(self._asked)

    def ended(self, code: int) -> None:
        self.returncode = code
        self._ended.set()


class _ForkerProcess:
    """One life of a forker, and the children that it has."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._children: dict[str, _Forked] = {}
        self._ids = itertools.count()
        self._reader = asyncio.create_task(self._read())

    @property
    def ended(self) -> bool:
        return self._reader.done()

    def fork(self, **request: object) -> Child:
        """Ask for a child; one of a forker that has ended was killed with it."""
        child = _Forked()
        if self.ended:
            child.ended(-signal.SIGKILL)
            return child
        assert self._process.stdin is not None
        id = str(next(self._ids))
        self._children[id] = child
        self._process.stdin.write(json.dumps({"id": id, **request}).encode() + b"\n")
        return child

    async def stop(self) -> None:
        """End it, with any children that it still has."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if "pid" in message:
                self._children[message["id"]].started(message["pid"])
            else:
                self._children.pop(message["id"]).ended(message["code"])
        for child in self._children.values():  # the forker was killed, and its children with it
            child.ended(-signal.SIGKILL)


class Starter(Protocol):
    """Starts the processes of steps."""

    async def start(self) -> None:
        """Get ready, so that the first step starts quickly. Not needed, and quick."""

    async def step(self, step: str, input: Path, environment: dict[str, str], log: Path) -> Child:
        """Start `python -m levada.steps INPUT` for a kind of step."""

    async def stop(self) -> None:
        """End whatever starts steps; they are to be ended before."""


class Forker:
    """Starts steps by forking (see forker.py) on Linux, as ordinary processes elsewhere; one that dies is replaced."""

    def __init__(self, steps: tuple[str, ...], log: Path) -> None:
        self._steps = steps
        self._log = log
        self._starting = asyncio.Lock()
        self._process: _ForkerProcess | None = None

    async def start(self) -> None:
        """Start the forker, so that it loads libraries while other things start too."""
        if _LINUX:
            await self._started()

    async def step(self, step: str, input: Path, environment: dict[str, str], log: Path) -> Child:
        """See Starter."""
        if not _LINUX:
            return await spawn([sys.executable, "-m", "levada.steps", str(input)], environment, log)
        forker = await self._started()
        return forker.fork(step=step, input=str(input), environment=environment, log=str(log))

    async def stop(self) -> None:
        """End the forker."""
        if self._process is not None:
            await self._process.stop()
            self._process = None

    async def _started(self) -> _ForkerProcess:
        async with self._starting:
            if self._process is None or self._process.ended:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                with self._log.open("ab") as errors:
                    process = await asyncio.create_subprocess_exec(
                        sys.executable,
                        "-m",
                        "levada.engines.local.forker",
                        *self._steps,
                        stdin=asyncio.subprocess.PIPE,
                        stdout=asyncio.subprocess.PIPE,
                        stderr=errors,
                        env=os.environ | _ONE_THREAD,
                        start_new_session=True,
                        preexec_fn=partial(_die_with, os.getpid()),
                    )
                self._process = _ForkerProcess(process)
            return self._process
