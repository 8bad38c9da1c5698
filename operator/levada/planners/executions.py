"""From what is decided about executions to a plan: what the planners of everything that runs again and again share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from levada import names
from levada.errors import Waiting
from levada.planners.conditions import Verdict, clipped, conditions_of
from levada.planners.course import Course, Outcome, Runnable
from levada.planners.occurrences import Decided, ask, decide, overlapping, until_next_tick
from levada.planners.plan import Action, Decision, Job, JobState, Observed, Plan
from levada.planners.references import ApprovalNeeded, MissingReference
from levada.resources.base import RunPolicy, parse_duration
from levada.resources.conditions import ConditionType, Reason, is_true
from levada.resources.status import Execution, Progress, RunStatus
from levada.steps.io import Owner, StepError, StepInput, StepResult, Work

WARNINGS, WARNING_LENGTH = 32, 1024  # as resources/status.py bounds them


def carry_out(resource: Runnable, observed: Observed, now: datetime, course: Course) -> Plan:
    """The plan of something that runs again and again."""
    status, spec = resource.status, resource.spec
    asked = ask(resource, observed, now)
    decided = decide(resource, observed, now, course, asked)
    execution, waiting = decided.execution, decided.waiting
    decisions: list[Decision] = []
    jobs: tuple[Job, ...] = ()
    keep = overlapping(resource, observed, decided)
    outcome = Outcome()
    job: JobState | None = None

    if decided.started and execution is not None:
        decisions.append(_started(resource, execution, decided.started))
    if execution is not None and execution.state == "Running":
        name = execution.job
        job = observed.jobs.get(name)
        outcome = course.advance(execution, job)
        execution = _advanced(execution, outcome, job, now)
        if outcome.failed is not None:
            decisions.append(_failed(execution, outcome.failed))
        elif not outcome.done and outcome.needs_job:
            try:
                jobs = (course.build(execution, name),)
            except Waiting as error:
                waiting = error
                keep = (*keep, name)
        decisions.extend(outcome.decisions)

    update = {
        **asked.seen,
        **(asked.answers if decided.taken else {}),
        **outcome.update,
        "execution": execution,
        "observed_generation": resource.metadata.generation,
    }
    status = status.model_copy(update=update)
    done = execution is not None and execution.state == "Succeeded" and not decided.outdated
    if done and course.follow is not None:
        outcome = course.follow(status)
        decisions.extend(outcome.decisions)
        status = status.model_copy(update=outcome.update)
    verdict = _verdict(resource, status, course, decided, waiting, job, outcome)
    status = status.model_copy(update={"conditions": conditions_of(resource, verdict, now)})
    return Plan(
        status=status,
        jobs=jobs,
        keep=keep,
        children=outcome.children,
        decisions=tuple(decisions),
        answered=asked.messages + (asked.pending if decided.taken else ()),
        requeue_after=until_next_tick(spec, now),
    )


def step_job(
    resource: Runnable, execution: Execution, name: str, work: Work, completions: int = 1, parallelism: int = 1
) -> Job:
    """A job that does some work for an execution, run as the spec's policy says."""
    spec: RunPolicy = resource.spec
    metadata = resource.metadata
    return Job(
        name=name,
        owner=resource.ref,
        input=StepInput(
            job=name,
            owner=Owner(
                kind=resource.kind,
                namespace=metadata.namespace,
                name=metadata.name,
                uid=metadata.uid,
                generation=metadata.generation,
            ),
            execution=execution.id,
            completions=completions,
            work=work,
        ),
        completions=completions,
        parallelism=parallelism,
        backoff_limit=spec.retries,
        deadline=parse_duration(spec.deadline) if spec.deadline else None,
        resources=spec.resources,
        pod_template=spec.pod_template,
    )


def from_job(job: JobState | None, committed: Callable[[StepResult], dict[str, Any] | None]) -> Outcome:
    """The outcome of an execution that is one job; `committed` makes the status' fields of the result that has them."""
    if job is None or job.phase == "active":
        return Outcome()
    if job.phase == "failed":
        return Outcome(needs_job=False, failed=error_of(job), ended_at=job.finished_at)
    for result in job.results:
        update = committed(result)
        if update is not None:
            update = {**update, "warnings": warnings_of(job.results)}
            return Outcome(needs_job=False, done=True, ended_at=job.finished_at, update=update)
    return Outcome(needs_job=False, failed=no_result(job), ended_at=job.finished_at)


def no_result(job: JobState) -> StepError:
    """Why an execution failed whose job succeeded and says nothing."""
    message = (
        f"the job {job.name} ended without a result; look at its log, then ask for it again with the annotation "
        f"{names.ANNOTATION_REQUESTED}"
    )
    return StepError(reason=Reason.STEP_FAILED, message=message)


def error_of(job: JobState) -> StepError:
    """Why a job failed."""
    if job.error is not None:
        return job.error
    message = job.last_failure or f"the job {job.name} failed without saying why; look at its log"
    return StepError(reason=Reason.BACKOFF_EXCEEDED, message=message)


