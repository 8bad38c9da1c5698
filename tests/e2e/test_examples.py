"""The examples run as the README says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import EXAMPLES, Demo
from tests.e2e.pipelines import condition, levada
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("name", "metric"),
    [("weather-regimes", ("silhouette", 0.2)), ("diabetes", ("r2", 0.3))],
    ids=lambda value: str(value),
)
def test_x8_an_example_runs_to_a_served_model(tmp_path: Path, name: str, metric: tuple[str, float]) -> None:
    subprocess.run([sys.executable, EXAMPLES / "data.py", name], check=True, timeout=120)

    outcome = levada("run", "-f", EXAMPLES / name, "-o", "json", cwd=tmp_path)

    assert outcome.code == 0, outcome.err
    resources = outcome.resources()
    assert all(condition(resource, "Ready")["status"] == "True" for resource in resources.values())
    best = max(
        resource["status"]["evaluation"]["metrics"][metric[0]]
        for resource in resources.values()
        if resource["kind"] == "ModelCandidate"
    )
    assert best > metric[1]


def steps(home: Path) -> dict[Path, int]:
    """When each step of a home ended."""
    return {path: path.stat().st_mtime_ns for path in home.glob("jobs/*/*/*/termination.json")}


def processes_of(folder: Path) -> list[str]:
    """The processes that work in a folder, or were told of it."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        known = [*(process.info["cmdline"] or ()), process.info["cwd"] or ""]
        if any(str(folder) in text for text in known) and process.pid != os.getpid():
            found.append(f"{process.pid} {known}")
    return found


@pytest.mark.xdist_group("flights")
def test_x8_the_demo_leads_from_raw_files_to_a_traced_score_and_ends_and_again_does_no_work_twice(demo: Demo) -> None:
    done = demo.first

    assert done.returncode == 0, done.stderr
    assert "rocAuc" in done.stdout
    report = next(
        line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("Evaluation report: ")
    )
    assert (demo.folder / report).exists()
    lines = done.stdout.splitlines()
    curl = next(number for number, line in enumerate(lines) if line.startswith("$ curl "))
    assert 0 < json.loads(lines[curl + 1])["predictions"][0]["probabilities"][1] < 1
    assert "source flights-2013-01.csv.gz" in done.stdout[done.stdout.index("$ levada lineage") :]
    assert processes_of(demo.folder) == []

    before = steps(demo.home)
    again = demo.again()

    assert again.returncode == 0, again.stderr
    assert before
    assert steps(demo.home) == before
    assert processes_of(demo.folder) == []


def test_x8_a_demo_that_is_interrupted_in_the_middle_of_its_work_says_so(tmp_path: Path) -> None:
    subprocess.run([sys.executable, EXAMPLES / "data.py", "flights"], check=True, timeout=120)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, EXAMPLES / "demo.py"], cwd=tmp_path, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    until(lambda: list(tmp_path.glob(".levada/flights/jobs/*/*/*/log.txt")), process)  # the first step was started
    assert processes_of(tmp_path)

    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert "run again to go on from here" in (tmp_path / "log").read_text()
    assert processes_of(tmp_path) == []
