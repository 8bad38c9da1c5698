"""Which folders of jobs stay."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from levada.engines.local.home import remove_job
from levada.engines.local.job_folder import add_failure, failures, outdated, read_state
from levada.engines.retention import KEPT
from levada.errors import LevadaError


def folders(root: Path, *phases: str) -> list[Path]:
    """A resource's jobs from the oldest to the newest; "" is one that was stopped."""
    made = []
    for number, phase in enumerate(phases):
        folder = root / f"job-{number}"
        (folder / "0").mkdir(parents=True)
        (folder / "0" / "log.txt").write_text("said")
        (folder / "input.json").write_text("{}")
        os.utime(folder / "input.json", (number, number))
        if phase:
            (folder / "state.json").write_text(json.dumps({"phase": phase}))
        made.append(folder)
    return made


def test_x5_a_failure_is_noted_where_the_attempt_left_no_folder(tmp_path: Path) -> None:
    for message in ("the disk\nis full", "odd \udce4"):
        add_failure(tmp_path / "job" / "0", message)

    assert failures(tmp_path / "job" / "0") == ["the disk is full", "odd \\udce4"]


def test_x8_of_jobs_that_succeeded_the_newest_stay(tmp_path: Path) -> None:
    jobs = folders(tmp_path, *["succeeded"] * (KEPT + 2))

    assert set(outdated(reversed(jobs), ())) == set(jobs[:2])


def test_x8_failures_are_no_reason_to_forget_a_success_nor_successes_to_forget_a_failure(tmp_path: Path) -> None:
    jobs = folders(tmp_path, *["failed", ""] * KEPT, *["succeeded"] * KEPT)

    assert set(outdated(jobs, ())) == set(jobs[:KEPT])


def test_x8_a_job_that_is_needed_stays_however_old_it_is(tmp_path: Path) -> None:
    jobs = folders(tmp_path, *["succeeded"] * (KEPT + 2))

    assert outdated(jobs, {"job-0"}) == [jobs[1]]


def test_x5_a_job_whose_removal_is_interrupted_still_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = folders(tmp_path, "succeeded")
    (job / "1").mkdir()
    remove = shutil.rmtree

    def interrupted(path: Path) -> None:
        assert (job / "input.json").exists()
        assert not (job / "state.json").exists()
        remove(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    for _ in range(2):  # an index each
        with pytest.raises(KeyboardInterrupt):
            remove_job(job)
        assert (job / "input.json").exists()
    monkeypatch.undo()
    remove_job(job)
    assert not job.exists()


def test_x5_a_state_that_makes_no_sense_is_named_with_what_to_do(tmp_path: Path) -> None:
    (job,) = folders(tmp_path, "succeeded")
    (job / "state.json").write_text("")

    with pytest.raises(LevadaError, match=f"{job}/state.json is damaged.*remove {job}, and the job is done again"):
        read_state(job)
