"""What a job has on disk: its input, how it ended, and for each index log, progress, termination message and result."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from levada.engines import retention
from levada.engines.local.home import understanding, write_atomically
from levada.engines.progress import combined
from levada.planners.plan import JobState
from levada.resources import Ref
from levada.steps.io import ProgressRecord, StepError, StepInput, StepResult, Termination

_FAILURES = "failures.txt"  # of an index: a line for each attempt that failed
_TAIL = 4096  # bytes at the end of a progress file that hold its last record


def write_input(folder: Path, wanted: StepInput) -> None:
    """Write what the steps of a job are given; the spec may have been edited since the job was stopped."""
    path = folder / "input.json"
    if path.exists():
        with understanding(path, f"remove {folder}, and the job is done again"):
            before = StepInput.from_bytes(path.read_bytes())
        if before.completions != wanted.completions:
            # What the index of so many has done is not what the same index of another number has to do.
            for index in folder.glob("*/"):
                shutil.rmtree(index)
            (folder / "started").unlink(missing_ok=True)
    write_atomically(path, wanted.to_bytes())


def started(folder: Path, deadline: timedelta | None) -> datetime:
    """When a job was started, by this engine or one before it; that is now, if it was not yet.

    One whose deadline has passed while no engine ran begins anew.
    """
    mark = folder / "started"
    if mark.exists():
        began = datetime.fromtimestamp(mark.stat().st_mtime, UTC)
        if deadline is None or datetime.now(UTC) - began < deadline:
            return began
    mark.touch()
    return datetime.fromtimestamp(mark.stat().st_mtime, UTC)


def failures(index: Path) -> list[str]:
    """What the failed attempts of an index said, under this engine and those before it."""
    try:
        return (index / _FAILURES).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def add_failure(index: Path, message: str) -> None:
    """Remember that an attempt of an index failed; OSError where the disk takes nothing."""
    index.mkdir(parents=True, exist_ok=True)  # the attempt may have failed at that
    with (index / _FAILURES).open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(" ".join(message.split()) + "\n")


def begin_anew(folder: Path) -> None:
    """Give a job that failed or was ended all of its time and attempts again; what its indexes did stays done."""
    for path in (folder / "started", *folder.glob(f"*/{_FAILURES}"), folder / "state.json"):
        path.unlink(missing_ok=True)


def prepare(index: Path) -> Path:
    """Take away what an earlier attempt of an index left; its scratch folder."""
    scratch = index / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for left in ("progress.jsonl", "termination.json"):
        (index / left).unlink(missing_ok=True)
    return scratch


def termination(index: Path) -> Termination | None:
    """What the last attempt of an index left; None if it left nothing that can be read."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return Termination.from_bytes((index / "termination.json").read_bytes())
    return None


def results(folder: Path) -> Iterator[StepResult]:
    """The results of the indexes that ended, in their order."""
    for path in sorted(folder.glob("*/result.json"), key=lambda p: int(p.parent.name)):
        yield StepResult.from_bytes(path.read_bytes())


def progress(folder: Path, completions: int) -> ProgressRecord | None:
    """How far a job is; None if none of its indexes has said anything."""
    records = []
    for index in range(completions):
        with contextlib.suppress(OSError, ValueError, IndexError):
            records.append(_last_record(folder / str(index) / "progress.jsonl"))
    return combined(records, completions)


def write_state(folder: Path, state: JobState) -> None:
    """Keep how a job ended."""
    data = {
        "phase": state.phase,
        "error": state.error.document() if state.error else None,
        "retries": state.retries,
        "lastFailure": state.last_failure,
        "startedAt": state.started_at.isoformat() if state.started_at else None,
        "finishedAt": state.finished_at.isoformat() if state.finished_at else None,
    }
    write_atomically(folder / "state.json", json.dumps(data).encode())


def read_state(folder: Path) -> tuple[Ref, JobState] | None:
    """How a job ended, and whose it is; None if it has not ended."""
    path = folder / "state.json"
    if not path.exists() or not (folder / "input.json").exists():
        return None
    with understanding(path, f"remove {folder}, and the job is done again"):
        data = json.loads(path.read_bytes())
        owner = StepInput.from_bytes((folder / "input.json").read_bytes()).owner
        state = JobState(
            name=folder.name,
            phase=data["phase"],
            results=tuple(results(folder)),
            error=StepError.model_validate(data["error"]) if data["error"] else None,
            retries=data["retries"],
            last_failure=data["lastFailure"],
            started_at=datetime.fromisoformat(data["startedAt"]),
            finished_at=datetime.fromisoformat(data["finishedAt"]),
        )
    return Ref(owner.kind, owner.namespace, owner.name), state


def outdated(folders: Iterable[Path], needed: Collection[str]) -> list[Path]:
    """Which of the jobs of a resource nobody will look at any more; `needed` are the names of others."""
    newest = sorted(folders, key=lambda folder: (folder / "input.json").stat().st_mtime_ns, reverse=True)
    found = {folder.name: folder for folder in newest}
    return [found[name] for name in retention.outdated({name: _succeeded(found[name]) for name in found}, needed)]


def _succeeded(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "state.json").read_bytes())["phase"] == "succeeded")
    except FileNotFoundError:
        return False


def _last_record(path: Path) -> ProgressRecord:
    """The last record of a progress file. It may be long, and is looked at several times a second."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        return ProgressRecord.model_validate_json(file.read().splitlines()[-1])
