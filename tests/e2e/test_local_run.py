"""`levada run` from manifests to scores, as a user calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.pipelines import PIPELINE, Outcome, Pipeline, condition, levada, manifest, small_pipeline
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("local-run")  # one run serves all of its tests


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The small pipeline, run once."""
    pipeline = small_pipeline(tmp_path_factory.mktemp("pipeline"))
    outcome = pipeline.run()
    assert outcome.code == 0, outcome.err
    return pipeline


def get(pipeline: Pipeline, kind: str, name: str) -> dict[str, Any]:
    outcome = levada("get", kind, name, "-o", "json", cwd=pipeline.folder)
    assert outcome.code == 0, outcome.err
    document: dict[str, Any] = json.loads(outcome.out)
    return document


def test_x8_one_command_leads_from_manifests_to_ready_resources(finished: Pipeline) -> None:
    outcome = levada("get", "all", "-o", "json", cwd=finished.folder)

    resources = outcome.resources()
    assert {name.partition("/")[0] for name in resources} == {
        "Dataset",
        "FeatureSet",
        "TrainingRun",
        "ModelCandidate",
        "Deployment",
        "ScoringRun",
    }
    assert all(condition(r, "Ready").get("status") == "True" for r in resources.values()), outcome.out
    assert resources["ScoringRun/all-orders"]["status"]["scores"]["rows"] == 600


def test_x8_a_second_run_does_no_work_and_starts_no_server(finished: Pipeline) -> None:
    jobs = sorted(p.stat().st_mtime_ns for p in finished.home.glob("jobs/*/*/*/termination.json"))
    logs = {p: p.stat().st_size for p in finished.home.glob("servers/*/log")}

    outcome = finished.run()

    assert outcome.code == 0, outcome.err
    assert sorted(p.stat().st_mtime_ns for p in finished.home.glob("jobs/*/*/*/termination.json")) == jobs
    assert {p: p.stat().st_size for p in finished.home.glob("servers/*/log")} == logs


def test_ing1_a_changed_source_file_makes_a_new_batch_and_all_that_follows(tmp_path: Path) -> None:
    pipeline = small_pipeline(tmp_path / "p", rows=300)
    before = pipeline.run().resources()
    lines = (pipeline.folder / "data/orders/b.csv").read_text().splitlines()
    (pipeline.folder / "data/orders/b.csv").write_text("\n".join(lines[:-20]) + "\n")

    outcome = pipeline.run()

    assert outcome.code == 0, outcome.err
    after = outcome.resources()
    for kind, field in (("Dataset", "latestBatch"), ("FeatureSet", "latestVersion")):
        assert before[f"{kind}/orders"]["status"][field]["id"] != after[f"{kind}/orders"]["status"][field]["id"]
        assert before[f"{kind}/shops"]["status"][field]["id"] == after[f"{kind}/shops"]["status"][field]["id"]
    assert after["Deployment/returns"]["status"]["servingVersion"] == 2
    assert after["ScoringRun/all-orders"]["status"]["scores"]["rows"] == 280


def test_x2_a_batch_score_is_traced_back_to_its_raw_files(finished: Pipeline) -> None:
    execution = get(finished, "scoringruns", "all-orders")["status"]["execution"]["id"]

    outcome = levada("lineage", f"{execution}:599", "-o", "json", cwd=finished.folder)

    assert outcome.code == 0, outcome.err
    nodes = json.loads(outcome.out)
    assert nodes[0]["id"] == f"{execution}:599"
    batches = {node["id"] for node in nodes if node["type"] == "batch"}
    assert batches == {get(finished, "datasets", name)["status"]["latestBatch"]["id"] for name in ("orders", "shops")}
    assert any("a.csv" in json.dumps(node) for node in nodes)


def test_x2_every_decision_is_in_the_audit_log(finished: Pipeline) -> None:
    outcome = levada("audit", "-o", "json", cwd=finished.folder)

    actions = {(entry["kind"], entry["action"]) for entry in json.loads(outcome.out)}
    assert ("Dataset", "execution-started") in actions
    assert ("TrainingRun", "model-ready") in actions
    assert ("Deployment", "version-serving") in actions


