"""Servers under load: CPU time a request, from /proc, with the server on one core and the load on another."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.serving.environments import wrk

SERVER_CORE, LOAD_CORE = "0", "1"
CONNECTIONS = 8
START_SECONDS = 120.0

_SCRIPT = """
local requests, number = {{}}, 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
{header}
function init(arguments)
  for name in io.popen("ls -v {folder}"):lines() do
    local file = io.open("{folder}/" .. name, "rb")
    requests[#requests + 1] = wrk.format(nil, nil, nil, file:read("*a"))
    file:close()
  end
end
function request()
  number = number % #requests + 1
  return requests[number]
end
"""


@dataclass(frozen=True)
class Result:
    """What one run of the load measured."""

    cpu: float  # microseconds of the server a request
    rate: float  # requests a second
    p50: str = ""
    p99: str = ""


class ProcessUnderTest:
    """A process and its children, on the server's core; leaving the block ends it."""

    def __init__(self, command: Sequence[str | Path], **more: Any) -> None:
        self.process = subprocess.Popen(["taskset", "-c", SERVER_CORE, *map(str, command)], **more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        family = self._family()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self.process.wait()

    def memory(self) -> float:
        """Resident MiB."""
        return float(sum(member.memory_info().rss for member in self._family())) / 2**20

    def cpu(self) -> float:
        """Seconds of CPU time so far."""
        return float(sum(sum(member.cpu_times()[:2]) for member in self._family()))

    def _family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


class InProcess(ProcessUnderTest):
    """onnxruntime alone (twins/inprocess.py)."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def load(self, seconds: int) -> Result:
        """Run the model for so many seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        before = self.cpu()
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        count = int(self.process.stdout.readline())
        return Result((self.cpu() - before) / count * 1e6, count / seconds)


class ServerUnderTest(ProcessUnderTest):
    """A server that answers requests."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        port: int,
        health: str,
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        self.name = name
        self.port = port
        started = time.monotonic()
        with log.open("wb") as file:
            super().__init__(command, env=os.environ | environment, stdout=file, stderr=file)
        while not self._answers(health):
            if self.process.poll() is not None or time.monotonic() - started > START_SECONDS:
                self.process.kill()
                raise SystemExit(f"{name} did not start; see {log}: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        self.start_seconds = time.monotonic() - started

    def load(self, path: str, bodies: Path, seconds: int, header: str = "") -> Result:
        """Post the bodies in a folder, one after another and over again, for so many seconds."""
        script = bodies.with_suffix(".lua")
        script.write_text(_SCRIPT.format(folder=bodies, header=header))
        before = self.cpu()
        command = ["taskset", "-c", LOAD_CORE, wrk(), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
        command += ["-s", str(script), f"http://127.0.0.1:{self.port}{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        spent = self.cpu() - before
        count = int(re.search(r"(\d+) requests in", done)[1])  # type: ignore[index]
        if "Non-2xx" in done or "Socket errors" in done:
            raise SystemExit(f"{self.name} failed requests:\n{done}")
        p50, p99 = (re.search(rf"^\s+{p}%\s+(\S+)$", done, re.MULTILINE)[1] for p in (50, 99))  # type: ignore[index]
        return Result(spent / count * 1e6, count / seconds, p50, p99)

    def _answers(self, path: str) -> bool:
        """Whether a GET of the path is answered with 200; without a path, whether there is anyone at the port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.connect()
            if not path:
                return True
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
