"""The evaluate step: measure a candidate's ONNX artefact on the test part of its split (EVAL-1, EVAL-3, EVAL-5).

Below the evaluation's prefix: `report.html` (self-contained), `report.json` (what it shows, as data) and, last,
`manifest.json`, which is the same document. A model trained elsewhere is first copied to the candidate's own prefix,
with a manifest derived from its signature.
"""

from __future__ import annotations

from levada import names
from levada.artifacts import EvaluationManifest, ModelManifest
from levada.events import EventType
from levada.steps.context import StepContext
from levada.steps.io import EvaluateOutput, EvaluateWork
from levada.stores.ports import ObjectNotFound


def run(context: StepContext) -> EvaluateOutput:
    """Evaluate a candidate, or find it evaluated. Raises Stalled where model, data or spec do not allow it."""
    work = context.input.work
    assert isinstance(work, EvaluateWork)
    namespace = context.input.owner.namespace
    prefix = names.evaluation_prefix(namespace, work.candidate, work.evaluation)
    try:
        data = context.objects.get(prefix + names.MANIFEST)
        model = ModelManifest.from_bytes(
            context.objects.get(names.model_prefix(namespace, work.candidate) + names.MANIFEST)
        )
    except ObjectNotFound:
        from levada.steps.evaluate.measure import evaluate

        manifest, model = evaluate(context, work, prefix)
        data, _ = context.put_manifest(prefix + names.MANIFEST, manifest)
    return _commit(context, work, prefix, data, model)


def _commit(context: StepContext, work: EvaluateWork, prefix: str, data: bytes, model: ModelManifest) -> EvaluateOutput:
    """Make an evaluation whose manifest is written known, once."""
    manifest, digest = EvaluationManifest.from_bytes(data), names.digest(data)
    owner = context.input.owner
    event = context.event(
        EventType.MODEL_EVALUATED,
        key=(owner.uid, work.evaluation),
        time=manifest.created_at,
        data={
            "candidate": work.candidate,
            "evaluation": work.evaluation,
            "metrics": manifest.metrics,
            "part": manifest.part,
            "rows": manifest.rows,
            "uri": context.objects.uri(prefix),
            "digest": digest,
        },
    )
    context.catalogue.commit_evaluation(manifest, context.objects.uri(prefix), digest, event)
    for message in manifest.warnings:
        context.warn(message)
    return EvaluateOutput(prefix=prefix, digest=digest, manifest=manifest, model=model)
