"""A process that has the steps' libraries loaded and forks a child for each step: it starts in milliseconds.

Loading scikit-learn, pyarrow, DuckDB and onnxruntime takes one to three CPU seconds, more than most steps of a small
pipeline work. The forker loads them once, for the kinds of steps that it is named, while there is nothing to do. It
stays single-threaded, so that forking is safe: libraries start their threads when first used, in the child, and those
that would sooner are told not to (children.py).

Protocol: a JSON line in for each child to start, a JSON line out for each that was started or has ended. It ends when
its input does.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

_PRELOAD = {
    "ingest": ("levada.steps.ingest", "levada.stores.objects", "levada.stores.postgres"),
    "prepare": ("levada.steps.prepare.version", "levada.steps.prepare.online", "onnxruntime"),
    "train": ("levada.steps.train", "sklearn.ensemble", "sklearn.linear_model", "skl2onnx"),
    "evaluate": ("levada.steps.evaluate",),
    "score": ("levada.steps.score",),
}
_PR_SET_PDEATHSIG = 1


class _Forker:
    def __init__(self, steps: list[str]) -> None:
        self._steps = steps
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._loaded: set[str] = set()
        self._children: dict[int, str] = {}
        self._wakeup, wakeup_write = os.pipe()
        os.set_blocking(wakeup_write, False)
        signal.set_wakeup_fd(wakeup_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def serve(self) -> None:
        """Start children until the input ends."""
        unread = b""
        while True:
            missing = next((step for step in self._steps if step not in self._loaded), None)
            readable, _, _ = select.select([0, self._wakeup], [], [], 0 if missing else None)
            if self._wakeup in readable:
                os.read(self._wakeup, 4096)
            self._reap()
            if 0 in readable:
                data = os.read(0, 1 << 16)
                if not data:
                    return
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    self._start(json.loads(line))
            elif missing is not None:
                self._load(missing)

    def _load(self, step: str) -> None:
        if step not in self._loaded:
            self._loaded.add(step)
            for module in _PRELOAD[step]:
                # What cannot be loaded fails in the child, where the step's own error handling tells of it.
                with contextlib.suppress(Exception):
                    importlib.import_module(module)

    def _start(self, request: dict[str, Any]) -> None:
        self._load(request["step"])
        forker = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_step(request, forker)
        with contextlib.suppress(OSError):  # here as in the child: whoever gets the pid may signal its group at once
            os.setpgid(pid, pid)
        self._children[pid] = request["id"]
        _say({"id": request["id"], "pid": pid})

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                _say({"id": self._children.pop(pid), "code": os.waitstatus_to_exitcode(status)})

    def _become_step(self, request: dict[str, Any], forker: int) -> None:
        code = 1
        try:
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != forker:  # it died before its death was asked for
                return
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
            from levada.steps.__main__ import main

            code = main(Path(request["input"]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    _Forker(sys.argv[1:]).serve()
