"""What the process of a step does: it reads the input, runs the step, leaves result and termination.

This is the composition root of a step: it opens the stores that settings.py names and hands them over.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import time
import traceback
from pathlib import Path

from levada import names
from levada.errors import Stalled, StoreUnavailable, printable
from levada.resources.conditions import Reason
from levada.settings import Settings
from levada.steps.context import ProgressFile, ProgressObject, StepContext
from levada.steps.io import EXIT_USER_ERROR, TERMINATION_LIMIT, StepError, StepInput, StepResult, Termination
from levada.stores.failpoints import after_write
from levada.stores.open import open_catalogue, open_objects, open_online

EXIT_RETRY = 1


def main(path: Path) -> int:
    """Run the step whose StepInput lies at `path`; its exit code."""
    settings = Settings()
    step_input = StepInput.from_bytes(path.read_bytes())
    index = int(os.environ.get("JOB_COMPLETION_INDEX", "0"))

    def kept(progress: bytes) -> None:
        key = names.progress_key(step_input.owner.namespace, step_input.job, index)
        context.objects.put(key, progress)

    with tempfile.TemporaryDirectory(prefix="levada-", dir=settings.scratch) as scratch:
        context = StepContext(
            input=step_input,
            index=index,
            scratch=Path(scratch),
            open_objects=lambda: open_objects(settings),
            open_catalogue=lambda: open_catalogue(settings),
            open_online=lambda: open_online(settings),
            allow_file_sources=settings.allow_file_sources,
            memory_limit_bytes=settings.memory_limit_bytes,
            progress=ProgressFile(settings.progress)
            if settings.progress is not None
            else ProgressObject(kept, settings.progress_seconds),
        )
        try:
            termination = _run(context)
            code = 0
        except Stalled as stalled:
            termination = Termination(error=StepError(reason=stalled.reason, message=stalled.message))
            code = EXIT_USER_ERROR
        except Exception as error:
            traceback.print_exc()
            reason = Reason.STORE_UNAVAILABLE if isinstance(error, StoreUnavailable) else Reason.STEP_FAILED
            # One line: the log has the whole.
            text = printable(" ".join(str(error).split()))
            message = text if isinstance(error, StoreUnavailable) else f"{type(error).__name__}: {text}"
            termination = Termination(error=StepError(reason=reason, message=message))
            code = EXIT_RETRY
    _leave(settings.termination_log, termination)
    return code


def _run(context: StepContext) -> Termination:
    started = time.perf_counter()
    step = importlib.import_module(f"levada.steps.{context.input.work.step}")
    output = step.run(context)
    context.timings["total"] = round(time.perf_counter() - started, 3)
    result = StepResult(
        job=context.input.job,
        index=context.index,
        output=output,
        warnings=context.warnings[:32],
        timings=context.timings,
        finished_at=context.now(),
    )
    data = result.to_bytes()
    key = f"{context.input.result_prefix}{context.index}.json"
    context.objects.put(key, data)
    return Termination(result=key, digest=names.digest(data))


def _leave(path: Path, termination: Termination) -> None:
    """Write the termination message whole or not at all, unless it is a file already (a container's mount)."""
    data = termination.to_bytes()
    if len(data) > TERMINATION_LIMIT and termination.error is not None:
        cut = termination.error.message.encode()[: TERMINATION_LIMIT // 4].decode(errors="ignore") + " …"
        data = Termination(error=StepError(reason=termination.error.reason, message=cut)).to_bytes()
    if path.exists():
        path.write_bytes(data)
    else:
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_bytes(data)
        unfinished.rename(path)
    after_write("termination message")
