"""Jobs as subprocesses: what Kubernetes' Indexed Job does, on one machine.

A job's folder holds its input, and for each index the log, the progress, the termination message and, once it is known,
the result. An index that has a result is never run again, whatever was killed when; a job that has ended stays ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
import structlog

from levada import names
from levada.engines.local import job_folder
from levada.engines.local.children import end
from levada.engines.local.forkers import Starter
from levada.engines.local.home import Home, remove_job, write_atomically
from levada.errors import StoreUnavailable
from levada.planners.plan import Job, JobState
from levada.resources import Ref
from levada.resources.conditions import Reason
from levada.steps.io import EXIT_USER_ERROR, ProgressRecord, StepError
from levada.stores.ports import ObjectNotFound, Objects

log = structlog.get_logger()

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 30.0  # seconds; doubled with each failed attempt of an index
GRACE = 5.0  # seconds that a cancelled step gets to end by itself
PROGRESS_EVERY = 5.0  # seconds between two looks at how far a job is, for its status: each may be a write


@dataclass(frozen=True)
class Pace:
    """How far a job is in its present phase, and how fast: units a second, 0 while that is not known."""

    record: ProgressRecord
    rate: float


@dataclass
class _Running:
    """A job that has not ended."""

    job: Job
    started: datetime
    retries: int = 0
    last_failure: str = ""
    # When its present phase was first seen, and how far it was then.
    phase: str = ""
    phase_since: float = 0.0
    phase_from: int = 0
    # What its status says of its progress, and when that was looked at.
    told: ProgressRecord | None = None
    looked: float = field(default_factory=time.monotonic)


def backoff(failed: int) -> float:
    """Seconds to wait after so many failed attempts of an index."""
    return float(min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (failed - 1)))


class Jobs:
    """Runs jobs; `changed(owner)` is called whenever there is something new to observe, `broken(error)` when a job
    ended by an error of the engine's own."""

    def __init__(
        self,
        home: Home,
        stores: Callable[[], Awaitable[tuple[Objects, dict[str, str]]]],
        slots: int,
        changed: Callable[[Ref], None],
        broken: Callable[[BaseException], None],
        forkers: Mapping[str, Starter],
    ) -> None:
        self._home = home
        self._folder = home.jobs
        self._stores = stores
        self._cores = slots
        self._slots = asyncio.Semaphore(slots)
        self._memory = _free_memory() // slots  # bytes of a step
        self._changed = changed
        self._broken = broken
        self._forkers = forkers
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, _Running] = {}
        self._ended: dict[str, JobState] = {}
        self._owners: dict[str, Ref] = {}
        for folder in sorted(self._folder.glob("*/*")):
            if (known := job_folder.read_state(folder)) is not None:
                key = f"{folder.parent.name}/{folder.name}"
                self._owners[key], self._ended[key] = known

    @property
    def active(self) -> int:
        """How many jobs have not ended."""
        return len(self._running)

    def runs(self, owner: Ref) -> bool:
        """Whether a job of a resource has not ended."""
        return any(self._owners[key] == owner for key in self._running)

    def of(self, owner: Ref) -> dict[str, JobState]:
        """The state of every job of a resource, by name."""
        return {
            key.partition("/")[2]: self._state(key) for key, its_owner in self._owners.items() if its_owner == owner
        }

    def is_new(self, job: Job) -> bool:
        """Whether no job of its name runs or has ended."""
        key = _key(job)
        return key not in self._tasks and key not in self._ended

    def ensure(self, job: Job) -> None:
        """Start a job unless one of its name runs or has ended."""
        if not self.is_new(job):
            return
        key = _key(job)
        job_folder.write_input(self._folder / key, job.input)
        self._owners[key] = job.owner
        folders = [self._folder / key / str(index) for index in range(job.completions)]
        failures = [said for folder in folders for said in job_folder.failures(folder)]
        started = job_folder.started(self._folder / key, job.deadline)
        self._running[key] = _Running(job, started, len(failures), failures[-1] if failures else "")
        task = self._tasks[key] = asyncio.create_task(self._run(key, job), name=key)
        # Not at the end of the coroutine: one that is cancelled before it begins never gets there.
        task.add_done_callback(lambda task: self._is_over(key, task))

    def _is_over(self, key: str, task: asyncio.Task[None]) -> None:
        owner = self._owners[key]
        del self._tasks[key]
        del self._running[key]
        if key not in self._ended:
            del self._owners[key]
        error = None if task.cancelled() else task.exception()
        while isinstance(error, BaseExceptionGroup):  # of several indexes: one is enough to end the run
            error = error.exceptions[0]
        if error is not None:
            self._broken(error)
        self._changed(owner)

    async def warm_up(self, steps: set[str]) -> None:
        """Load the libraries of some kinds of steps in the background."""
        for forker in set(self._forkers.values()):
            if wanted := {step for step in steps if self._forkers[step] is forker}:
                await forker.start(wanted)

    async def stop(self) -> None:
        """End what runs; it goes on from where it is the next time."""
        await self._cancel(self._tasks)

    def progress(self) -> Iterator[tuple[Ref, Pace]]:
        """How far every running job is."""
        now = time.monotonic()
        for key, running in list(self._running.items()):
            record = job_folder.progress(self._folder / key, running.job.completions)
            if record is None:
                continue
            if running.phase != record.phase or record.done < running.phase_from:
                running.phase, running.phase_since, running.phase_from = record.phase, now, record.done
            seconds = now - running.phase_since
            rate = (record.done - running.phase_from) / seconds if seconds > 0 else 0.0
            yield running.job.owner, Pace(record, rate)

    async def end_all_but(self, owner: Ref, names: set[str]) -> None:
        """End the running jobs of a resource that are not among `names`; nothing waits for them any more."""
        keys = [key for key in self._tasks if self._owners[key] == owner and key.split("/")[1] not in names]
        await self._cancel(keys)
        for key in keys:
            if key not in self._ended:
                job_folder.begin_anew(self._folder / key)

    def retry_failed(self) -> None:
        """Forget that jobs failed, so that they are tried once more; what their indexes did already stays done."""
        for key in [key for key, state in self._ended.items() if state.phase == "failed"]:
            job_folder.begin_anew(self._folder / key)
            del self._ended[key]
            del self._owners[key]

    async def prune(self, owner: Ref, needed: Collection[str]) -> None:
        """Remove jobs of a resource, with what they left in the store, that nobody will look at any more; those that
        are `needed` (names) stay."""
        running = {key.split("/")[1] for key in self._tasks if self._owners[key] == owner}
        old = job_folder.outdated(self._home.jobs_of(owner), {*needed, *running})
        try:
            for folder in old:
                objects, _ = await self._stores()
                await asyncio.to_thread(objects.delete_prefix, names.step_prefix(owner.namespace, folder.name))
                remove_job(folder)
                key = f"{owner.namespace}/{folder.name}"
                self._ended.pop(key, None)
                self._owners.pop(key, None)
        except StoreUnavailable as error:
            log.warning("old jobs are removed after the next success", resource=str(owner), error=str(error))

    async def _cancel(self, keys: Iterable[str]) -> None:
        tasks = [self._tasks[key] for key in keys]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- running -------------------------------------------------------------------------------------------------

    async def _run(self, key: str, job: Job) -> None:
        running = self._running[key]
        error: StepError | None = None
        left = job.deadline - (datetime.now(UTC) - running.started) if job.deadline is not None else None
        try:
            async with asyncio.timeout(left.total_seconds() if left is not None else None):
                await self._run_indexes(key, running)
        except TimeoutError:
            message = f"the deadline of {job.deadline} passed before it was done; allow more time in spec.deadline"
            error = StepError(reason=Reason.DEADLINE_EXCEEDED, message=message)
        except _GaveUp as gave_up:
            error = gave_up.error
        state = JobState(
            name=job.name,
            phase="failed" if error else "succeeded",
            results=tuple(job_folder.results(self._folder / key)),
            error=error,
            retries=running.retries,
            last_failure=running.last_failure,
            started_at=running.started,
            finished_at=datetime.now(UTC),
        )
        self._ended[key] = state
        job_folder.write_state(self._folder / key, state)

    async def _run_indexes(self, key: str, running: _Running) -> None:
        """All indexes, as many at a time as the job and the machine allow; the first that gives up ends the others."""
        limit = asyncio.Semaphore(max(1, running.job.parallelism))
        given_up: list[_GaveUp] = []
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(running.job.completions):
                    group.create_task(self._run_index(key, running, index, limit))
        except* _GaveUp as caught:
            given_up += [error for error in caught.exceptions if isinstance(error, _GaveUp)]
        if given_up:
            raise given_up[0]

    async def _run_index(self, key: str, running: _Running, index: int, limit: asyncio.Semaphore) -> None:
        folder = self._folder / key / str(index)
        failed = len(job_folder.failures(folder))
        while not await self._take_result(folder):
            async with limit, self._slots:
                error = await self._attempt(key, running.job, index, folder)
            if error is None:
                continue
            failed += 1
            try:
                job_folder.add_failure(folder, error.message)
            except OSError as full:  # this engine counts for itself; the next one counts anew
                log.warning("a failed attempt cannot be noted", job=key, error=str(full))
            running.last_failure = error.message
            if failed > running.job.backoff_limit:
                times = "once" if failed == 1 else f"{failed} times"
                raise _GaveUp(error.model_copy(update={"message": f"{error.message} (tried {times})"}))
            running.retries += 1
            self._changed(running.job.owner)
            await asyncio.sleep(backoff(failed))
        self._changed(running.job.owner)

    async def _attempt(self, key: str, job: Job, index: int, folder: Path) -> StepError | None:
        """Try an index once; why it failed, or None if its result is there. Raises _GaveUp where trying cannot help."""
        try:
            code = await self._execute(key, job, index, folder)
            if code == 0 and await self._take_result(folder):
                return None
        except StoreUnavailable as unavailable:
            return StepError(reason=Reason.STORE_UNAVAILABLE, message=str(unavailable))
        except OSError as refused:
            return StepError(reason=Reason.STEP_FAILED, message=f"the step could not be started: {refused}")
        termination = job_folder.termination(folder)
        error = termination.error if termination is not None else None
        if error is None:
            error = StepError(reason=Reason.STEP_FAILED, message=f"{_how_it_ended(code)}; see {folder / 'log.txt'}")
        if code == EXIT_USER_ERROR:
            raise _GaveUp(error)
        return error

    async def _execute(self, key: str, job: Job, index: int, folder: Path) -> int:
        """Run the process of an index; its exit code."""
        scratch = job_folder.prepare(folder)
        _, store_environment = await self._stores()
        environment = (
            os.environ
            | store_environment
            | {
                "JOB_COMPLETION_INDEX": str(index),
                "LEVADA_PROGRESS": str(folder / "progress.jsonl"),
                "LEVADA_TERMINATION_LOG": str(folder / "termination.json"),
                "LEVADA_SCRATCH": str(scratch),
                "LEVADA_ALLOW_FILE_SOURCES": "1",
                # Not a share: the indexes of a job seldom end together, and the last should have all cores.
                "LEVADA_CPUS": str(self._cores),
            }
        )
        # Memory is a share: each step by itself would take what it finds free for its own.
        environment.setdefault("LEVADA_MEMORY_LIMIT_BYTES", str(self._memory))
        step, arguments = job.input.work.step, [str(self._folder / key / "input.json")]
        child = await self._forkers[step].run(step, arguments, environment, folder / "log.txt")
        try:
            return await child.wait()
        finally:
            await end(child, GRACE)
            shutil.rmtree(scratch, ignore_errors=True)

    async def _take_result(self, folder: Path) -> bool:
        """Whether the index has its result; fetches it if a termination message points to it.

        Waits for a store that does not answer: the step is done, only its result is still to come.
        """
        if (folder / "result.json").exists():
            return True
        termination = job_folder.termination(folder)
        if termination is None or termination.result is None:
            return False
        while True:
            objects, _ = await self._stores()
            try:
                result = await asyncio.to_thread(objects.get, termination.result)
                break
            except ObjectNotFound:
                return False
            except StoreUnavailable as error:
                log.warning("a step is done, its result is waited for", error=str(error))
                await asyncio.sleep(FIRST_BACKOFF)
        write_atomically(folder / "result.json", result)
        return True

    # --- observing -----------------------------------------------------------------------------------------------

    def _state(self, key: str) -> JobState:
        if key in self._ended:
            return self._ended[key]
        running = self._running[key]
        return JobState(
            name=running.job.name,
            phase="active",
            results=tuple(job_folder.results(self._folder / key)),
            retries=running.retries,
            last_failure=running.last_failure,
            progress=self._told(key, running),
            started_at=running.started,
        )

    def _told(self, key: str, running: _Running) -> ProgressRecord | None:
        """How far a job is, as its status says it: looked at now and then, so that it is seldom written."""
        now = time.monotonic()
        if now - running.looked >= PROGRESS_EVERY:
            running.looked = now
            running.told = job_folder.progress(self._folder / key, running.job.completions)
        return running.told


def _key(job: Job) -> str:
    return f"{job.owner.namespace}/{job.name}"


def _free_memory() -> int:
    """Bytes that are available on the machine, or in the container that it is."""
    available: int = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # none of cgroup v2, or one without a limit
        available = min(available, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return available


class _GaveUp(Exception):
    """An index that will not be tried again."""

    def __init__(self, error: StepError) -> None:
        super().__init__(error.message)
        self.error = error


def _how_it_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the step was killed, as happens when memory runs out"
    if code < 0:
        return f"the step was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"the step ended with exit code {code} and without a result"
