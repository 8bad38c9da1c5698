"""Scorers as processes over the real stores, and a way to cut them off from a store."""

from __future__ import annotations

import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from levada import names
from levada.artifacts import ModelManifest
from levada.serving.config import ScorerConfig, ScorerVersion
from levada.stores.ports import Objects
from tests.support.waiting import until
from tests.unit.serving import small

WAIT = 60.0  # seconds; a guard, not a measurement


def stage(objects: Objects, onnx: bytes, manifest: ModelManifest) -> str:
    """Put a model into the object store; its prefix."""
    prefix = names.model_prefix("default", manifest.candidate)
    objects.put(f"{prefix}model.onnx", onnx)
    objects.put(prefix + names.MANIFEST, manifest.to_bytes())
    return prefix


def version(objects: Objects, number: int, factor: float = 0.1, weight: int = 100) -> ScorerVersion:
    """A version of the small model, in the object store."""
    onnx = small.graph(factor)
    candidate = f"small-{number}"
    prefix = stage(objects, onnx, small.manifest(onnx, candidate))
    return ScorerVersion(
        version=number, candidate=candidate, model_prefix=prefix, onnx_digest=names.digest(onnx), weight=weight
    )


def config(*versions: ScorerVersion, **more: Any) -> ScorerConfig:
    return ScorerConfig(name="small", namespace="default", versions=list(versions), **more)


def write(path: Path, document: ScorerConfig | bytes) -> None:
    """Replace a configuration at once, as engines do."""
    new = path.with_suffix(".new")
    new.write_bytes(document if isinstance(document, bytes) else document.to_bytes())
    new.replace(path)


class Scorer:
    """A scorer's process; leaving the block kills it."""

    def __init__(
        self,
        path: Path,
        environment: Mapping[str, str],
        *,
        name: str = "small",
        scratch: Path | None = None,
        options: Sequence[str] | None = None,
    ) -> None:
        """`path`: its configuration, unless `options` say otherwise; its log lies beside it."""
        self.path = path
        self.name = name
        self._log = path.with_suffix(".log")
        scratch = scratch or path.parent
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "levada.serving", *(options or ("--config", str(path))), "--port", "0"],
                env=os.environ | environment | {"LEVADA_SCRATCH": str(scratch)},
                stderr=log,
            )
        self.port = until(self._port, self.process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(WAIT)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ready(self) -> Self:
        """Wait until it is."""
        until(lambda: self.get("/v2/health/ready")[0] == 200, self.process)
        return self

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)

    def get(self, target: str) -> tuple[int, Any]:
        """Status and document."""
        connection = self.connect()
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            body = response.read()
            return response.status, json.loads(body) if body.startswith((b"{", b"[")) else body.decode()
        finally:
            connection.close()

    def infer(self, *rows: dict[str, Any], connection: http.client.HTTPConnection | None = None, path: str = "") -> Any:
        """The document that answers rows of the small model; fails unless that is a success."""
        mine = connection or self.connect()
        try:
            mine.request("POST", f"/v2/models/{self.name}{path}/infer", json.dumps(small.v2_request(*rows)))
            response = mine.getresponse()
            document = json.loads(response.read())
        finally:
            if connection is None:
                mine.close()
        assert response.status == 200, document
        return document

    def versions(self) -> Any:
        return self.get("/levada/versions")[1]

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(f"levada_scorer_{name}{{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def peak_memory(self) -> int:
        """The most bytes that were resident at a time."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

    def end(self, signal_number: int = signal.SIGTERM) -> int:
        """Tell it to end; its exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(WAIT)

    def _port(self) -> int | None:
        for line in self.log.splitlines():
            with suppress(ValueError):
                record = json.loads(line)
                if record["event"] == "listening":
                    return int(record["port"])
        return None


def ids(document: Any) -> list[str]:
    """The ids of the scores in an answer."""
    found: list[str] = next(output["data"] for output in document["outputs"] if output["name"] == "score_id")
    return found


class Proxy:
    """Passes TCP connections on to a server, until told to cut them off or to swallow what is sent."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = True
        self._silent = False
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def cut(self) -> None:
        """End all connections and take no new ones."""
        self._open = False

    def swallow(self) -> None:
        """Keep connections, but pass nothing on."""
        self._silent = True

    def mend(self) -> None:
        self._open, self._silent = True, False

    def close(self) -> None:
        self._ended.set()
        self._thread.join(WAIT)

    def _run(self) -> None:
        while not self._ended.is_set():
            if not self._open:
                for side in list(self._pairs):
                    self._drop(side)
            for key, _ in self._selector.select(0.02):
                if key.fileobj is self._listener:
                    self._accept()
                elif not self._silent:
                    self._pass_on(key.fileobj)  # type: ignore[arg-type]
        for side in list(self._pairs):
            self._drop(side)
        self._listener.close()
        self._selector.close()

    def _accept(self) -> None:
        one, _ = self._listener.accept()
        if not self._open:
            one.close()
            return
        other = socket.create_connection(self._server)
        for side, opposite in ((one, other), (other, one)):
            self._pairs[side] = opposite
            self._selector.register(side, selectors.EVENT_READ)

    def _pass_on(self, side: socket.socket) -> None:
        if side not in self._pairs:
            return
        try:
            data = side.recv(65536)
            self._pairs[side].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(side)

    def _drop(self, side: socket.socket) -> None:
        if side not in self._pairs:
            return
        other = self._pairs.pop(side)
        del self._pairs[other]
        for one in (side, other):
            self._selector.unregister(one)
            one.close()


@contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    between = Proxy(host, port)
    try:
        yield between
    finally:
        between.close()