def test_x2_the_table_of_decisions_says_when_each_was_taken(finished: Pipeline) -> None:
    outcome = levada("audit", "mdep", "returns", cwd=finished.folder)

    heading, *rows = outcome.out.splitlines()
    assert heading.split() == ["TIME", "ACTOR", "KIND", "NAMESPACE", "NAME", "ACTION", "REASON", "MESSAGE"]
    assert rows
    for row in rows:
        datetime.fromisoformat(row[:19])
        assert "  Deployment  default    returns" in row


def test_eval3_the_report_can_be_opened_from_the_home(finished: Pipeline) -> None:
    reports = sorted((finished.home / "reports").glob("default/*/*.html"))

    assert len(reports) == 2
    assert all("<svg" in report.read_text() for report in reports)
    assert all("rocAuc" in json.loads(report.with_suffix(".json").read_text())["metrics"] for report in reports)


def test_dep1_a_model_of_classes_that_are_texts_is_served_and_scores(tmp_path: Path) -> None:
    pipeline = small_pipeline(tmp_path / "p", rows=300)
    text = PIPELINE.replace("returned = 1 AS returned", "CASE returned WHEN 1 THEN 'back' ELSE 'kept' END AS returned")
    pipeline.write("pipeline.yaml", text)
    outcome = pipeline.run()
    assert outcome.code == 0, outcome.err
    made = outcome.resources()
    assert condition(made["Deployment/returns"], "Ready")["status"] == "True"
    assert "300 rows" in condition(made["ScoringRun/all-orders"], "Ready")["message"]


