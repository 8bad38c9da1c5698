"""Jobs: what Kubernetes' Indexed Job does, on one machine, through failures, kills and restarts."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from levada.engines.local.jobs import LONGEST_BACKOFF, backoff
from levada.resources.conditions import Reason
from tests.contract.local.conftest import OWNER, SPEC, Bench, eventually

pytestmark = pytest.mark.anyio


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_x5_only_the_failed_index_is_tried_again(bench: Bench) -> None:
    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, bench.write("ok", "fail vanish die ok", "ok"))

    assert state.phase == "succeeded"
    assert [result.index for result in state.results] == [0, 1, 2]
    assert state.retries == 3
    assert sorted(bench.attempts()) == ["0", "1", "1", "1", "1", "2"]


async def test_x5_a_failing_index_is_given_up_after_its_retries_and_says_why(bench: Bench) -> None:
    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, bench.write("fail", backoff_limit=2))

    assert state.phase == "failed"
    assert state.error is not None
    assert state.error.message == "attempt 3 did not go well (tried 3 times)"
    assert bench.attempts() == ["0", "0", "0"]


async def test_x5_what_the_user_must_mend_is_not_tried_again_and_ends_the_other_indexes(bench: Bench) -> None:
    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, bench.write("refuse", "hang"))

    assert state.phase == "failed"
    assert state.error is not None
    assert state.error.message == "attempt 1 did not go well"
    assert bench.attempts().count("0") == 1


@pytest.mark.parametrize(("word", "words"), [("die", "memory"), ("vanish", "exit code 0")])
async def test_x5_a_step_that_says_nothing_is_told_of_by_how_it_ended(bench: Bench, word: str, words: str) -> None:
    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, bench.write(word, backoff_limit=0))

    assert state.error is not None
    assert words in state.error.message
    assert "log.txt" in state.error.message
    assert state.error.message.endswith("(tried once)")


async def test_x5_an_error_that_an_earlier_attempt_left_is_not_that_of_the_next(bench: Bench) -> None:
    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, bench.write("fail die", backoff_limit=1))

    assert "killed" in state.last_failure


def test_x5_waits_grow_and_are_bounded() -> None:
    waits = [backoff(failed) for failed in range(1, 40)]

    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(waits) == waits[-1] == LONGEST_BACKOFF


async def test_x6_a_deadline_ends_job_and_steps(bench: Bench) -> None:
    async with bench.jobs() as jobs:
        job = bench.write("hang", deadline=timedelta(seconds=2))
        jobs.ensure(job)
        pid = await bench.hanging()
        state = await bench.outcome(jobs, job)

        assert is_gone(pid)
    assert state.phase == "failed"
    assert state.error is not None
    assert state.error.reason == Reason.DEADLINE_EXCEEDED
    assert "spec.deadline" in state.error.message


async def test_x6_a_deadline_goes_on_where_an_engine_was_ended_and_begins_anew_once_it_has_passed(bench: Bench) -> None:
    job = bench.write("hang hang ok", deadline=timedelta(hours=1))
    async with bench.jobs() as jobs:
        jobs.ensure(job)
        await bench.hanging()
    started = bench.home.jobs / OWNER.namespace / job.name / "started"
    began = int(time.time()) - 3598
    os.utime(started, (began, began))

    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, job)
        assert state.error is not None
        assert state.error.reason == Reason.DEADLINE_EXCEEDED
        assert state.started_at is not None
        assert state.started_at.timestamp() == began
    async with bench.jobs() as jobs:
        jobs.retry_failed()
        state = await bench.outcome(jobs, job)

    assert state.phase == "succeeded"
    assert bench.attempts() == ["0", "0", "0"]


async def test_x6_a_deadline_that_passed_while_no_engine_ran_begins_anew(bench: Bench) -> None:
    job = bench.write("hang ok", deadline=timedelta(hours=1))
    async with bench.jobs() as jobs:
        jobs.ensure(job)
        await bench.hanging()
    os.utime(bench.home.jobs / OWNER.namespace / job.name / "started", (0, 0))

    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, job)

    assert state.phase == "succeeded"


async def test_x6_a_job_that_was_ended_and_is_wanted_again_has_all_of_its_time(bench: Bench) -> None:
    job = bench.write("fail hang", deadline=timedelta(hours=1))
    async with bench.jobs() as jobs:
        jobs.ensure(job)
        await bench.hanging()
        await jobs.end_all_but(OWNER, set())

    left = {path.name for path in (bench.home.jobs / OWNER.namespace / job.name).rglob("*")}
    assert not {"started", "failures.txt"} & left


async def test_x5_attempts_that_failed_before_an_engine_was_ended_count_until_the_job_has_failed(bench: Bench) -> None:
    job = bench.write("fail hang fail ok", backoff_limit=1)
    async with bench.jobs() as jobs:
        jobs.ensure(job)
        await bench.hanging()

    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, job)
        assert state.error is not None
        assert state.error.message == "attempt 3 did not go well (tried 2 times)"
        assert state.retries == 1
    async with bench.jobs() as jobs:
        jobs.retry_failed()
        state = await bench.outcome(jobs, job)

    assert (state.phase, state.retries) == ("succeeded", 0)


async def test_x5_an_ended_engine_takes_its_steps_along_and_the_next_goes_on(bench: Bench) -> None:
    job = bench.write("ok", "hang ok")
    async with bench.jobs() as jobs:
        jobs.ensure(job)
        pid = await bench.hanging()
        await bench.until(lambda: len(jobs.of(OWNER)[job.name].results) == 1)
    assert is_gone(pid)

    async with bench.jobs() as jobs:
        assert jobs.of(OWNER) == {}
        state = await bench.outcome(jobs, job)

    assert state.phase == "succeeded"
    assert sorted(bench.attempts()) == ["0", "1", "1"]
    assert sorted(bench.fetched) == [f"steps/default/ingest/{index}.json" for index in (0, 1)]


async def test_x5_a_stopped_job_goes_on_with_the_spec_as_it_is_now(bench: Bench) -> None:
    async with bench.jobs() as jobs:
        jobs.ensure(bench.write("hang ok"))
        await bench.hanging()

    edited = SPEC.model_copy(update={"retries": 7})
    job = bench.write("ok", spec=edited)
    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, job)

    assert state.phase == "succeeded"
    assert bench.given(job).work == job.input.work


async def test_x5_a_stopped_job_that_is_divided_otherwise_does_all_of_its_parts_anew(bench: Bench) -> None:
    before = bench.write("ok", "hang", "ok", parallelism=1)
    async with bench.jobs() as jobs:
        jobs.ensure(before)
        await bench.hanging()

    job = bench.write("ok", "ok")
    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, job)

    assert [result.index for result in state.results] == [0, 1]
    assert bench.given(job).completions == 2
    assert sorted(bench.attempts()) == ["0", "0", "1", "1"]


async def test_x5_a_step_that_was_done_when_the_engine_was_killed_is_not_run_again(bench: Bench) -> None:
    job = bench.write("done-hang")
    async with bench.jobs() as jobs:
        jobs.ensure(job)
        await bench.hanging()

    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, job)

    assert state.phase == "succeeded"
    assert bench.attempts() == ["0"]


async def test_x5_how_a_job_ended_is_known_to_the_next_engine(bench: Bench) -> None:
    async with bench.jobs() as jobs:
        done = await bench.outcome(jobs, bench.write("ok", "ok", name="done"))
        failed = await bench.outcome(jobs, bench.write("ok", "refuse", name="failed"))

    async with bench.jobs() as jobs:
        assert jobs.of(OWNER) == {"done": done, "failed": failed}
        jobs.ensure(bench.write("fail", "fail", name="done"))
        assert not jobs.active


async def test_x5_a_failed_job_is_tried_again_when_asked_for_but_not_what_it_did(bench: Bench) -> None:
    job = bench.write("ok", "fail", backoff_limit=0)
    async with bench.jobs() as jobs:
        jobs.ensure(job)
        await bench.until(lambda: not jobs.active)
    (bench.script / "1").write_text("ok")

    async with bench.jobs() as jobs:
        jobs.retry_failed()
        assert jobs.of(OWNER) == {}
        state = await bench.outcome(jobs, job)

    assert state.phase == "succeeded"
    assert bench.attempts().count("1") == 2
    assert bench.attempts().count("0") == 1


async def test_x5_a_result_is_waited_for_while_the_store_does_not_answer(bench: Bench) -> None:
    bench.unavailable = 3
    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, bench.write("ok"))

    assert state.phase == "succeeded"
    assert bench.attempts() == ["0"]
    assert bench.broken == []


async def test_x5_a_result_that_the_store_has_lost_is_made_again(bench: Bench) -> None:
    async with bench.jobs() as jobs:
        state = await bench.outcome(jobs, bench.write("ok", results=False, backoff_limit=1))

    assert state.phase == "failed"
    assert bench.attempts() == ["0", "0"]


async def test_x5_an_error_of_the_engine_itself_is_reported(bench: Bench) -> None:
    job = bench.write("ok")
    bench.objects.put("steps/default/ingest/0.json", b"no result")
    async with bench.jobs() as jobs:
        jobs.ensure(job)
        await bench.until(lambda: bool(bench.broken))

        assert isinstance(bench.broken[0], ValidationError)
        assert not jobs.active
        assert jobs.of(OWNER) == {}


async def test_x6_jobs_that_nothing_waits_for_are_ended_and_forgotten(bench: Bench) -> None:
    async with bench.jobs() as jobs:
        jobs.ensure(bench.write("hang", name="old"))
        pid = await bench.hanging()

        await jobs.end_all_but(OWNER, {"new"})

        assert jobs.of(OWNER) == {}
        assert is_gone(pid)
        assert not jobs.active


async def test_x6_a_job_can_be_ended_before_it_began_and_be_started_again(bench: Bench) -> None:
    job = bench.write("ok")
    async with bench.jobs() as jobs:
        jobs.ensure(job)
        await jobs.end_all_but(OWNER, set())
        assert not jobs.active

        state = await bench.outcome(jobs, job)

    assert state.phase == "succeeded"


@pytest.mark.parametrize("limits", [{"slots": 1, "parallelism": 3}, {"slots": 3, "parallelism": 1}])
async def test_prep8_no_more_steps_run_than_job_and_machine_allow(bench: Bench, limits: dict[str, int]) -> None:
    async with bench.jobs(limits["slots"]) as jobs:
        jobs.ensure(bench.write("hang ok", "ok", "ok", parallelism=limits["parallelism"]))
        pid = await bench.hanging()
        assert bench.steps.started == 1

        os.kill(pid, signal.SIGKILL)
        await bench.until(lambda: not jobs.active)
        assert bench.steps.started == 4


async def test_prep8_steps_that_run_beside_each_other_share_the_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEVADA_MEMORY_LIMIT_BYTES", raising=False)
    async with bench.jobs(slots=4) as jobs:
        await bench.outcome(jobs, bench.write("ok"))

    share = int(bench.steps.environment["LEVADA_MEMORY_LIMIT_BYTES"])
    assert 0 < 4 * share <= psutil.virtual_memory().total


async def test_x3_the_memory_of_a_step_can_be_set(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVADA_MEMORY_LIMIT_BYTES", "123456789")
    async with bench.jobs() as jobs:
        await bench.outcome(jobs, bench.write("ok"))

    assert bench.steps.environment["LEVADA_MEMORY_LIMIT_BYTES"] == "123456789"


async def test_x8_progress_is_the_sum_over_the_indexes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bench.write("hang", "hang")
    async with bench.jobs() as jobs:
        jobs.ensure(job)
        await eventually(lambda: (bench.script / "attempts").exists() and len(bench.attempts()) == 2)
        for index in range(2):
            folder = bench.home.jobs / "default" / job.name / str(index)
            (folder / "progress.jsonl").write_text(
                '{"phase": "read", "done": 1}\n' * 200 + '{"phase": "write", "done": 40, "total": 100}\n'
            )

        ((owner, pace),) = jobs.progress()
        assert jobs.of(OWNER)[job.name].progress is None  # looked at now and then only
        monkeypatch.setattr("levada.engines.local.jobs.PROGRESS_EVERY", 0.0)
        assert jobs.of(OWNER)[job.name].progress == pace.record

    assert owner == OWNER
    assert (pace.record.phase, pace.record.done, pace.record.total) == ("write", 80, 200)


async def test_x8_old_jobs_are_removed_with_their_results_but_not_the_newest_the_needed_and_the_running(
    bench: Bench,
) -> None:
    async with bench.jobs() as jobs:
        for number in range(6):
            await bench.outcome(jobs, bench.write("ok", name=f"done-{number}"))
        jobs.ensure(bench.write("hang", name="running"))
        await bench.hanging()

        await jobs.prune(OWNER, {"done-1"})

        kept = {"done-1", "done-3", "done-4", "done-5", "running"}
        assert set(jobs.of(OWNER)) == kept
        assert {folder.name for folder in bench.home.jobs_of(OWNER)} == kept
        assert {info.key.split("/")[2] for info in bench.objects.list("steps/default/")} == kept
        assert jobs.is_new(bench.write("ok", name="done-0"))


async def test_x5_old_jobs_stay_while_the_store_does_not_answer(bench: Bench) -> None:
    async with bench.jobs() as jobs:
        for number in range(5):
            await bench.outcome(jobs, bench.write("ok", name=f"done-{number}"))
        bench.unavailable = 1
        await jobs.prune(OWNER, ())
        assert len(bench.home.jobs_of(OWNER)) == 5

        bench.unavailable = 0
        await jobs.prune(OWNER, ())
        assert len(bench.home.jobs_of(OWNER)) == 3
