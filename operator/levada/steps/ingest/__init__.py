"""Ingest: copy a source into a raw batch, typed, checked and profiled.

Below the batch's prefix: `source/listing.json` and, where columns are inferred, `source/schema.json` (the first index
writes them, all others read them); `original/` (the bytes as they came); `typed/` (Parquet, a file for each file of the
listing, whatever the parallelism; output.py says how a row is traced to its line); `quarantine/` (rows set aside: file,
line, column, reason, raw text); `receipts/` (the share of each index); last of all `manifest.json`. Whichever index
sees the receipts of all commits the batch. Every file follows from listing and schema alone, so that whoever is killed
leaves nothing that a second attempt would not write again, byte for byte.

A batch that cannot be made gives its listing up, so that the next attempt sees the source as it is then, and leaves
nothing once no index is at work with it; what an attempt with other files has left goes before the manifest is written.
"""

from __future__ import annotations

from levada import names
from levada.steps.context import StepContext
from levada.steps.ingest.announce import committed
from levada.steps.ingest.receipt import STAGED
from levada.steps.io import IngestOutput, IngestWork
from levada.stores.ports import ObjectNotFound


def run(context: StepContext) -> IngestOutput | None:
    """Ingest the share of this index, and commit the batch if it was the last that was missing.

    Raises Stalled, with one sentence that names the file, the line or the column, for whatever only the user can put
    right; StoreUnavailable and other errors may be tried again.
    """
    work = context.input.work
    assert isinstance(work, IngestWork)
    owner, objects = context.input.owner, context.objects
    prefix = names.batch_prefix(owner.namespace, owner.name, work.batch)
    try:
        output: IngestOutput | None = committed(context, prefix, objects.get(prefix + names.MANIFEST))
    except ObjectNotFound:
        from levada.steps.ingest.batch import make_batch  # with libraries that a finished batch has no need of

        try:
            output = make_batch(context, work, prefix)
        except ObjectNotFound:
            # Another index saw all receipts too, and took staged rows away once it had committed the batch.
            if objects.info(prefix + names.MANIFEST) is None:
                raise
            output = committed(context, prefix, objects.get(prefix + names.MANIFEST))
    if output is not None:
        objects.delete_prefix(prefix + STAGED)
    return output
