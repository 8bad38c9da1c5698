"""Ingest: copy a source into a raw batch, typed, checked and profiled.

Below the batch's prefix: `source/listing.json` and, where columns are inferred, `source/schema.json` (the first index
writes them, all others read them); `original/` (the bytes as they came); `typed/` (Parquet, a file for each file of the
listing, whatever the parallelism; output.py says how a row is traced to its line); `quarantine/` (rows set aside: file,
line, column, reason, raw text); `receipts/` (the share of each index); last of all `manifest.json`. Whichever index
sees the receipts of all commits the batch. Every file follows from listing and schema alone, so that whoever is killed
leaves nothing that a second attempt would not write again, byte for byte.

A batch that cannot be made gives its listing up, so that the next attempt sees the source as it is then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from levada import names
from levada.errors import Stalled
from levada.methods.formats import FORMATS
from levada.methods.quality import expand
from levada.methods.sources import Access, open_source
from levada.settings import Settings
from levada.steps.context import StepContext
from levada.steps.ingest.commit import build_manifest, committed, drafted, quality_results
from levada.steps.ingest.listing import SOURCE, agreed_listing, agreed_schema
from levada.steps.ingest.part import Part
from levada.steps.ingest.receipt import Receipt, receipts_prefix
from levada.steps.ingest.whole import STAGED, examine, must_stage
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
        try:
            output = _ingest(context, work, prefix)
        except Stalled:
            objects.delete_prefix(prefix + SOURCE)
            raise
        except ObjectNotFound:
            # Another index saw all receipts too, and took staged rows away once it had committed the batch.
            if objects.info(prefix + names.MANIFEST) is None:
                raise
            output = committed(context, prefix, objects.get(prefix + names.MANIFEST))
    if output is not None:
        objects.delete_prefix(prefix + STAGED)
    return output


def _ingest(context: StepContext, work: IngestWork, prefix: str) -> IngestOutput | None:
    spec, objects = work.spec, context.objects
    with _timed(context, "list"):
        reader = FORMATS[spec.format.type](spec.format)
        source = open_source(spec.source, Access(Settings(), context.allow_file_sources))
        listing = agreed_listing(objects, prefix, source, context.now())
        schema = agreed_schema(objects, prefix, spec.schema_, listing, source, reader, context.scratch)
        demands = expand(spec.quality, schema.columns)
    by_rows = [demand for demand in demands if not demand.needs_all_rows]
    by_batch = [demand for demand in demands if demand.needs_all_rows]
    place = receipts_prefix(prefix, listing, schema, spec, context.input.completions)

    key = f"{place}{context.index}.json"
    if objects.info(key) is None:
        with _timed(context, "ingest"):
            part = Part(context, prefix, source, reader, listing, schema, by_rows, must_stage(by_batch))
            objects.put(key, part.run().to_bytes())

    receipts = [objects.get(info.key) for info in objects.list(place)]
    if len(receipts) < context.input.completions:
        return None
    with _timed(context, "commit"):
        draft = drafted([Receipt.from_bytes(receipt) for receipt in receipts], len(schema.columns))
        if by_batch:
            draft = examine(context, prefix, schema.columns, by_batch, draft)
        quality = quality_results(by_rows, by_batch, draft)
        manifest = build_manifest(context, work.batch, listing, spec.schema_, schema, quality, draft)
        data, _ = context.put_manifest(prefix + names.MANIFEST, manifest)
        return committed(context, prefix, data)


@contextmanager
def _timed(context: StepContext, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    context.timings[phase] = round(time.perf_counter() - start, 3)
