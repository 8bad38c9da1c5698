"""The engine's side of forkers (see forker.py): it asks them for steps and scorers, and replaces one that dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from levada.engines.local import forker
from levada.engines.local.children import Child, signal_group, spawn

_LINUX = sys.platform == "linux"
# One for data and one for models: the first steps must not wait for scikit-learn to be loaded.
_GROUPS = (("ingest", "prepare", "score", "serve"), ("train", "evaluate"))


class Starter(Protocol):
    """Starts the processes of steps and scorers."""

    async def start(self, kinds: Iterable[str]) -> None:
        """Get ready for kinds of work, so that the first process starts quickly. Not needed, and quick."""

    async def run(self, kind: str, arguments: list[str], environment: dict[str, str], log: Path) -> Child:
        """Start `python -m` the module of a kind of work (`ingest`, …, `serve`); its words are added to `log`."""


class Forker:
    """Starts processes by forking them on Linux, as ordinary ones elsewhere."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._starting = asyncio.Lock()
        self._born: tuple[int, socket.socket] | None = None  # forked, and not yet in use
        self._process: _Process | None = None

    def fork_now(self) -> None:
        """Fork the forker from this process, which saves it the start of Python and the modules that both need.

        Nothing happens where that is not safe, because there are threads: it is an ordinary process then.
        """
        if not _LINUX or len(os.listdir("/proc/self/task")) > 1:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        engine, (ours, theirs) = os.getpid(), socket.socketpair()
        pid = os.fork()
        if pid == 0:
            _become_forker(engine, theirs, self._log)
        theirs.close()
        self._born = pid, ours

    async def start(self, kinds: Iterable[str]) -> None:
        """See Starter: it loads libraries while other things start too."""
        if _LINUX:
            (await self._started()).send(load=sorted(kinds))

    async def run(self, kind: str, arguments: list[str], environment: dict[str, str], log: Path) -> Child:
        """See Starter."""
        module = "levada.serving" if kind == "serve" else "levada.steps"
        if not _LINUX:
            return await spawn([sys.executable, "-m", module, *arguments], environment, log)
        process = await self._started()
        return process.fork(load=[kind], module=module, arguments=arguments, environment=environment, log=str(log))

    async def stop(self) -> None:
        """End the forker, and whatever it started that has not ended."""
        if self._process is not None:
            await self._process.stop()
            self._process = None
        self.kill()

    def kill(self) -> None:
        """End a forker that was forked and never used."""
        if self._born is not None:
            pid, connection = self._born
            connection.close()
            _end(pid)
            self._born = None

    async def _started(self) -> _Process:
        async with self._starting:
            if self._process is not None and self._process.ended:
                await self._process.stop()
                self._process = None
            if self._process is None:
                pid, connection = self._born or _spawn_forker(self._log)
                self._born = None
                self._process = _Process(pid, *await asyncio.open_connection(sock=connection))
            return self._process


def forkers(log: Path) -> dict[str, Forker]:
    """The forkers of an engine, by the kind of work that each is for."""
    return {kind: forker for kinds in _GROUPS for forker in [Forker(log)] for kind in kinds}


class _Process:
    """One life of a forker, and the children that it has."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pid = pid
        self._writer = writer
        self._children: dict[str, _Forked] = {}
        self._ids = itertools.count()
        self._reading = asyncio.create_task(self._read(reader))

    @property
    def ended(self) -> bool:
        return self._reading.done()

    def send(self, **request: object) -> None:
        if not self.ended:
            self._writer.write(json.dumps(request).encode() + b"\n")

    def fork(self, **request: object) -> Child:
        """Ask for a child; one of a forker that has ended was killed with it."""
        child = _Forked()
        if self.ended:
            child.ended(-signal.SIGKILL)
            return child
        id = str(next(self._ids))
        self._children[id] = child
        self.send(id=id, **request)
        return child

    async def stop(self) -> None:
        """End it, with any children that it still has."""
        _end(self._pid)
        await self._reading
        self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):  # it ended without having read all that it was sent
            async for line in reader:
                message = json.loads(line)
                if "pid" in message:
                    self._children[message["id"]].started(message["pid"])
                else:
                    self._children.pop(message["id"]).ended(message["code"])
        for child in self._children.values():  # the forker was killed, and its children with it
            child.ended(-signal.SIGKILL)


class _Forked:
    """A process that a forker was asked to start."""

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
            signal_group(self._pid, number)

    def started(self, pid: int) -> None:
        self._pid = pid
        if self._asked is not None:
            self.signal(self._asked)

    def ended(self, code: int) -> None:
        self.returncode = code
        self._ended.set()


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _become_forker(engine: int, connection: socket.socket, log: Path) -> None:
    try:
        os.setsid()  # Ctrl-C does not reach it
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for number, descriptor in ((0, connection.fileno()), (1, output), (2, output)):
            os.dup2(descriptor, number)
        forker.main(engine)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _spawn_forker(log: Path) -> tuple[int, socket.socket]:
    """A forker that starts from nothing: its process, and the connection to it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    ours, theirs = socket.socketpair()
    with theirs:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "levada.engines.local.forker", str(os.getpid())],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    return pid, ours
