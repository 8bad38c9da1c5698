"""Making a batch: what all indexes agree on, the share of this one, and the commit by the last."""

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
from levada.steps.agreed import agreed_listing, do_shares, from_source, others_ended, receipts
from levada.steps.context import StepContext
from levada.steps.ingest.announce import committed
from levada.steps.ingest.commit import build_manifest, drafted, forget_unnamed, quality_results
from levada.steps.ingest.listing import agreed_schema
from levada.steps.ingest.part import Part, must_stage
from levada.steps.ingest.receipt import Receipt, receipts_prefix
from levada.steps.io import IngestOutput, IngestWork


def make_batch(context: StepContext, work: IngestWork, prefix: str) -> IngestOutput | None:
    """Do the share of this index; the batch, if it was the last that was missing.

    Of a batch that is refused nothing stays, unless another index may still be at work with it.
    """
    try:
        return from_source(context, prefix, lambda: _make(context, work, prefix))
    except Stalled:
        if others_ended(context) and context.objects.info(prefix + names.MANIFEST) is None:
            context.objects.delete_prefix(prefix)
        raise


def _make(context: StepContext, work: IngestWork, prefix: str) -> IngestOutput | None:
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

    part = Part(context, prefix, source, reader, listing, schema, by_rows, must_stage(by_batch))
    with _timed(context, "ingest"):
        do_shares(context, place, part.run)
    found = receipts(context, place)
    if found is None:
        return None
    with _timed(context, "commit"):
        draft = drafted([Receipt.from_bytes(receipt) for receipt in found], len(schema.columns))
        if by_batch:
            from levada.steps.ingest.whole import examine  # DuckDB takes its time to load

            draft = examine(context, prefix, schema.columns, by_batch, draft)
        quality = quality_results(by_rows, by_batch, draft)
        manifest = build_manifest(context, work.batch, listing, spec.schema_, schema, quality, draft)
        forget_unnamed(context.objects, prefix, manifest)
        data, _ = context.put_manifest(prefix + names.MANIFEST, manifest)
        return committed(context, prefix, data)


@contextmanager
def _timed(context: StepContext, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    context.timings[phase] = round(time.perf_counter() - start, 3)
