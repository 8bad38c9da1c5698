"""Child processes that never outlive the engine."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
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
            signal_group(self.process.pid, number)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process group; nothing if it has ended."""
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
