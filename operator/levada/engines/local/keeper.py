"""Server processes that never outlive the engine, and are recognised when a killed one left them behind.

A process is known by its id, its start time and its name together, since ids are used again. On Linux the kernel ends
a server when the engine is gone (PR_SET_PDEATHSIG, set by util-linux's setpriv, so that no Python runs between fork
and exec); elsewhere, or where a server takes long to end, the record on disk finds it.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from levada.errors import LevadaError

STOP_SECONDS = 60.0
"""How long a server may take to end in good order before it is killed: long, for a checkpoint on a busy disk."""

NOBODY = "nobody"
"""The user as whom a server runs that refuses to run as root."""

_CLOCK_STEP = 2.0  # psutil derives start times from the boot time, which moves when the clock is set


class ServerFailed(LevadaError):
    """A server could not be started; the message says which, why, and where its log is."""


class Keeper:
    """Starts processes from one thread that lives as long as this object.

    The kernel ties PR_SET_PDEATHSIG to the thread that forked: started by a pool's thread, a server would end with it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="levada-keeper")

    def spawn(
        self,
        command: Sequence[str | Path],
        *,
        record: Path,
        log: Path,
        environment: Mapping[str, str],
        cwd: Path,
        stop_signal: signal.Signals,
        unprivileged: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own (Ctrl-C is the engine's to handle), its output in `log`.

        `record` receives what `end_leftover` needs. `stop_signal` is what the process gets when the engine is gone.
        With `unprivileged`, a process of root runs as NOBODY.
        """
        options = [f"--pdeathsig={stop_signal.name.removeprefix('SIG')}"] if _has_death_signal() else []
        full = _wrap(command, options + (_drop_root() if unprivileged and must_drop_root() else []))

        def start() -> subprocess.Popen[bytes]:
            with log.open("wb") as output:
                return subprocess.Popen(
                    full,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    cwd=cwd,
                    start_new_session=True,
                )

        process = self._thread.submit(start).result()
        started = psutil.Process(process.pid).create_time()
        record.write_text(json.dumps({"pid": process.pid, "started": started, "name": Path(command[0]).name}))
        return process

    def close(self) -> None:
        """End the thread; what it started and still runs gets its stop signal from the kernel."""
        self._thread.shutdown()


def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    """End a child in good order, or by force after STOP_SECONDS."""
    process.send_signal(stop_signal)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_leftover(record: Path, stop_signal: signal.Signals) -> bool:
    """End the process that an earlier engine recorded and left running; whether there was one.

    A process that merely has the same id by now is left alone.
    """
    try:
        known = json.loads(record.read_text())
        process = psutil.Process(known["pid"])
        same = abs(process.create_time() - known["started"]) < _CLOCK_STEP and process.name() == known["name"]
        if not same or _has_ended(process):
            return False
        process.send_signal(stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while not _has_ended(process) and time.monotonic() < deadline:
            time.sleep(0.01)
        if not _has_ended(process):
            process.kill()
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return False  # never recorded, or gone at the latest now
    return True


def _has_ended(process: psutil.Process) -> bool:
    """Also when nobody has collected its exit status yet, as in containers whose first process does not.

    The first thread of a killed process is a zombie while others still hold its ports and locks.
    """
    try:
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return not process.is_running() or (zombie and process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True


def must_drop_root() -> bool:
    """Whether this is root, as which some servers refuse to run."""
    return os.geteuid() == 0


def unprivileged_command(command: Sequence[str | Path]) -> list[str]:
    """The command such that it does not run as root."""
    return _wrap(command, _drop_root() if must_drop_root() else [])


def _drop_root() -> list[str]:
    # The capability lets it into folders that only root may enter, such as a home below /root.
    group = pwd.getpwnam(NOBODY).pw_gid
    capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [f"--reuid={NOBODY}", f"--regid={group}", "--clear-groups", *capability]


def _wrap(command: Sequence[str | Path], options: list[str]) -> list[str]:
    if not options:
        return [*map(str, command)]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        name = Path(command[0]).name
        raise ServerFailed(
            f"{name} refuses to run as root, and setpriv (util-linux) is not there to help: run as a user"
        )
    return [setpriv, *options, "--", *map(str, command)]


def _has_death_signal() -> bool:
    return sys.platform == "linux" and shutil.which("setpriv") is not None
