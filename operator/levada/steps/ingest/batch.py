"""Making a batch: what all indexes agree on, the share of this one, and the commit by the last."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from levada import names
from levada.errors import Stalled
from levada.methods.formats import FORMATS
from levada.methods.quality import expand
from levada.methods.sources import Access, SourceChanged, open_source
from levada.settings import Settings
from levada.steps.context import StepContext
from levada.steps.ingest.announce import committed
from levada.steps.ingest.commit import build_manifest, drafted, quality_results
from levada.steps.ingest.listing import agreed_listing, agreed_schema
from levada.steps.ingest.part import Part, must_stage
from levada.steps.ingest.receipt import SOURCE, Receipt, receipts_prefix
from levada.steps.io import IngestOutput, IngestWork


def make_batch(context: StepContext, work: IngestWork, prefix: str) -> IngestOutput | None:
    """Do the share of this index; the batch, if it was the last that was missing.

    If the batch cannot be made, its listing is given up. A listing that is older than a change of the source is taken
    anew at once, if no other index may be at work with it.
    """
    try:
        return _make(context, work, prefix)
    except Stalled as stalled:
        context.objects.delete_prefix(prefix + SOURCE)
        others = [index for index in range(context.input.completions) if index != context.index]
        if not isinstance(stalled, SourceChanged) or not all(_has_ended(context, index) for index in others):
            raise
    try:
        return _make(context, work, prefix)
    except Stalled:
        context.objects.delete_prefix(prefix + SOURCE)
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
        _do_share(part, place, context.index)
        for index in range(context.input.completions):
            # An index that ended well while the source was another is not run again: its share is done for it.
            if _has_ended(context, index):
                _do_share(part, place, index)

    receipts = [objects.get(info.key) for info in objects.list(place)]
    if len(receipts) < context.input.completions:
        return None
    with _timed(context, "commit"):
        draft = drafted([Receipt.from_bytes(receipt) for receipt in receipts], len(schema.columns))
        if by_batch:
            from levada.steps.ingest.whole import examine  # DuckDB takes its time to load

            draft = examine(context, prefix, schema.columns, by_batch, draft)
        quality = quality_results(by_rows, by_batch, draft)
        manifest = build_manifest(context, work.batch, listing, spec.schema_, schema, quality, draft)
        data, _ = context.put_manifest(prefix + names.MANIFEST, manifest)
        return committed(context, prefix, data)


def _has_ended(context: StepContext, index: int) -> bool:
    """Whether an index has left its result."""
    return context.objects.info(f"{context.input.result_prefix}{index}.json") is not None


def _do_share(part: Part, place: str, index: int) -> None:
    """Do the share of an index, unless its receipt lies there."""
    objects, key = part.context.objects, f"{place}{index}.json"
    if objects.info(key) is None:
        objects.put(key, part.run(index).to_bytes())


@contextmanager
def _timed(context: StepContext, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    context.timings[phase] = round(time.perf_counter() - start, 3)
