"""What each index leaves when it has scored its part."""

from __future__ import annotations

from dataclasses import dataclass

from levada import names
from levada.artifacts import Artifact, Listing, ModelManifest, ScoresManifest, StoredFile
from levada.steps.context import StepContext
from levada.steps.io import ScoreWork


@dataclass(frozen=True)
class Part:
    """What tells one part from all others."""

    prefix: str  # of the scores
    division: str
    index: int
    listing: Listing | None  # of the files, where files are scored

    @property
    def key(self) -> str:
        """Where its file lies, below the prefix."""
        return f"part-{self.index:05d}-{self.division}.parquet"


class Receipt(Artifact):
    """The part of one index."""

    index: int
    rows: int
    file: StoredFile | None = None


def division(completions: int, listing: Listing | None) -> str:
    """What tells apart the receipts and files of parts: into how many the rows of which files are divided."""
    of = f"of-{completions:05d}"
    return of if listing is None else f"{of}-{names.short_hash([entry.document() for entry in listing.entries], 8)}"


def receipts_prefix(prefix: str, divided: str) -> str:
    """Where the receipts of a division lie."""
    return f"{prefix}receipts/{divided}/"


def draft(
    context: StepContext, work: ScoreWork, model: ModelManifest, listing: Listing | None = None
) -> ScoresManifest:
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
        sources=listing.entries if listing is not None else [],
        created_at=context.now(),
    )
