"""A server as a process of the engine's: started, known to answer, started anew where it ended by itself, and ended."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import structlog

from levada.engines.local.keeper import Keeper, ServerFailed, end_leftover, stop

log = structlog.get_logger()

START_SECONDS = 60.0
"""How long a server may take until it answers: long, for crash recovery and busy machines."""

RETRY_SECONDS = 10.0
"""How long a server is started again that ends at once: its port may have been taken in the moment after it was chosen,
or what a killed Postgres left may still be ending."""

REVIVE_SECONDS = 60.0
"""One that ends again so soon after it was started anew would go on to do so."""


class Server(ABC):
    """A server with its own folder: `data/`, `log`, and `process.json`, which tells who it is."""

    NAME: ClassVar[str]
    STOP: ClassVar[signal.Signals] = signal.SIGTERM
    UNPRIVILEGED: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        self._record = folder / "process.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._revived = -math.inf
        self.port = 0

    def start(self, keeper: Keeper) -> None:
        """Start it and wait until it answers; raises ServerFailed. What a killed engine left running is ended first."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        end_leftover(self._record, self.STOP)
        deadline = time.monotonic() + RETRY_SECONDS
        self._prepare()
        while not self._attempt(keeper):
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.NAME} ended while it started: {self._last_words()}")
            time.sleep(0.2)
            self._prepare()

    def _attempt(self, keeper: Keeper) -> bool:
        """Start it once; whether it came up. False: it ended by itself."""
        process = self._process = keeper.spawn(
            self._command(),
            record=self._record,
            log=self._log,
            environment=self._environment(),
            cwd=self._folder,
            stop_signal=self.STOP,
            unprivileged=self.UNPRIVILEGED,
        )
        deadline = time.monotonic() + START_SECONDS
        try:
            while not self._ready(process.pid):
                if process.poll() is not None:
                    return False
                if time.monotonic() > deadline:
                    raise ServerFailed(f"{self.NAME} did not answer for {START_SECONDS:.0f} s: {self._last_words()}")
                time.sleep(0.01)
        except BaseException:
            self.stop()
            raise
        return True

    def revive(self, keeper: Keeper) -> None:
        """Start it anew if it has ended by itself: at its address, so that its users find it again.

        Raises ServerFailed where that does not help.
        """
        if self._process is None or self._process.poll() is None:
            return
        said, port, now = self._last_words(), self.port, time.monotonic()
        if now - self._revived < REVIVE_SECONDS:
            raise ServerFailed(f"{self.NAME} has ended twice within a minute: {said}; run again to go on from here")
        log.warning(f"{self.NAME} has ended and is started anew", said=said)
        self._revived, ended = now, self._process
        try:
            self.start(keeper)
            if self.port != port:
                self.stop()
                raise ServerFailed(f"{self.NAME} has ended, and its port {port} is taken: run again to go on from here")
        except ServerFailed:
            self._process = ended  # whoever asks next is told as well
            raise

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            stop(self._process, self.STOP)
            self._process = None
            self._record.unlink(missing_ok=True)

    @abstractmethod
    def _prepare(self) -> None:
        """Lay down data folder and configuration, and choose ports."""

    @abstractmethod
    def _command(self) -> list[str | Path]: ...

    @abstractmethod
    def _ready(self, pid: int) -> bool:
        """Whether it answers now; looks once, without waiting."""

    def _last_port(self) -> int:
        """Where it was reached before, so that it is found again; 0 if it is new, or another has that port now."""
        return self.port if self.port and is_free(self.port) else 0

    def _environment(self) -> dict[str, str]:
        """Little of ours: variables of the user's shell must not configure the servers."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._folder), "LANG": "C.UTF-8", "TZ": "UTC"}

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return f"{last} (log: {self._log})"


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
