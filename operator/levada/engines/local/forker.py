"""A process that has libraries loaded and forks a child for each step and scorer: it starts in milliseconds.

Loading scikit-learn, pyarrow, DuckDB and onnxruntime takes one to three CPU seconds, more than most steps of a small
pipeline work. The forker loads them once, for the kinds of work that it is told of, while there is nothing to do. It
stays single-threaded, so that forking is safe: libraries start their threads when first used, in the child, and those
that would sooner are told not to.

Protocol, on a socket that is its standard input: a JSON line in with what to load and, if a child is to be started,
with its id and all that it needs; a JSON line out for each that was started or has ended. It ends when its input does.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import sys
import traceback
from typing import Any

from pydantic import BaseModel

from levada.artifacts import Artifact
from levada.settings import Settings

PRELOAD = {
    "ingest": (
        "levada.steps.ingest.batch",
        "levada.methods.formats",
        "levada.stores.objects",
        "levada.stores.postgres",
    ),
    "prepare": (
        "levada.steps.prepare.version",
        "levada.steps.prepare.online",
        "onnxruntime",
        "sqlglot.dialects.duckdb",
    ),
    "train": ("levada.steps.train", "sklearn.ensemble", "sklearn.linear_model", "skl2onnx", "levada.stores.postgres"),
    "evaluate": ("levada.steps.evaluate.measure", "levada.steps.evaluate.model", "levada.steps.evaluate.report"),
    "score": ("levada.steps.score.part", "levada.steps.score.source", "levada.steps.score.output"),
    "serve": ("levada.serving.app", "levada.serving.versions", "levada.stores.nats", "uvloop"),
}
"""The kinds of work, and what is loaded for each: what a step imports by itself only as it comes to need it, too."""

# Libraries must not start threads before a child is forked.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's jemalloc has one from the start
    "ORT_DISABLE_TELEMETRY": "1",  # so has onnxruntime, to report its use to its makers
    "OMP_WAIT_POLICY": "PASSIVE",  # threads of one step that wait do not take the core from another step
}
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


class _Forker:
    def __init__(self) -> None:
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._wanted: list[str] = []  # kinds of work that are to be loaded when there is nothing else to do
        self._loaded: set[str] = set()
        self._children: dict[int, str] = {}
        self._wakeup, wakeup_write = os.pipe()
        os.set_blocking(wakeup_write, False)
        signal.set_wakeup_fd(wakeup_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # an engine has a handler of its own

    def serve(self, parent: int) -> None:
        """Start children until the input ends, and not longer than the parent lives."""
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before its death was asked for
            return
        unread = b""
        while True:
            readable, _, _ = select.select([0, self._wakeup], [], [], 0 if self._wanted else None)
            if self._wakeup in readable:
                os.read(self._wakeup, 4096)
            self._reap()
            if 0 in readable:
                data = os.read(0, 1 << 16)
                if not data:
                    return
                *lines, unread = (unread + data).split(b"\n")
                for request in map(json.loads, lines):
                    if "id" in request:
                        self._start(request)
                    else:
                        self._wanted += request["load"]
            elif self._wanted:
                self._load(self._wanted.pop(0))

    def _load(self, kind: str) -> None:
        if kind not in self._loaded:
            self._loaded.add(kind)
            for module in PRELOAD[kind]:
                # What cannot be loaded fails in the child, where its own error handling tells of it.
                with contextlib.suppress(Exception):
                    importlib.import_module(module)
            # pydantic makes what reads and writes a document when it is first needed, which is in each child.
            documents: list[type[BaseModel]] = [Settings, *Artifact.__subclasses__()]
            for document in documents:
                document.model_rebuild()

    def _start(self, request: dict[str, Any]) -> None:
        for kind in request["load"]:
            self._load(kind)
        forker = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(request, forker)
        with contextlib.suppress(OSError):  # here as in the child: whoever gets the pid may signal its group at once
            os.setpgid(pid, pid)
        self._children[pid] = request["id"]
        _say({"id": request["id"], "pid": pid})

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                _say({"id": self._children.pop(pid), "code": os.waitstatus_to_exitcode(status)})

    def _become(self, request: dict[str, Any], forker: int) -> None:
        """Be `python -m module arguments…`."""
        code = 1
        try:
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != forker:  # it died before its death was asked for
                return
            self._prctl(_PR_SET_NAME, f"levada {request['load'][0]}".encode())
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for ours in (signal.SIGCHLD, signal.SIGINT):
                signal.signal(ours, signal.SIG_DFL)
            log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            null = os.open(os.devnull, os.O_RDONLY)
            for number, descriptor in ((0, null), (1, log), (2, log)):
                os.dup2(descriptor, number)
            os.environ.clear()
            os.environ.update(request["environment"])
            sys.argv[:] = [request["module"], *request["arguments"]]
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _say(message: dict[str, Any]) -> None:
    os.write(0, json.dumps(message).encode() + b"\n")


def main(parent: int) -> None:
    """Be a forker for as long as the process `parent`, which started this one, wants it."""
    os.environ.update(ONE_THREAD)
    _Forker().serve(parent)


if __name__ == "__main__":
    main(int(sys.argv[1]))
