"""What each index leaves when it has scored its part."""

from __future__ import annotations

from levada.artifacts import Artifact, ModelManifest, ScoresManifest, StoredFile
from levada.steps.context import StepContext
from levada.steps.io import ScoreWork


class Receipt(Artifact):
    """The part of one index."""

    index: int
    rows: int
    file: StoredFile | None = None


def receipts_prefix(prefix: str, completions: int) -> str:
    """Where receipts lie; for another number of parts there are others."""
    return f"{prefix}receipts/{completions}/"


def draft(context: StepContext, work: ScoreWork, model: ModelManifest) -> ScoresManifest:
    """The manifest of the whole, but for what the parts hold."""
    owner = context.input.owner
    return ScoresManifest(
        execution=work.execution,
        namespace=owner.namespace,
        scoring_run=owner.name,
        candidate=work.candidate,
        model_digest=model.onnx.digest,
        rows=0,
        files=[],
        inputs=[work.input] if work.input is not None else [],
        created_at=context.now(),
    )
