"""When a Dataset runs, and runs again; what its status says meanwhile. The other kinds share this."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from levada.names import Kind
from levada.planners.plan import Action, Job, JobState
from levada.resources import Dataset
from levada.resources.conditions import ConditionType, Reason
from levada.steps.io import IngestWork, ProgressRecord
from tests.unit.planners.worlds import NOW, World, dataset, kstatus, ref, says

FLIGHTS = ref(Kind.DATASET, "flights")


def world(**spec: Any) -> World:
    made = World()
    made.add(dataset(**spec))
    return made


def flights(made: World) -> Dataset:
    found = made.resources[FLIGHTS]
    assert isinstance(found, Dataset)
    return found


def batch(made: World) -> str:
    latest = flights(made).status.latest_batch
    assert latest is not None
    return latest.id


def run(made: World) -> str:
    """One execution from start to end; its id."""
    made.reconcile(FLIGHTS)
    made.succeed(FLIGHTS)
    made.reconcile(FLIGHTS)
    return batch(made)


def test_ing3_a_dataset_is_one_job_with_its_parts_in_parallel() -> None:
    made = world(partitions={"parallelism": 4}, retries=2, deadline="1h30m", resources={"limits": {"cpu": 2}})
    (job,) = made.reconcile(FLIGHTS).jobs
    assert (job.completions, job.parallelism, job.backoff_limit, job.deadline) == (4, 4, 2, timedelta(minutes=90))
    assert job.resources is not None
    assert job.resources.limits == {"cpu": "2"}
    assert isinstance(job.input.work, IngestWork)
    assert job.input.work.batch == job.input.execution
    assert job.input.job == job.name


def test_ing1_each_batch_is_listed_newest_first() -> None:
    made = world()
    made.sources[FLIGHTS] = "a"
    first = run(made)
    made.sources[FLIGHTS] = "b"
    second = run(made)
    assert first != second
    assert flights(made).status.batches == [second, first]
    assert flights(made).status.batch_count == 2


def test_ing1_content_that_comes_back_is_the_batch_that_it_was() -> None:
    made = world()
    made.sources[FLIGHTS] = "a"
    first = run(made)
    made.sources[FLIGHTS] = "b"
    second = run(made)
    made.sources[FLIGHTS] = "a"
    made.settle()
    assert flights(made).status.batches == [first, second]
    assert (flights(made).status.batch_count, batch(made)) == (2, first)


def test_x5_the_id_of_an_execution_depends_on_its_inputs_alone() -> None:
    first, second = world(), world()
    second.now += timedelta(days=3)
    assert run(first) == run(second)
    assert run(world(format={"type": "jsonl"})) != batch(first)


def test_x5_a_default_that_is_written_out_makes_no_other_id() -> None:
    # The API server writes defaults out, and a field that is added later has one.
    written = {"type": "csv", "delimiter": ",", "header": True, "nullValues": ["", "NA"], "encoding": "utf-8"}
    assert run(world()) == run(world(format=written, quality=[], schema={}, suspend=False))


def test_x5_a_job_that_was_lost_is_asked_for_again() -> None:
    made = world()
    (job,) = made.reconcile(FLIGHTS).jobs
    made.jobs[FLIGHTS].clear()
    (again,) = made.reconcile(FLIGHTS).jobs
    assert again == job


def test_k8s1_while_it_runs_for_the_first_time_ready_is_unknown() -> None:
    made = world()
    (job,) = made.reconcile(FLIGHTS).jobs
    assert says(flights(made)) == ("Unknown", Reason.PROGRESSING, f"ingest {job.input.execution} is running")
    assert says(flights(made), ConditionType.RECONCILING) is not None
    assert kstatus(flights(made)) == "InProgress"
    made.succeed(FLIGHTS)
    made.reconcile(FLIGHTS)
    assert says(flights(made)) == ("True", Reason.SUCCEEDED, f"{batch(made)}: 5 rows from 1 file")
    assert kstatus(flights(made)) == "Current"


def test_k8s1_while_the_same_spec_runs_again_the_old_result_stays_ready() -> None:
    made = world()
    first = run(made)
    made.sources[FLIGHTS] = "new"
    made.reconcile(FLIGHTS)
    assert says(flights(made)) == ("True", Reason.SUCCEEDED, f"{first}: 5 rows from 1 file")
    assert says(flights(made), ConditionType.RECONCILING) is not None
    assert batch(made) == first


def test_k8s1_while_a_changed_spec_is_carried_out_ready_is_unknown_and_the_old_result_stays() -> None:
    made = world()
    first = run(made)
    made.edit(FLIGHTS, format={"type": "jsonl"})
    made.reconcile(FLIGHTS)
    made.reconcile(FLIGHTS)
    ready = says(flights(made))
    assert ready is not None
    assert ready[:2] == ("Unknown", Reason.PROGRESSING)
    assert batch(made) == first


def test_x5_a_changed_spec_ends_the_running_execution() -> None:
    made = world()
    (old,) = made.reconcile(FLIGHTS).jobs
    made.edit(FLIGHTS, format={"type": "jsonl"})
    planned = made.reconcile(FLIGHTS)
    assert old.name not in {job.name for job in planned.jobs}
    assert planned.keep == ()
    assert made.active(FLIGHTS) == [planned.jobs[0].name]


def test_x5_new_content_waits_until_the_running_execution_has_ended() -> None:
    made = world()
    made.sources[FLIGHTS] = "a"
    made.reconcile(FLIGHTS)
    made.sources[FLIGHTS] = "b"
    planned = made.reconcile(FLIGHTS)
    assert made.active(FLIGHTS) == [planned.jobs[0].name]
    assert planned.decisions == ()
    made.succeed(FLIGHTS)
    (started,) = made.reconcile(FLIGHTS).decisions
    assert started.message.endswith("because its source changed")
    assert flights(made).status.batch_count == 1


def test_ing1_content_that_changed_before_the_job_began_gets_a_batch_of_its_own() -> None:
    made = world()
    made.sources[FLIGHTS] = "a"
    (job,) = made.plan(FLIGHTS).jobs
    made.add(flights(made).model_copy(update={"status": made.plan(FLIGHTS).status}))
    made.sources[FLIGHTS] = "b"
    (other,) = made.reconcile(FLIGHTS).jobs
    assert other.name != job.name


def test_x5_a_failed_execution_says_why_and_is_not_tried_again_by_itself() -> None:
    made = world()
    first = run(made)
    made.sources[FLIGHTS] = "b"
    made.reconcile(FLIGHTS)
    made.fail(FLIGHTS)
    planned = made.reconcile(FLIGHTS)
    assert says(flights(made)) == ("False", Reason.SOURCE_NOT_FOUND, "there is no bucket 'b'")
    assert says(flights(made), ConditionType.STALLED) == says(flights(made), ConditionType.STALLED) is not None
    assert kstatus(flights(made)) == "Failed"
    assert {d.action for d in planned.decisions} == {Action.EXECUTION_FAILED, Action.STALLED}
    assert batch(made) == first
    made.now += timedelta(days=1)
    assert made.reconcile(FLIGHTS).jobs == ()


def test_x5_a_failed_execution_is_tried_again_when_the_spec_is_edited() -> None:
    made = world()
    (first,) = made.reconcile(FLIGHTS).jobs
    made.fail(FLIGHTS)
    made.reconcile(FLIGHTS)
    made.edit(FLIGHTS, resources={"limits": {"memory": "4Gi"}})
    (second,) = made.reconcile(FLIGHTS).jobs
    assert second.input.execution == first.input.execution
    assert second.name != first.name
    assert flights(made).status.execution.attempt == 2  # type: ignore[union-attr]


def test_x8_one_machine_tries_a_failed_execution_again_once_its_job_is_forgotten() -> None:
    made = world()
    made.local = True
    (first,) = made.reconcile(FLIGHTS).jobs
    made.fail(FLIGHTS)
    made.reconcile(FLIGHTS)
    assert made.reconcile(FLIGHTS).jobs == ()
    made.jobs[FLIGHTS].clear()
    (second,) = made.reconcile(FLIGHTS).jobs
    assert second == first  # so that what its indexes did need not be done again
    assert flights(made).status.execution.attempt == 2  # type: ignore[union-attr]


def test_k8s1_a_failed_execution_whose_job_the_cluster_removed_stays_failed() -> None:
    made = world()
    made.reconcile(FLIGHTS)
    made.fail(FLIGHTS)
    made.reconcile(FLIGHTS)
    made.jobs[FLIGHTS].clear()
    assert made.reconcile(FLIGHTS).jobs == ()
    assert kstatus(flights(made)) == "Failed"


def test_train1_the_annotation_asks_for_one_more_execution() -> None:
    made = world()
    first = run(made)
    made.annotate(FLIGHTS, "monday")
    second = run(made)
    assert second != first
    assert flights(made).status.last_request == "monday"
    assert made.reconcile(FLIGHTS).jobs == ()
    made.annotate(FLIGHTS, "tuesday")
    assert run(made) not in (first, second)


def test_x5_a_job_that_is_tried_again_shows_what_went_wrong() -> None:
    made = world()
    (job,) = made.reconcile(FLIGHTS).jobs
    progress = ProgressRecord(phase="copy", done=10, total=40)
    made.jobs[FLIGHTS][job.name] = JobState(
        job.name, "active", retries=2, last_failure="the store did not answer", progress=progress
    )
    made.reconcile(FLIGHTS)
    assert says(flights(made), ConditionType.RECONCILING) == (
        "True",
        Reason.RETRYING,
        "ingest failed 2 times and is tried again: the store did not answer",
    )
    execution = flights(made).status.execution
    assert execution is not None
    assert execution.progress is not None
    assert (execution.progress.step, execution.progress.done, execution.progress.total) == ("copy", 10, 40)


def test_x5_a_job_that_fails_without_a_word_still_gives_a_sentence() -> None:
    made = world()
    (job,) = made.reconcile(FLIGHTS).jobs
    made.jobs[FLIGHTS][job.name] = JobState(job.name, "failed")
    made.reconcile(FLIGHTS)
    said = says(flights(made))
    assert said is not None
    assert said[1] == Reason.BACKOFF_EXCEEDED
    assert job.name in said[2]


def test_x5_a_job_that_succeeds_without_a_result_is_a_failure() -> None:
    made = world()
    (job,) = made.reconcile(FLIGHTS).jobs
    made.jobs[FLIGHTS][job.name] = JobState(job.name, "succeeded")
    made.reconcile(FLIGHTS)
    assert kstatus(flights(made)) == "Failed"


def test_ing6_warnings_of_the_step_stay_in_the_status() -> None:
    made = world()
    made.reconcile(FLIGHTS)
    made.succeed(FLIGHTS, warnings=("3 values were rectified", "3 values were rectified", *map(str, range(50))))
    made.reconcile(FLIGHTS)
    made.jobs[FLIGHTS].clear()
    made.reconcile(FLIGHTS)
    warnings = flights(made).status.warnings
    assert warnings[0] == "3 values were rectified"
    assert len(warnings) == 32
    assert warnings[-1] == "… and 20 more"


# --- suspend --------------------------------------------------------------------------------------------------------


def test_x6_a_suspended_dataset_starts_nothing() -> None:
    made = world(suspend=True)
    assert made.reconcile(FLIGHTS).jobs == ()
    assert says(flights(made)) == (
        "False",
        Reason.SUSPENDED,
        "suspended before it was carried out; set spec.suspend to false to go on",
    )
    made.edit(FLIGHTS, suspend=False)
    assert len(made.reconcile(FLIGHTS).jobs) == 1


def test_x6_suspending_lets_a_running_execution_end() -> None:
    made = world()
    made.reconcile(FLIGHTS)
    made.edit(FLIGHTS, suspend=True)
    assert len(made.reconcile(FLIGHTS).jobs) == 1
    made.succeed(FLIGHTS)
    made.reconcile(FLIGHTS)
    assert kstatus(flights(made)) == "Current"


def test_x6_a_spec_changed_while_suspended_waits() -> None:
    made = world()
    first = run(made)
    made.edit(FLIGHTS, suspend=True, format={"type": "jsonl"})
    assert made.reconcile(FLIGHTS).jobs == ()
    said = says(flights(made))
    assert said is not None
    assert said[1] == Reason.SUSPENDED
    assert batch(made) == first


def test_x6_an_execution_that_was_called_off_while_suspended_is_taken_up_again() -> None:
    made = world()
    (job,) = made.reconcile(FLIGHTS).jobs
    made.edit(FLIGHTS, suspend=True, format={"type": "jsonl"})
    made.reconcile(FLIGHTS)
    assert made.active(FLIGHTS) == []
    made.edit(FLIGHTS, suspend=False, format={"type": "csv"})
    (again,) = made.reconcile(FLIGHTS).jobs
    assert again.name == job.name


# --- schedules ------------------------------------------------------------------------------------------------------


def daily(**schedule: Any) -> World:
    return world(schedule={"cron": "0 3 * * *", **schedule})


def at(hour: int, minute: int = 0, day: int = 2) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


def test_x6_a_schedule_runs_at_once_and_then_at_each_tick() -> None:
    made = daily()
    first = run(made)
    planned = made.plan(FLIGHTS)
    assert planned.jobs == ()
    assert planned.requeue_after == at(3) - NOW
    made.now = at(2, 59)
    assert made.reconcile(FLIGHTS).jobs == ()
    made.now = at(3)
    second = run(made)
    assert second != first
    assert flights(made).status.execution.trigger == "schedule 2026-01-02T03:00:00Z"  # type: ignore[union-attr]
    assert made.reconcile(FLIGHTS).jobs == ()


def test_x6_a_tick_is_read_in_the_time_zone() -> None:
    made = daily(timeZone="America/New_York")
    run(made)
    assert made.plan(FLIGHTS).requeue_after == at(8) - NOW


def test_x6_of_ticks_that_were_missed_the_newest_runs_once() -> None:
    made = daily()
    run(made)
    made.now = at(12, day=9)
    run(made)
    assert flights(made).status.execution.trigger == "schedule 2026-01-09T03:00:00Z"  # type: ignore[union-attr]
    assert made.reconcile(FLIGHTS).jobs == ()


def test_x6_a_tick_past_its_starting_deadline_is_skipped() -> None:
    made = daily(startingDeadlineSeconds=600)
    run(made)
    made.now = at(3, 11)
    assert made.reconcile(FLIGHTS).jobs == ()
    made.now = at(3, 9, day=3)
    assert len(made.reconcile(FLIGHTS).jobs) == 1


def test_x6_a_schedule_that_is_added_later_waits_for_its_next_tick() -> None:
    made = world()
    run(made)
    made.now = at(12, day=20)
    made.edit(FLIGHTS, schedule={"cron": "0 3 * * *"})
    assert made.reconcile(FLIGHTS).jobs == ()


@pytest.mark.parametrize(
    "schedule", [{"cron": "0 9 * * *"}, {"cron": "0 3 * * *", "timeZone": "America/New_York"}], ids=["cron", "zone"]
)
def test_x6_an_edited_schedule_waits_for_its_next_tick(schedule: dict[str, str]) -> None:
    made = daily()
    made.now = at(3, day=2)
    run(made)
    made.now = at(12, day=2)
    made.edit(FLIGHTS, schedule=schedule)  # at 8 or 9 o'clock it would have ticked since the last tick
    assert made.reconcile(FLIGHTS).jobs == ()
    made.now = at(12, day=3)
    assert len(made.reconcile(FLIGHTS).jobs) == 1


def test_x6_a_schedule_that_is_taken_away_for_a_while_leaves_no_tick_to_make_up_for() -> None:
    made = daily()
    run(made)
    made.edit(FLIGHTS, schedule=None)
    made.reconcile(FLIGHTS)
    made.now = at(12, day=5)
    made.edit(FLIGHTS, schedule={"cron": "0 3 * * *"})
    assert made.reconcile(FLIGHTS).jobs == ()


def test_x6_ticks_missed_while_suspended_are_those_of_the_schedule_since_it_was_edited() -> None:
    made = daily()
    run(made)
    made.edit(FLIGHTS, suspend=True)
    made.now = at(12, day=5)
    made.edit(FLIGHTS, schedule={"cron": "0 9 * * *"})
    made.reconcile(FLIGHTS)
    made.edit(FLIGHTS, suspend=False)
    assert made.reconcile(FLIGHTS).jobs == ()
    made.edit(FLIGHTS, suspend=True)
    made.now = at(10, day=6)
    made.reconcile(FLIGHTS)
    made.edit(FLIGHTS, suspend=False)
    assert len(made.reconcile(FLIGHTS).jobs) == 1
    assert flights(made).status.execution.trigger == "schedule 2026-01-06T09:00:00Z"  # type: ignore[union-attr]


def test_x6_other_fields_of_a_schedule_change_without_losing_a_tick_that_was_missed() -> None:
    made = daily()
    run(made)
    made.now = at(4, day=2)
    made.edit(FLIGHTS, schedule={"cron": "0 3 * * *", "concurrencyPolicy": "Replace"})
    assert len(made.reconcile(FLIGHTS).jobs) == 1


def test_x6_a_schedule_that_is_edited_while_a_message_waits_counts_from_then_on() -> None:
    made = daily()
    made.reconcile(FLIGHTS)
    made.edit(FLIGHTS, schedule={"cron": "0 9 * * *", "concurrencyPolicy": "Replace"}, triggers=[{"subject": "a"}])
    made.triggers[FLIGHTS] = ("m1",)
    made.reconcile(FLIGHTS)
    made.now = at(10, day=2)
    made.reconcile(FLIGHTS)
    assert flights(made).status.last_schedule_time == at(9, day=2)


def test_x6_suspend_holds_ticks_back_and_the_newest_runs_afterwards() -> None:
    made = daily()
    run(made)
    made.edit(FLIGHTS, suspend=True)
    made.now = at(4, day=5)
    planned = made.reconcile(FLIGHTS)
    assert (planned.jobs, planned.requeue_after) == ((), None)
    made.edit(FLIGHTS, suspend=False)
    assert len(made.reconcile(FLIGHTS).jobs) == 1
    assert flights(made).status.execution.trigger == "schedule 2026-01-05T03:00:00Z"  # type: ignore[union-attr]


@pytest.mark.parametrize(("policy", "running"), [("Forbid", 1), ("Replace", 1), ("Allow", 2)])
def test_x6_the_concurrency_policy_decides_about_a_tick_while_one_runs(policy: str, running: int) -> None:
    made = daily(concurrencyPolicy=policy)
    (old,) = made.reconcile(FLIGHTS).jobs
    made.now = at(3)
    made.reconcile(FLIGHTS)
    made.reconcile(FLIGHTS)
    assert len(made.active(FLIGHTS)) == running
    assert (old.name in made.active(FLIGHTS)) == (policy != "Replace")


def test_x6_batches_of_overlapping_ingestions_are_all_listed() -> None:
    made = daily(concurrencyPolicy="Allow")
    (old,) = made.reconcile(FLIGHTS).jobs
    made.now = at(3)
    (new,) = made.reconcile(FLIGHTS).jobs
    made.succeed(FLIGHTS, new.name)
    made.reconcile(FLIGHTS)
    made.succeed(FLIGHTS, old.name)
    made.reconcile(FLIGHTS)
    assert flights(made).status.batches == [new.input.execution, old.input.execution]
    assert (flights(made).status.batch_count, batch(made)) == (2, new.input.execution)


def test_x6_of_more_batches_than_a_status_holds_the_newest_are_listed_and_the_others_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("levada.planners.dataset.BATCHES_SHOWN", 3)
    made = daily(concurrencyPolicy="Allow")
    jobs: list[Job] = []
    for day in range(1, 7):
        made.now = at(3, day=day)
        jobs += made.reconcile(FLIGHTS).jobs
    ids = [job.input.execution for job in jobs]
    for index in (5, 0, 3, 1, 4, 2):
        made.now += timedelta(minutes=1)
        made.succeed(FLIGHTS, jobs[index].name)
        made.reconcile(FLIGHTS)
    made.settle()
    assert flights(made).status.batches == [ids[5], ids[2], ids[4]]
    assert (flights(made).status.batch_count, batch(made)) == (6, ids[5])


def test_x6_a_tick_that_was_held_back_runs_when_the_execution_has_ended() -> None:
    made = daily()
    made.reconcile(FLIGHTS)
    made.now = at(3)
    made.reconcile(FLIGHTS)
    made.succeed(FLIGHTS)
    made.now = at(5)
    made.reconcile(FLIGHTS)
    assert len(made.reconcile(FLIGHTS).jobs) == 1


def test_x5_going_back_to_a_spec_that_failed_tries_it_again() -> None:
    made = world()
    (first,) = made.reconcile(FLIGHTS).jobs
    made.fail(FLIGHTS)
    made.reconcile(FLIGHTS)
    made.edit(FLIGHTS, format={"type": "jsonl"})
    made.reconcile(FLIGHTS)
    made.edit(FLIGHTS, format={"type": "csv"})
    (again,) = made.reconcile(FLIGHTS).jobs
    assert again.input.execution == first.input.execution
    assert again.name != first.name


def test_x5_going_back_to_a_spec_whose_job_is_still_there_takes_its_result() -> None:
    made = world()
    first = run(made)
    made.edit(FLIGHTS, format={"type": "jsonl"})
    assert run(made) != first
    made.edit(FLIGHTS, format={"type": "csv"})
    assert made.reconcile(FLIGHTS).jobs == ()
    assert batch(made) == first
    assert kstatus(flights(made)) == "Current"


def test_x6_with_a_schedule_new_content_waits_for_the_tick() -> None:
    made = daily()
    made.sources[FLIGHTS] = "a"
    run(made)
    made.sources[FLIGHTS] = "b"
    assert made.reconcile(FLIGHTS).jobs == ()
    made.now = at(3)
    assert len(made.reconcile(FLIGHTS).jobs) == 1


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"cron": "every day"}, "spec.schedule.cron: 'every day' is not a cron expression: write five fields"),
        ({"cron": "61 * * * *"}, "spec.schedule.cron: '61 * * * *' is not a cron expression: Bad minute"),
        ({"cron": "* * * * * *"}, "spec.schedule.cron: '* * * * * *' is not a cron expression: write five fields"),
        ({"cron": "@daily", "timeZone": "Berlin"}, "spec.schedule.timeZone: there is no time zone 'Berlin'"),
        ({"cron": "@daily", "timeZone": "../etc/passwd"}, "spec.schedule.timeZone: there is no time zone"),
    ],
)
def test_x6_a_schedule_that_cannot_be_read_is_refused(schedule: dict[str, str], message: str) -> None:
    made = world(schedule=schedule)
    made.reconcile(FLIGHTS)
    said = says(flights(made))
    assert said is not None
    assert said[1] == Reason.INVALID_SPEC
    assert said[2].startswith(message)


# --- messages -------------------------------------------------------------------------------------------------------


def triggered() -> World:
    made = world(triggers=[{"subject": "landing.flights"}])
    run(made)
    return made


def test_ing4_a_message_starts_an_ingestion_and_is_answered() -> None:
    made = triggered()
    made.triggers[FLIGHTS] = ("m1",)
    planned = made.reconcile(FLIGHTS)
    assert planned.answered == ("m1",)
    assert flights(made).status.execution.trigger == "message m1"  # type: ignore[union-attr]


def test_ing4_messages_that_come_together_start_one_ingestion() -> None:
    made = triggered()
    made.triggers[FLIGHTS] = ("m1", "m2", "m3")
    assert made.reconcile(FLIGHTS).answered == ("m1", "m2", "m3")
    made.succeed(FLIGHTS)
    made.reconcile(FLIGHTS)
    assert made.reconcile(FLIGHTS).jobs == ()


def test_ing4_a_message_that_comes_while_one_runs_is_answered_afterwards() -> None:
    made = triggered()
    made.triggers[FLIGHTS] = ("m1",)
    made.reconcile(FLIGHTS)
    made.triggers[FLIGHTS] = ("m1", "m2")  # m1's acknowledgement was lost
    assert made.reconcile(FLIGHTS).answered == ("m1",)
    made.succeed(FLIGHTS)
    made.reconcile(FLIGHTS)
    planned = made.reconcile(FLIGHTS)
    assert flights(made).status.execution.trigger == "message m2"  # type: ignore[union-attr]
    assert len(planned.jobs) == 1


def test_ing4_a_message_shown_again_after_it_was_answered_starts_nothing() -> None:
    made = triggered()
    made.triggers[FLIGHTS] = ("m1",)
    run(made)
    made.triggers[FLIGHTS] = ("m1",)
    planned = made.reconcile(FLIGHTS)
    assert (planned.jobs, planned.answered) == ((), ("m1",))


def test_ing4_messages_of_a_trigger_that_was_taken_away_start_nothing() -> None:
    made = triggered()
    made.edit(FLIGHTS, triggers=None)
    made.triggers[FLIGHTS] = ("m1",)
    planned = made.reconcile(FLIGHTS)
    assert (planned.jobs, planned.answered) == ((), ("m1",))


def test_x6_a_suspended_dataset_leaves_messages_unanswered() -> None:
    made = triggered()
    made.edit(FLIGHTS, suspend=True)
    made.triggers[FLIGHTS] = ("m1",)
    assert made.reconcile(FLIGHTS).answered == ()
    made.edit(FLIGHTS, suspend=False)
    assert made.reconcile(FLIGHTS).answered == ("m1",)


# --- what cannot be carried out -------------------------------------------------------------------------------------


def test_x5_a_spec_that_cannot_be_carried_out_ends_what_runs_and_keeps_what_there_is() -> None:
    made = world()
    first = run(made)
    made.sources[FLIGHTS] = "b"
    made.reconcile(FLIGHTS)
    (name,) = made.active(FLIGHTS)
    progress = ProgressRecord(phase="read", done=5, total=10, unit="rows")
    made.jobs[FLIGHTS][name] = replace(made.jobs[FLIGHTS][name], progress=progress)
    made.reconcile(FLIGHTS)
    made.edit(FLIGHTS, schedule={"cron": "x"})
    planned = made.reconcile(FLIGHTS)
    assert (planned.jobs, planned.keep) == ((), ())
    assert kstatus(flights(made)) == "Failed"
    execution = flights(made).status.execution
    assert execution is not None
    assert (execution.state, execution.progress) == ("Cancelled", None)
    assert [d.action for d in planned.decisions] == [Action.STALLED]
    assert batch(made) == first
    made.edit(FLIGHTS, schedule=None)
    assert len(made.reconcile(FLIGHTS).jobs) == 1
    made.settle()
    assert (kstatus(flights(made)), batch(made)) == ("Current", execution.id)
