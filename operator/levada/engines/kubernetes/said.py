"""What steps leave in the object store for whoever looks after them: results, and how far they are."""

from __future__ import annotations

from contextlib import suppress

from levada import names
from levada.engines.progress import combined
from levada.errors import StoreUnavailable
from levada.steps.io import ProgressRecord, StepResult
from levada.stores.ports import ObjectNotFound, Objects


def read_result(objects: Objects, namespace: str, job: str, index: int) -> StepResult:
    """The result of an index that has ended well. Raises StoreUnavailable."""
    key = f"{names.step_prefix(namespace, job)}{index}.json"
    try:
        return StepResult.from_bytes(objects.get(key))
    except ObjectNotFound as error:
        raise StoreUnavailable(f"the result of index {index} of {job} is not there: {error}") from error


def read_progress(objects: Objects, namespace: str, job: str, completions: int) -> ProgressRecord | None:
    """How far a job of so many indexes is, as far as they have said anything and the store answers."""
    records = []
    with suppress(StoreUnavailable):
        for index in range(completions):
            with suppress(ObjectNotFound, ValueError):
                data = objects.get(names.progress_key(namespace, job, index))
                records.append(ProgressRecord.model_validate_json(data))
    return combined(records, completions)
