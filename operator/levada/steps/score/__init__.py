"""The score step: a model's scores of many rows (SCORE-4).

Index i of n takes the i-th of n contiguous parts of the rows and writes `part-0000i.parquet` below the execution's
prefix (nothing for a part without rows), its rows into the catalogue, and then a receipt. Whichever index finds all
receipts there writes the manifest and commits; nothing is seen of the scores before. A part that was killed and runs
again replaces what it left.
"""

from __future__ import annotations

from levada import names
from levada.artifacts import ModelManifest, ScoresManifest
from levada.errors import Stalled
from levada.events import Event, EventType
from levada.names import Kind
from levada.resources.conditions import Reason
from levada.steps.context import StepContext
from levada.steps.io import ScoreOutput, ScoreWork
from levada.steps.score.receipt import Receipt, draft, receipts_prefix
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
    place = receipts_prefix(prefix, context.input.completions)
    key = f"{place}{context.index}.json"
    if objects.info(key) is None:
        from levada.steps.score.part import score_part

        objects.put(key, score_part(context, work, model, prefix).to_bytes())
    receipts = [Receipt.from_bytes(objects.get(info.key)) for info in objects.list(place)]
    if len(receipts) < context.input.completions:
        return None
    receipts.sort(key=lambda receipt: receipt.index)
    manifest = draft(context, work, model).model_copy(
        update={"rows": sum(r.rows for r in receipts), "files": [r.file for r in receipts if r.file is not None]}
    )
    data, _ = context.put_manifest(prefix + names.MANIFEST, manifest)
    return _commit(context, work, prefix, data)


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
    event = Event(
        id=names.event_id(EventType.SCORES_READY, owner.uid, work.execution),
        type=EventType.SCORES_READY,
        kind=Kind.SCORING_RUN,
        namespace=owner.namespace,
        name=owner.name,
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
