"""The scorer against a bare ASGI server, stock `kserve.Model`, MLServer, and onnxruntime in process.

Figures are CPU time of the server (utime + stime of its process tree), with the server on one core, load and stores on
another; all servers are up at the same time and take turns. The scorer validates, looks up, counts and records every
score in a real catalogue; the twins are given the looked-up columns and do none of that. Two models: a forest of 100
trees over twenty numbers, which takes little beside the server's own work; and one shaped like the flights example,
whose graph has more operators than rows to spend them on, so that all servers come closer to one another.

`python -m benchmarks.serving.bench [--rounds N] [--seconds N]`
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson

from benchmarks.report import Measured, Ratio, Report
from benchmarks.serving.environments import python_of
from benchmarks.serving.load import LOAD_CORE, InProcess, Result, ServerUnderTest
from benchmarks.serving.model import START, BuiltModel, build, build_forest, feeds, stage
from levada.engines.local.servers import LocalServers
from levada.serving.config import ScorerConfig, ScorerVersion
from levada.settings import from_environment
from levada.stores.open import open_catalogue, open_objects

TWINS = Path(__file__).parent / "twins"
SINGLE, MANY = 500, 1000  # different requests of one row; rows of a large one
STEADY = 0.2  # a round counts if the baseline is so close to its median
MOST_ROUNDS = 3  # times the rounds that are asked for
DATATYPES = {"string": "BYTES", "int64": "INT64", "float64": "FP64", "timestamp": "BYTES"}


class Target(Protocol):
    """What takes a turn."""

    def load(self, seconds: int) -> Result:
        """Work for so many seconds."""


@dataclass(frozen=True)
class Asked:
    """A server, and what it is asked."""

    server: ServerUnderTest
    path: str
    bodies: Path
    header: str = ""

    def load(self, seconds: int) -> Result:
        return self.server.load(self.path, self.bodies, seconds, self.header)


def run(rounds: int = 5, seconds: int = 4) -> Report:
    """Measure everything."""
    report = Report("Scorer: server CPU a request (µs)")
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(LOAD_CORE)})  # the stores' servers inherit it
    try:
        with ExitStack() as stack:
            _run(report, stack, rounds, seconds)
    finally:
        os.sched_setaffinity(0, affinity)
    return report


def _run(report: Report, stack: ExitStack, rounds: int, seconds: int) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="levada-bench-")))
    environment = stack.enter_context(LocalServers(folder / "home")).start_all().environment()
    environment |= {"LEVADA_SCRATCH": str(folder)}
    settings = from_environment(environment)
    catalogue = open_catalogue(settings)
    catalogue.migrate()
    catalogue.close()
    objects = open_objects(settings)
    flights, forest = build(), build_forest()
    for name, model in (("flights", flights), ("forest", forest)):
        prefix = stage(model, objects)
        for recording in (True, False):
            version = ScorerVersion(
                version=1, candidate=model.manifest.candidate, model_prefix=prefix, onnx_digest=model.digest, weight=100
            )
            config = ScorerConfig(name=name, namespace="default", versions=[version], recording=recording)
            (folder / f"{name}-{recording}.json").write_bytes(config.to_bytes())

    servers = Servers(folder, environment)
    for name, model in (("forest", forest), ("flights", flights)):
        _one_row(report, servers, name, model, rounds, seconds)
    for name, model in (("forest", forest), ("flights", flights)):
        for recording in (False, True):
            with servers.scorer(name, recording) as server:
                _many(report, server, name, model, recording, folder, rounds, seconds)


@dataclass(frozen=True)
class Servers:
    """Starts servers on models whose configurations and files lie in the folder."""

    folder: Path
    environment: dict[str, str]

    def start(self, name: str, *command: str | Path, health: str, **more: str) -> ServerUnderTest:
        """A server; PORT in command and variables becomes its port."""
        port = _free_port()
        arguments = [str(part).replace("PORT", str(port)) for part in command]
        variables = {name: value.replace("PORT", str(port)) for name, value in more.items()}
        log = self.folder / f"{name}.log"
        return ServerUnderTest(name, arguments, port, health, self.environment | variables, log)

    def scorer(self, model: str, recording: bool) -> ServerUnderTest:
        config = self.folder / f"{model}-{recording}.json"
        command = (sys.executable, "-m", "levada.serving", "--config", config, "--port", "PORT")
        return self.start(f"scorer-{model}-{recording}", *command, health="/v2/health/ready")

    def mlserver(self, model: str, files: tuple[Path, Path], workers: int) -> ServerUnderTest:
        settings = self.folder / f"mlserver-{model}-{workers}" / "twin"
        settings.mkdir(parents=True)
        implementation = {"name": "twin", "implementation": "mlserver_twin.Twin"}
        (settings / "model-settings.json").write_bytes(orjson.dumps(implementation))
        return self.start(
            f"mlserver-{model}-{workers}",
            python_of("mlserver").with_name("mlserver"),
            "start",
            settings.parent,
            health="/v2/models/twin/ready",
            MLSERVER_HOST="127.0.0.1",
            MLSERVER_HTTP_PORT="PORT",
            MLSERVER_GRPC_PORT=str(_free_port()),
            MLSERVER_METRICS_PORT=str(_free_port()),
            MLSERVER_PARALLEL_WORKERS=str(workers),
            TWIN_MODEL=str(files[0]),
            TWIN_FEEDS=str(files[1]),
            PYTHONPATH=str(TWINS),
        )


def _one_row(report: Report, servers: Servers, name: str, model: BuiltModel, rounds: int, seconds: int) -> None:
    """Requests of one row to the scorer, which records them, and to all twins."""
    folder = servers.folder
    files = (folder / f"{name}.onnx", folder / f"{name}.npz")
    files[0].write_bytes(model.onnx)
    _save(files[1], feeds(model.rows[:1], model.tables))
    infer, predict = "/v2/models/{}/infer", "/v1/models/{}:predict"
    rows = model.rows[:SINGLE]
    ours = _bodies(folder / f"{name}-ours", [_v2(model, [row]) for row in rows])
    ours_v1 = _bodies(folder / f"{name}-ours-v1", [{"instances": [row]} for row in rows])
    theirs = _bodies(folder / f"{name}-theirs", [_v2(model, [_numbered(row)]) for row in rows])
    theirs_v1 = _bodies(folder / f"{name}-theirs-v1", [{"instances": [_numbered(row)]} for row in rows])
    with ExitStack() as stack:
        scorer = stack.enter_context(servers.scorer(name, True))
        bare = stack.enter_context(
            servers.start(f"bare-{name}", python_of("bare"), TWINS / "bare.py", *files, "PORT", health="")
        )
        command = (python_of("kserve"), TWINS / "kserve_twin.py", *files, "PORT")
        kserve = stack.enter_context(servers.start(f"kserve-{name}", *command, health="/v2/health/ready"))
        mlservers = {workers: stack.enter_context(servers.mlserver(name, files, workers)) for workers in (1, 0)}
        targets = {
            "scorer v2": Asked(scorer, infer.format(name), ours),
            "bare ASGI": Asked(bare, "/", theirs),
            "scorer v1": Asked(scorer, predict.format(name), ours_v1),
            "kserve v2": Asked(kserve, infer.format("twin"), theirs),
            "kserve v1": Asked(kserve, predict.format("twin"), theirs_v1),
            "MLServer": Asked(mlservers[1], infer.format("twin"), theirs),
            "MLServer, no worker": Asked(mlservers[0], infer.format("twin"), theirs),
        }
        results = _take_turns(report, f"one row, {name}", targets, "bare ASGI", rounds, seconds)
        for target, found in results.items():
            rates, p50s, p99s = [r.rate for r in found], [r.p50 for r in found], [r.p99 for r in found]
            server = targets[target].server
            report.notes.append(
                f"- {name}, {target}: {statistics.median(rates):,.0f} requests/s on one core, p50 {_middle(p50s)}, "
                f"p99 {_middle(p99s)}; {server.memory():.0f} MiB; ready {server.start_seconds:.1f} s after its start"
            )

    def ratio(subject: str, twin: str, goal: str) -> None:
        pairs = [(one.cpu, other.cpu) for one, other in zip(results[subject], results[twin], strict=True)]
        report.add(Ratio(f"one row, {name}: {subject} / {twin}", pairs, goal))

    ratio("scorer v2", "bare ASGI", "≤ 1.5")
    ratio("scorer v2", "kserve v2", "≤ 0.167")
    ratio("scorer v1", "kserve v1", "≤ 0.25")
    ratio("scorer v2", "MLServer", "≤ 0.125")
    ratio("scorer v2", "MLServer, no worker", "")
    report.add(Measured(f"scorer, {name}: start to ready (s)", [scorer.start_seconds], goal="≤ 5"))


def _take_turns(
    report: Report, what: str, targets: Mapping[str, Target], baseline: str, rounds: int, seconds: int
) -> dict[str, list[Result]]:
    """Results of rounds in which the baseline was steady, in as many rounds as that takes (or as many as may be).

    Where these are fewer than asked for the report notes it; ends the benchmark if there is none.
    """
    for target in targets.values():
        target.load(1)  # warms up
    all_rounds: list[dict[str, Result]] = []
    kept: list[dict[str, Result]] = []
    while len(kept) < rounds and len(all_rounds) < rounds * MOST_ROUNDS:
        all_rounds.append({name: target.load(seconds) for name, target in targets.items()})
        middle = statistics.median(found[baseline].cpu for found in all_rounds)
        kept = [found for found in all_rounds if abs(found[baseline].cpu / middle - 1) <= STEADY]
    if not kept:
        raise SystemExit(f"{what}: {baseline} was steady in none of {len(all_rounds)} rounds; free the machine of load")
    if len(kept) < rounds:
        report.notes.append(
            f"- {what}: unsteady, {len(kept)} of {rounds} rounds: {baseline} was not within {STEADY:.0%} of its median "
            f"in the other {len(all_rounds) - len(kept)}"
        )
    return {name: [found[name] for found in kept] for name in targets}


def _many(
    report: Report,
    server: ServerUnderTest,
    name: str,
    model: BuiltModel,
    recording: bool,
    folder: Path,
    rounds: int,
    seconds: int,
) -> None:
    """CPU of a large binary request against onnxruntime in process on the same rows, whose inputs are ready."""
    rows = model.rows[:MANY]
    body, length = _binary(model, rows)
    bodies = folder / f"{name}-{recording}-many"
    bodies.mkdir()
    (bodies / "0").write_bytes(body)
    header = f'wrk.headers["Inference-Header-Content-Length"] = "{length}"'
    _save(folder / f"{name}-many.npz", feeds(rows, model.tables))
    (folder / f"{name}.onnx").write_bytes(model.onnx)
    what = f"1,000 rows binary, {name}, {'recorded' if recording else 'not recorded'}"
    command = (sys.executable, TWINS / "inprocess.py", folder / f"{name}.onnx", folder / f"{name}-many.npz")
    with InProcess(command) as twin:
        ours = Asked(server, f"/v2/models/{name}/infer", bodies, header)
        targets: dict[str, Target] = {"scorer": ours, "onnxruntime in process": twin}
        results = _take_turns(report, what, targets, "onnxruntime in process", rounds, seconds)
    pairs = [(one.cpu, other.cpu) for one, other in zip(*results.values(), strict=True)]
    goal = "≥ 0.8" if not recording else ""
    report.add(Ratio(f"{what}: onnxruntime in process / scorer", pairs, goal, inverse=True))


def _v2(model: BuiltModel, rows: list[dict[str, Any]]) -> dict[str, Any]:
    inputs = []
    for column in model.manifest.request:
        data = [row[column.name] for row in rows]
        datatype = "INT64" if isinstance(data[0], int) else DATATYPES[column.type.value]
        inputs.append({"name": column.name, "datatype": datatype, "shape": [len(rows)], "data": data})
    return {"inputs": inputs}


def _numbered(row: dict[str, Any]) -> dict[str, Any]:
    """A row for twins, which parse no times."""
    return row | {"time_hour": START} if "time_hour" in row else row


def _binary(model: BuiltModel, rows: list[dict[str, Any]]) -> tuple[bytes, int]:
    """A request with binary tensors in and out, and the length of its JSON."""
    inputs, parts = [], []
    for tensor in _v2(model, rows)["inputs"]:
        values = tensor.pop("data")
        if tensor["datatype"] == "BYTES":
            raw = b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in values)
        else:
            raw = np.array(values, {"INT64": "<i8", "FP64": "<f8"}[tensor["datatype"]]).tobytes()
        inputs.append({**tensor, "parameters": {"binary_data_size": len(raw)}})
        parts.append(raw)
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return head + b"".join(parts), len(head)


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(path, **arrays)


def _bodies(folder: Path, documents: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    for number, document in enumerate(documents):
        (folder / str(number)).write_bytes(orjson.dumps(document))
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _middle(texts: list[str]) -> str:
    """The median of times as wrk writes them."""
    units = {"us": 1.0, "ms": 1e3, "s": 1e6}
    return sorted(texts, key=lambda t: float(t.rstrip("mus")) * units[t.lstrip("0123456789.")])[len(texts) // 2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    arguments = parser.parse_args()
    print(run(arguments.rounds, arguments.seconds).markdown())
