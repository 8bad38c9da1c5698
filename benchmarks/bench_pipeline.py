"""The flights pipeline from end to end against a plain script; steps without work; an unchanged pipeline.

Warm: packages compiled, files in the page cache, and the servers of the home laid down by an earlier, empty run (a copy
of it for each round); their start, the check of the scorer and their orderly end are counted.

`python -m benchmarks.bench_pipeline [--rounds N]`
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import levada
from benchmarks.report import Measured, Ratio, Report
from levada.engines.local.forkers import Forker
from levada.engines.local.servers import LocalServers

FLIGHTS = Path(__file__).parent.parent / "examples" / "flights"


def seconds(*command: str | Path, environment: dict[str, str] | None = None) -> float:
    """Wall time of a command that succeeds."""
    started = time.perf_counter()
    subprocess.run(
        list(map(str, command)),
        check=True,
        env=os.environ | (environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def levada_run(home: Path) -> float:
    return seconds(sys.executable, "-m", "levada.cli", "run", "-f", FLIGHTS, "--home", home)


@dataclass
class WithoutWork:
    """Seconds of a step whose output is there already: as a pod starts it, and as the local engine does."""

    cold: list[float] = field(default_factory=list)  # `python -m levada.steps`, less an empty Python process
    forked: list[float] = field(default_factory=list)  # from the request to the end of the forked process


async def forked(step: str, input: Path, environment: dict[str, str], folder: Path, rounds: int) -> list[float]:
    """Seconds of a step in processes that are forked, once the forker has loaded what steps need."""
    forker = Forker(folder / "forker.log")
    times = []
    try:
        for _ in range(rounds + 1):
            started = time.perf_counter()
            child = await forker.run(step, [str(input)], os.environ | environment, folder / "log")
            if await child.wait() != 0:
                raise SystemExit(f"{step} failed: {(folder / 'log').read_text()}")
            times.append(time.perf_counter() - started)
    finally:
        await forker.stop()
    return times[1:]


def steps_without_work(home: Path, rounds: int) -> dict[str, WithoutWork]:
    """What each kind of step takes when there is nothing to do."""
    times: dict[str, WithoutWork] = {}
    with LocalServers(home) as servers, tempfile.TemporaryDirectory() as folder:
        stores = servers.start_all().environment() | {
            "LEVADA_TERMINATION_LOG": f"{folder}/termination",
            "LEVADA_ALLOW_FILE_SOURCES": "1",
        }
        for step in ("ingest", "prepare", "train", "evaluate", "score"):
            input = next(path for path in sorted(home.glob("jobs/*/*/input.json")) if f"-{step}-" in path.parent.name)
            for _ in range(rounds):
                empty = seconds(sys.executable, "-c", "pass")
                whole = seconds(sys.executable, "-m", "levada.steps", input, environment=stores)
                times.setdefault(step, WithoutWork()).cold.append(whole - empty)
            times[step].forked = asyncio.run(forked(step, input, stores, Path(folder), rounds))
    return times


def run(rounds: int = 5) -> Report:
    """Measure everything."""
    subprocess.run([sys.executable, FLIGHTS.parent / "data.py", "flights"], check=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", Path(levada.__file__).parent], check=True)
    report = Report("Pipeline from end to end")
    pairs, unchanged = [], []
    with tempfile.TemporaryDirectory(prefix="levada-bench-") as folder:
        template = Path(folder, "template")
        with LocalServers(template) as servers:
            servers.start_all()
        for number in range(rounds + 1):
            home, plain = Path(folder, f"home{number}"), Path(folder, f"plain{number}")
            subprocess.run(["cp", "-a", template, home], check=True)  # with the owner of Postgres' files
            ours = levada_run(home)
            twin = seconds(sys.executable, "-m", "benchmarks.plain_flights", FLIGHTS / "data", plain)
            if number:  # the first pair warms up
                pairs.append((ours, twin))
                unchanged.append(levada_run(home))
        without_work = steps_without_work(home, rounds)
    report.add(Ratio("flights: levada run / plain script (wall s)", pairs, goal="≤ 1.5"))
    report.add(Measured("flights, unchanged: levada run (wall s)", unchanged, goal="< 2"))
    for step, times in without_work.items():
        report.add(
            Measured(f"{step} without work, forked as the local engine does (wall s)", times.forked, goal="< 0.5")
        )
        report.add(Measured(f"{step} without work, over an empty process (wall s)", times.cold, goal="< 0.5"))
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    print(run(parser.parse_args().rounds).markdown())