@pytest.fixture
def serving(finished: Pipeline) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`levada run --serve -o json`, once it serves: the process and the address of the model."""
    command = [sys.executable, "-m", "levada.cli", "run", "-f", ".", "--serve", "-o", "json"]
    with (finished.folder / "serve.out").open("wb") as out, (finished.folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=finished.folder, stdout=out, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield process, until(lambda: get(finished, "mdep", "returns")["status"].get("url"), process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def test_x2_an_online_score_is_traced_back_to_its_raw_files(
    finished: Pipeline, serving: tuple[subprocess.Popen[bytes], str]
) -> None:
    process, url = serving
    row = {"shop": "s3", "price": 40.5, "colour": "red", "at": "2024-03-01T12:00:00Z"}

    answer = post(url.replace("/v2/", "/v1/") + ":predict", {"instances": [row]})

    score = answer["score_ids"][0]
    nodes = until(
        lambda: json.loads(levada("lineage", score, "-o", "json", cwd=finished.folder).out or "null"), process
    )
    assert nodes[0]["id"] == score
    assert {node["type"] for node in nodes} >= {"score", "candidate", "split", "features", "batch"}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_x8_ctrl_c_ends_everything_in_good_order_and_the_status_says_that_nothing_is_served(
    finished: Pipeline, serving: tuple[subprocess.Popen[bytes], str], how: signal.Signals
) -> None:
    process, _ = serving
    until(lambda: "serves at" in (finished.folder / "serve.log").read_text(), process)  # nothing is left to do
    children = descendants(process.pid)
    assert children

    process.send_signal(how)

    assert process.wait(60) == 0
    resources = Outcome(0, (finished.folder / "serve.out").read_text(), "").resources()
    assert all(condition(r, "Ready")["status"] == "True" for r in resources.values())
    assert "url" not in resources["Deployment/returns"]["status"]
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists() and not is_zombie(pid)]
    assert "url" not in get(finished, "mdep", "returns")["status"]


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_x8_a_second_engine_on_the_same_home_is_refused(
    finished: Pipeline, serving: tuple[subprocess.Popen[bytes], str]
) -> None:
    outcome = finished.run()

    assert outcome.code == 1
    assert "is in use by another levada" in outcome.err
    assert os.path.exists(f"/proc/{serving[0].pid}")


def test_x8_delete_takes_away_resources_children_and_data(tmp_path: Path) -> None:
    pipeline = small_pipeline(tmp_path / "p", rows=300)
    assert pipeline.run().code == 0

    outcome = levada("delete", "trainingrun", "returns", "-o", "json", cwd=pipeline.folder)

    assert outcome.code == 0, outcome.err
    assert {"kind": "TrainingRun", "namespace": "default", "name": "returns"} in json.loads(outcome.out)
    left = levada("get", "all", "-o", "json", cwd=pipeline.folder).resources()
    assert not [name for name in left if name.startswith(("TrainingRun/", "ModelCandidate/"))]
    assert "Dataset/orders" in left
    audited = json.loads(levada("audit", "-o", "json", cwd=pipeline.folder).out)
    gone = {(entry["kind"], entry["name"]) for entry in audited if entry["action"] == "deleted"}
    assert ("TrainingRun", "returns") in gone
    assert {kind for kind, _ in gone} == {"TrainingRun", "ModelCandidate"}
    assert not (pipeline.home / "unpublished").exists()
    assert not list(pipeline.home.glob("reports/**/*.html"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_x8_an_end_in_the_middle_of_work_is_exit_code_130(tmp_path: Path, how: signal.Signals) -> None:
    pipeline = small_pipeline(tmp_path / "p", rows=300)
    command = [sys.executable, "-m", "levada.cli", "run", "-f", ".", "-o", "json"]
    with (tmp_path / "out").open("wb") as out, (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=pipeline.folder, stdout=out, stderr=log, stdin=subprocess.DEVNULL)
    until(lambda: list(pipeline.home.glob("jobs/*/*/*/log.txt")), process)  # the first step was started

    process.send_signal(how)

    assert process.wait(60) == 130
    assert (tmp_path / "out").read_text() == ""
    assert "ended; run again to go on from here" in (tmp_path / "log").read_text()


def test_x8_what_resources_warn_of_is_said_as_it_comes_and_below_the_tables(tmp_path: Path) -> None:
    pipeline = small_pipeline(tmp_path / "p", rows=300)
    features, training = manifest("FeatureSet", "orders"), manifest("TrainingRun", "returns")
    del features["spec"]["lookups"]
    features["spec"]["features"] = ["price"]
    training["spec"]["split"] = {"type": "random", "ratios": {"train": 1, "test": 0}}
    training["spec"]["algorithms"] = training["spec"]["algorithms"][:1]
    pipeline.write("pipeline.yaml", yaml.safe_dump_all([manifest("Dataset", "orders"), features, training]))

    outcome = pipeline.run("-o", "table")

    assert outcome.code == 0, outcome.err
    (candidate,) = levada("get", "mcand", "-o", "json", cwd=pipeline.folder).resources()
    warning = "the split has no test part, so the model was measured on the rows that it was fitted on"
    line = f"{candidate.replace('/', ' default/')}: {warning}"
    assert line in outcome.out.partition("\n\nWarnings:\n")[2].splitlines()
    assert next(said.split()[2] for said in outcome.err.splitlines() if warning in said) == "Warning"
    assert levada("get", "mcand", cwd=pipeline.folder).out.endswith(f"\n\nWarnings:\n{line}\n")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["levada", "levada.cli"])
def test_x8_an_end_before_there_is_any_work_is_exit_code_130_without_a_traceback(
    tmp_path: Path, module: str, how: signal.Signals
) -> None:
    command = [sys.executable, "-m", module, "run", "-f", "-"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: catches(process.pid, signal.SIGTERM), process)  # while it is loaded, and while it reads manifests

        process.send_signal(how)

        assert process.wait(60) == 130
        assert b"Traceback" not in process.communicate()[1]


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")]
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("server", ["postgres", "nats", "objects"])
def test_x5_a_server_that_is_killed_is_started_anew_and_the_run_goes_on(tmp_path: Path, server: str) -> None:
    pipeline = small_pipeline(tmp_path / "p", rows=300)
    pipeline.write("pipeline.yaml", "---".join(PIPELINE.split("---")[:4]))  # the data and their features
    command = [sys.executable, "-m", "levada.cli", "run", "-f", "."]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=pipeline.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    until(lambda: list(pipeline.home.glob("jobs/*/*/*/log.txt")), process)  # the first step was started
    os.kill(json.loads((pipeline.home / "servers" / server / "process.json").read_text())["pid"], signal.SIGKILL)

    code, said = process.wait(120), (tmp_path / "log").read_text()
    assert code == 0, said
    assert "has ended and is started anew" in said
    assert "Traceback" not in said
