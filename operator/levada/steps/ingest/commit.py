"""What the last index does: put the receipts together into a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from levada.artifacts import BatchManifest, Listing, QualityResult, StoredFile
from levada.errors import Stalled
from levada.methods.quality import Demand, Finding
from levada.resources.conditions import Reason
from levada.resources.dataset import DataSchema
from levada.steps.context import StepContext
from levada.steps.ingest.profile import Sketch, column_profile, merge
from levada.steps.ingest.receipt import BatchSchema, FileReceipt, Receipt
from levada.stores.ports import Objects


@dataclass(frozen=True)
class Draft:
    """A batch whose files all lie there."""

    files: list[FileReceipt]  # in the order of the listing
    sketches: list[Sketch]  # of each column
    extra: list[StoredFile] = field(default_factory=list)  # rows set aside by demands on the whole batch
    extra_rows: int = 0
    findings: list[Finding] = field(default_factory=list)  # of each demand on the whole batch


def drafted(receipts: Sequence[Receipt], columns: int) -> Draft:
    """The batch as the receipts have it."""
    sketches = [Sketch() for _ in range(columns)]
    for receipt in receipts:
        for sketch, text in zip(sketches, receipt.distinct, strict=True):
            sketch.merge(Sketch.from_text(text))
    files = [file for receipt in receipts for file in receipt.files]
    return Draft(sorted(files, key=lambda file: file.number), sketches)


def build_manifest(
    context: StepContext,
    batch: str,
    listing: Listing,
    declared: DataSchema,
    schema: BatchSchema,
    quality: list[QualityResult],
    draft: Draft,
) -> BatchManifest:
    """The manifest of a batch; raises Stalled if no rows are left."""
    owner, files = context.input.owner, draft.files
    rows = sum(file.rows for file in files)
    quarantined = sum(file.quarantined for file in files) + draft.extra_rows
    first = next((file.first_bad for file in files if file.first_bad), "")
    if not rows and quarantined:
        raise Stalled(
            Reason.INVALID_DATA,
            f"none of the {quarantined} rows can be used ({first}): correct the data, spec.format, spec.schema or "
            "spec.quality",
        )
    if not rows:
        raise Stalled(Reason.NO_ROWS, f"the source has no rows: there is nothing but headers in its {len(files)} files")
    profile = [
        column_profile(column, merge(file.moments[i] for file in files), draft.sketches[i])
        for i, column in enumerate(schema.columns)
    ]
    return BatchManifest(
        batch=batch,
        namespace=owner.namespace,
        dataset=owner.name,
        columns=schema.columns,
        time_column=declared.time_column,
        keys=declared.keys,
        rows=rows,
        quarantined=quarantined,
        first_quarantined=first,
        originals=[file.original for file in files],
        typed=[file.typed for file in files if file.typed is not None],
        quarantine=[file.quarantine for file in files if file.quarantine is not None] + draft.extra,
        quality=quality,
        profile=profile,
        created_at=listing.listed_at,
    )


def forget_unnamed(objects: Objects, prefix: str, manifest: BatchManifest) -> None:
    """Delete what an attempt with other files has left: the folders of a batch hold what its manifest names.

    Whoever commits has the receipts of all indexes, so that none of them writes any more; another who commits at the
    same time names the same files. Rows under `staged/` it may still read.
    """
    named = {prefix + file.key for file in [*manifest.originals, *manifest.typed, *manifest.quarantine]}
    found = [info.key for folder in ("original/", "typed/", "quarantine/") for info in objects.list(prefix + folder)]
    objects.delete([key for key in found if key not in named])


def quality_results(by_rows: Sequence[Demand], by_batch: Sequence[Demand], draft: Draft) -> list[QualityResult]:
    """What the checks found; raises Stalled (QualityRefused) if a broken demand refuses the batch."""
    results = []
    for i, demand in enumerate(by_rows):
        found = [(file.violations[i], file) for file in draft.files]
        first = next((f"{_path(file)} line {seen.line}: {seen.value}" for seen, file in found if seen.count), "")
        results.append(_result(demand, sum(seen.count for seen, _ in found), first))
    paths = {file.number: _path(file) for file in draft.files}
    for demand, finding in zip(by_batch, draft.findings, strict=True):
        first = f"row {finding.row + 1} of {paths[finding.file]}: {finding.value}" if finding.violations else ""
        results.append(_result(demand, finding.violations, first))
    return results


def _result(demand: Demand, count: int, first: str) -> QualityResult:
    if count and demand.action == "refuse":
        raise Stalled(
            Reason.QUALITY_REFUSED,
            f"the batch is refused: {count} values of the column '{demand.column}' break {demand.text} (first in "
            f"{first}); correct the data, or the check in spec.quality",
        )
    return QualityResult(column=demand.column, check=demand.text, violations=count, action=demand.action)


def _path(file: FileReceipt) -> str:
    return file.original.key.removeprefix("original/")
