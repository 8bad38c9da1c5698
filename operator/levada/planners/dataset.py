"""Dataset: one ingestion at a time, each a batch of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from levada import names
from levada.names import Prefix
from levada.planners import executions, supported
from levada.planners.course import INITIAL, NEW_INPUTS, Course, Inputs, Outcome
from levada.planners.plan import Job, JobState, Observed, Plan
from levada.resources import Dataset
from levada.resources.base import essence
from levada.resources.dataset import BatchStatus, DatasetStatus
from levada.resources.status import Execution, RunStatus, Status
from levada.steps.io import IngestOutput, IngestWork, StepResult

BATCHES_SHOWN = 1000  # as DatasetStatus bounds them


def plan(dataset: Dataset, observed: Observed, now: datetime) -> Plan:
    """Ingest the source: the first time, when it is seen to have changed, and at each tick or message."""
    supported.check(dataset, local=observed.local)
    spec, status, metadata = dataset.spec, dataset.status, dataset.metadata

    def identify(trigger: str, _: Inputs, source: str | None) -> str:
        # Each tick, message and request takes the data anew; content that is seen is told apart by itself.
        occurrence = None if trigger in (INITIAL, NEW_INPUTS) else trigger
        wanted = essence(spec)
        data = {key: wanted.get(key) for key in ("source", "format", "schema", "quality")}
        return names.derived_id(Prefix.BATCH, [metadata.namespace, metadata.name, data, occurrence, source])

    def build(execution: Execution, name: str) -> Job:
        parts = spec.partitions.parallelism
        work = IngestWork(batch=execution.id, spec=spec)
        return executions.step_job(dataset, execution, name, work, completions=parts, parallelism=parts)

    def advance(_: Execution, job: JobState | None) -> Outcome:
        return executions.from_job(job, lambda result: committed(result, status, observed.bucket))

    course = Course("ingest", identify, [], build, advance, _describe, source=observed.source)
    planned = executions.carry_out(dataset, observed, now, course)
    if spec.schedule is not None and spec.schedule.concurrency_policy == "Allow":
        planned = replace(planned, status=_with_overlapping(planned.status, observed))
    return planned


def _with_overlapping(status: Status, observed: Observed) -> DatasetStatus:
    """The status with the batches of older executions that ended beside the newest one, behind its batch."""
    assert isinstance(status, DatasetStatus)
    outputs = [result.output for job in observed.jobs.values() for result in job.results]
    made = {o.manifest.batch: o.manifest.created_at for o in outputs if isinstance(o, IngestOutput)}
    newest, others = status.batches[:1], status.batches[1:]
    # Batches whose jobs are not known any more are older than those whose are.
    behind = sorted(made.keys() - set(newest), key=lambda batch: (made[batch], batch), reverse=True)
    behind += [batch for batch in others if batch not in made]
    batches = [*newest, *behind][:BATCHES_SHOWN]
    added = len(set(batches) - set(status.batches))  # what is cut off is not missing
    if not added:
        return status
    return status.model_copy(update={"batches": batches, "batch_count": status.batch_count + added})


def committed(result: StepResult, status: DatasetStatus, bucket: str) -> dict[str, Any] | None:
    """The status' fields after an ingestion, from the result that committed it."""
    output = result.output
    if not isinstance(output, IngestOutput):
        return None
    manifest = output.manifest
    batch = BatchStatus(
        id=manifest.batch,
        uri=f"s3://{bucket}/{output.prefix}",
        digest=output.digest,
        rows=manifest.rows,
        quarantined=manifest.quarantined,
        files=len(manifest.originals),
        bytes=sum(file.bytes for file in manifest.originals),
        created_at=manifest.created_at,
    )
    older = [id for id in status.batches if id != batch.id]
    return {
        "latest_batch": batch,
        "batches": [batch.id, *older][:BATCHES_SHOWN],
        "batch_count": status.batch_count + (batch.id not in status.batches),
        "columns": manifest.columns,
    }


def _describe(status: RunStatus) -> str:
    assert isinstance(status, DatasetStatus)
    batch = status.latest_batch
    assert batch is not None
    aside = f", {batch.quarantined:,} set aside" if batch.quarantined else ""
    return f"{batch.id}: {batch.rows:,} rows{aside} from {batch.files:,} file{'' if batch.files == 1 else 's'}"
