"""The end of an ingestion: the catalogue and everyone who listens learn of a batch whose manifest stands there."""

from __future__ import annotations

from levada import names
from levada.artifacts import BatchManifest
from levada.events import EventType
from levada.steps.context import StepContext
from levada.steps.ingest.receipt import SCHEMA, BatchSchema
from levada.steps.io import IngestOutput
from levada.stores.ports import ObjectNotFound


def committed(context: StepContext, prefix: str, data: bytes) -> IngestOutput:
    """The output of a batch whose manifest stands there, once the catalogue has it too."""
    manifest, digest, uri = BatchManifest.from_bytes(data), names.digest(data), context.objects.uri(prefix)
    event = context.event(
        EventType.RAW_DATA_EXTRACTED,
        key=(manifest.namespace, manifest.dataset, manifest.batch),
        time=manifest.created_at,
        data={
            "batch": manifest.batch,
            "uri": uri,
            "digest": digest,
            "rows": manifest.rows,
            "quarantined": manifest.quarantined,
            "files": len(manifest.originals),
        },
    )
    context.catalogue.commit_batch(manifest, uri, digest, event)
    for warning in warnings_of(manifest, prefix) + _notes(context, prefix):
        context.warn(warning)
    return IngestOutput(prefix=prefix, digest=digest, manifest=manifest)


def _notes(context: StepContext, prefix: str) -> list[str]:
    """What there is to say of the columns, if they were inferred."""
    try:
        return BatchSchema.from_bytes(context.objects.get(prefix + SCHEMA)).notes
    except ObjectNotFound:
        return []


def warnings_of(manifest: BatchManifest, prefix: str) -> list[str]:
    """What a person should know of a batch."""
    warnings = []
    if manifest.quarantined:
        total = manifest.rows + manifest.quarantined
        first = f" (the first: {manifest.first_quarantined})" if manifest.first_quarantined else ""
        warnings.append(
            f"{manifest.quarantined} of {total} rows were set aside{first}; {prefix}quarantine/ has them and why"
        )
    done = {"rectify": "rectified", "quarantine": "set aside", "warn": "kept"}
    for result in manifest.quality:
        if result.violations:
            warnings.append(
                f"{result.violations} values of the column '{result.column}' break {result.check} and were "
                f"{done[result.action]}"
            )
    return warnings
