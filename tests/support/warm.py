"""`levada` as a user calls it, but forked from a process that has all that it imports, over servers that run already.

Starting Python, importing libraries and starting servers takes most of the time of a small pipeline. Tests that run
it hundreds of times do that once. The engine, its steps and its scorers are processes as always.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Self

from levada.engines.local.servers import Endpoints, LocalServers
from tests.e2e.pipelines import TIMEOUT, Outcome

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["tests.support.preloaded"])


class LentServers(LocalServers):
    """The servers of a home that somebody else has started, and will end."""

    def __init__(self, home: Path, endpoints: Endpoints) -> None:
        super().__init__(home)
        self._endpoints = endpoints

    def __enter__(self) -> Self:
        return self

    def start_all(self) -> Endpoints:
        return self._endpoints


def warm_levada(*arguments: str, cwd: Path, endpoints: Endpoints, environment: dict[str, str] | None = None) -> Outcome:
    """Run the command line in a folder, over the given servers."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _forking.Process(target=_levada, args=(arguments, cwd, endpoints, environment or {}, out, err))
        process.start()
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"levada {' '.join(arguments)} takes longer than {TIMEOUT} s: {err.read_text()}")
        return Outcome(process.exitcode, out.read_text(), err.read_text())


def _levada(
    arguments: tuple[str, ...], cwd: Path, endpoints: Endpoints, environment: dict[str, str], out: Path, err: Path
) -> None:
    from levada import cli
    from levada.engines.local import access, session

    os.chdir(cwd)
    os.environ |= environment
    for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
    for module in (access, session):
        module.__dict__["open_servers"] = lambda root: LentServers(root, endpoints)
    cli.app(arguments, prog_name="levada")
