"""The score step: a model's scores of many rows (SCORE-4).

Index i of n takes the i-th of n contiguous parts of the rows and writes `part-0000i-of-0000n.parquet` below the
execution's prefix (nothing for a part without rows), its rows into the catalogue, and then a receipt. Whichever index
finds all receipts there writes the manifest and commits; nothing is seen of the scores before. A part that was killed
and runs again replaces what it left.

Where files are scored, the first index to look writes `source/listing.json`, all read the files as they are listed
there, and the manifest names them.
"""

from __future__ import annotations

from levada import names
from levada.artifacts import ModelManifest, ScoresManifest
from levada.errors import Stalled
from levada.events import EventType
from levada.resources.conditions import Reason
from levada.steps.agreed import do_shares, from_source, receipts
from levada.steps.context import StepContext
from levada.steps.io import ScoreOutput, ScoreWork
from levada.steps.score.receipt import Part, Receipt, division, draft, receipts_prefix
from levada.stores.ports import ObjectNotFound


def run(context: StepContext) -> ScoreOutput | None:
    """Score this index's part; the output of the whole if all are done. Raises Stalled if model or rows are unfit."""
    work = context.input.work
    assert isinstance(work, ScoreWork)
    owner, objects = context.input.owner, context.objects
    prefix = names.scores_prefix(owner.namespace, owner.name, work.execution)
    try:
        return _commit(context, work, prefix, objects.get(prefix + names.MANIFEST))
    except ObjectNotFound:
        pass
    model = _model(context, work)
    return from_source(context, prefix, lambda: _score(context, work, model, prefix))


def _score(context: StepContext, work: ScoreWork, model: ModelManifest, prefix: str) -> ScoreOutput | None:
    from levada.steps.score.source import listed  # with libraries that finished scores have no need of

    listing = listed(context, work, prefix)
    divided = division(context.input.completions, listing)
    place = receipts_prefix(prefix, divided)
    _forget_other_receipts(context, prefix, place)

    def share(index: int) -> Receipt:
        from levada.steps.score.part import score_part

        return score_part(context, work, model, Part(prefix, divided, index, listing))

    do_shares(context, place, share)
    found = receipts(context, place)
    if found is None:
        return None
    parts = [Receipt.from_bytes(data) for data in found]
    manifest = draft(context, work, model, listing).model_copy(
        update={"rows": sum(p.rows for p in parts), "files": [p.file for p in parts if p.file is not None]}
    )
    data, _ = context.put_manifest(prefix + names.MANIFEST, manifest)
    return _commit(context, work, prefix, data)


def _forget_other_receipts(context: StepContext, prefix: str, place: str) -> None:
    """Other divisions of the rows are over: parts of this one take the places of theirs in the catalogue."""
    there = {info.key.rpartition("/")[0] + "/" for info in context.objects.list(f"{prefix}receipts/")}
    for other in there - {place}:
        context.objects.delete_prefix(other)


def _model(context: StepContext, work: ScoreWork) -> ModelManifest:
    try:
        return ModelManifest.from_bytes(context.objects.get(work.model_prefix + names.MANIFEST))
    except ObjectNotFound as error:
        raise Stalled(
            Reason.SOURCE_NOT_FOUND,
            f"the model of the candidate '{work.candidate}' is not there any more ({error}): train or register it anew",
        ) from error


def _commit(context: StepContext, work: ScoreWork, prefix: str, data: bytes) -> ScoreOutput:
    """Make scores whose manifest is written known, once."""
    manifest, digest, owner = ScoresManifest.from_bytes(data), names.digest(data), context.input.owner
    event = context.event(
        EventType.SCORES_READY,
        key=(owner.uid, work.execution),
        time=manifest.created_at,
        data={
            "execution": work.execution,
            "candidate": work.candidate,
            "rows": manifest.rows,
            "uri": context.objects.uri(prefix),
            "digest": digest,
        },
    )
    context.catalogue.commit_scores(manifest, context.objects.uri(prefix), digest, event)
    return ScoreOutput(prefix=prefix, digest=digest, manifest=manifest)
