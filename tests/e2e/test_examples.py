"""The examples run as the README says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.pipelines import condition, levada

EXAMPLES = Path(__file__).parents[2] / "examples"


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


def test_x8_the_demo_leads_from_raw_files_to_a_traced_score_and_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )

    assert done.returncode == 0, done.stderr
    assert "rocAuc" in done.stdout
    report = next(
        line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("Evaluation report: ")
    )
    assert (tmp_path / report).exists()
    lines = done.stdout.splitlines()
    curl = next(number for number, line in enumerate(lines) if line.startswith("$ curl "))
    assert 0 < json.loads(lines[curl + 1])["predictions"][0]["probabilities"][1] < 1
    assert "source flights-2013-01.csv.gz" in done.stdout[done.stdout.index("$ levada lineage") :]
