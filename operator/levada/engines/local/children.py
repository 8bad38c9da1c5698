"""Child processes that never outlive the engine."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Loaded here and not in the child: between fork and exec nothing may allocate or import.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def _die_with_parent() -> None:
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def spawn(
    command: list[str], environment: dict[str, str], log: Path, *, nice: int = 0
) -> asyncio.subprocess.Process:
    """Start a process in a session of its own (Ctrl-C does not reach it) that is killed when the engine dies."""

    def prepare() -> None:
        _die_with_parent()
        if nice:
            os.nice(nice)

    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            preexec_fn=prepare,
        )


async def end(process: asyncio.subprocess.Process, grace: float) -> None:
    """Ask a process (with its own children) to end, and end it after `grace` seconds."""
    if process.returncode is not None:
        return
    _signal_group(process, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), grace)
    except TimeoutError:
        _signal_group(process, signal.SIGKILL)
        await process.wait()


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