def warnings_of(results: Sequence[StepResult], *more: str) -> list[str]:
    """The warnings of a job's results, each once, within the status' bounds."""
    found = list(dict.fromkeys([w for result in results for w in result.warnings] + list(more)))
    if len(found) > WARNINGS:
        found = [*found[: WARNINGS - 1], f"… and {len(found) - WARNINGS + 1} more"]
    return [clipped(w, WARNING_LENGTH) for w in found]


def _advanced(run: Execution, outcome: Outcome, job: JobState | None, now: datetime) -> Execution:
    ended = outcome.ended_at or now
    if outcome.failed is not None:
        failure = {"reason": outcome.failed.reason, "message": clipped(outcome.failed.message, 4096)}
        return run.model_copy(update={"state": "Failed", "finished_at": ended, "progress": None, **failure})
    if outcome.done:
        return run.model_copy(update={"state": "Succeeded", "finished_at": ended, "progress": None})
    if job is not None and job.phase == "active" and job.progress is not None:
        seen = job.progress
        progress = Progress(step=seen.phase[:32], done=seen.done, total=seen.total, unit=seen.unit[:16])
        return run.model_copy(update={"progress": progress})
    return run.model_copy(update={"progress": None})


def _verdict(
    resource: Runnable,
    status: RunStatus,
    course: Course,
    decided: Decided,
    waiting: Waiting | None,
    job: JobState | None,
    outcome: Outcome,
) -> Verdict:
    run = status.execution
    failed_as: Literal["Failed"] | None = "Failed" if course.ends else None
    if run is None or decided.outdated or run.state == "Cancelled":
        if waiting is not None:
            return waits(waiting)
        message = "suspended before it was carried out; set spec.suspend to false to go on"
        return Verdict("False", Reason.SUSPENDED, message)
    if run.state == "Failed":
        return Verdict("False", run.reason or Reason.STEP_FAILED, run.message, stalled=True, ended=failed_as)
    if run.state == "Running" and waiting is not None and (job is None or job.phase != "active"):
        return waits(waiting)
    if run.state == "Succeeded" and outcome.failed is not None:
        return Verdict("False", outcome.failed.reason, outcome.failed.message, stalled=True, ended=failed_as)
    if run.state == "Running" or outcome.work:
        work = _work(run, course, job, outcome)
        # A changed spec makes Ready Unknown until it is carried out; the same spec carried out once more does not.
        changed = decided.fresh or (outcome.work and status.observed_generation != resource.status.observed_generation)
        if is_true(resource.status.conditions, ConditionType.READY) and not changed:
            return Verdict("True", Reason.SUCCEEDED, course.describe(status), work)
        return Verdict("Unknown", *work, work)
    message = course.describe(status)
    if waiting is not None:
        message = f"{message}; {waiting.message}"
    return Verdict("True", Reason.SUCCEEDED, message, ended="Complete" if course.ends else None)


def _work(run: Execution, course: Course, job: JobState | None, outcome: Outcome) -> tuple[Reason, str]:
    if outcome.work:
        return Reason.PROGRESSING, outcome.work
    if job is not None and job.retries:
        again = f"{course.step} failed {job.retries} time{'s' if job.retries > 1 else ''} and is tried again"
        return Reason.RETRYING, f"{again}: {job.last_failure}" if job.last_failure else again
    if job is not None and job.last_failure:
        return Reason.RETRYING, f"{course.step} {run.id} is held up: {job.last_failure}"
    return Reason.PROGRESSING, f"{course.step} {run.id} is running"


def waits(error: Waiting) -> Verdict:
    """The verdict on something that waits for another."""
    reason = Reason.WAITING_FOR_INPUT
    if isinstance(error, MissingReference):
        reason = Reason.WAITING_FOR_REFERENCE
    elif isinstance(error, ApprovalNeeded):
        reason = Reason.WAITING_FOR_APPROVAL
    return Verdict("False", reason, error.message)


def _started(resource: Runnable, execution: Execution, why: str) -> Decision:
    # What it follows tells it from the same execution earlier: its own start is another at each plan until it is kept.
    before = resource.status.execution
    since = before.started_at.isoformat() if before is not None else ""
    return Decision(
        Action.EXECUTION_STARTED,
        Reason.PROGRESSING,
        f"{execution.id} was started {why}",
        key=f"{execution.id}/{execution.attempt}/{since}",
        data={"execution": execution.id, "attempt": execution.attempt, "trigger": execution.trigger},
    )


def _failed(execution: Execution, error: StepError) -> Decision:
    return Decision(
        Action.EXECUTION_FAILED,
        error.reason,
        error.message,
        key=f"{execution.id}/{execution.attempt}/{execution.started_at.isoformat()}",
        data={"execution": execution.id, "attempt": execution.attempt},
    )
