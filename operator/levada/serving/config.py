"""What a scorer is told: the document that an engine writes and that the scorer watches.

The file may be replaced at any time (a mounted ConfigMap, an atomic rename): the scorer loads what is new beside what
it has and switches when all of it works.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from levada.artifacts import Artifact
from levada.resources.base import Model, Name, Rule, Text


class ScorerVersion(Model):
    """A version to serve. Its `model.onnx` and `manifest.json` lie below `model_prefix`, or in `folder` if given."""

    version: int = Field(ge=1, description="Number of the version, as in request paths.")
    candidate: Name = Field(description="Its ModelCandidate.")
    model_prefix: Text | None = Field(default=None, description="Object key prefix of the model.")
    folder: Path | None = Field(default=None, description="Local folder that was filled before the scorer started.")
    onnx_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="Digest that model.onnx must have.")
    weight: int = Field(ge=0, le=100, description="Percent of the requests that name no version.")

    rules = (
        Rule(
            "has(self.modelPrefix) || has(self.folder)",
            "a version needs modelPrefix or folder",
            lambda v: v.model_prefix is not None or v.folder is not None,
        ),
    )


class Limits(Model):
    """What one request may ask for; beyond it the answer is an HTTP 4xx."""

    body_bytes: int = Field(
        default=100 * 1024 * 1024, ge=1024, description="Largest body, as it was when the scorer started."
    )
    json_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=1024 * 1024,
        description="Most JSON in a body, as it was when the scorer started; binary tensors do not count.",
    )
    rows: int = Field(default=100_000, ge=1, description="Most rows.")


class ScorerConfig(Artifact):
    """What one scorer serves: a Deployment with one or several versions."""

    name: Name = Field(description="Name of the Deployment; the model's name in request paths.")
    namespace: Name = Field(description="Its namespace.")
    versions: list[ScorerVersion] = Field(min_length=1, max_length=20, description="The versions.")
    recording: bool = Field(default=True, description="Whether scores are recorded in the catalogue.")
    record_requests: bool = Field(default=True, description="Whether the request's columns are kept with a score.")
    limits: Limits = Field(default_factory=Limits, description="What one request may ask for.")
    drain_seconds: float = Field(
        default=0, ge=0, le=600, description="How long a scorer that was told to end goes on accepting connections."
    )

    rules = (
        Rule(
            "self.versions.map(v, v.weight).sum() in [0, 100]",
            "the weights of the versions must add up to 100, or all be 0 while none has been promoted",
            lambda c: sum(v.weight for v in c.versions) in (0, 100),
        ),
        Rule(
            "self.versions.all(v, self.versions.exists_one(w, w.version == v.version))",
            "each version may be listed once",
            lambda c: len({v.version for v in c.versions}) == len(c.versions),
        ),
    )


class GivenUp(Artifact):
    """What a scorer that gives up leaves behind, as its container's termination message."""

    failed: dict[int, str] = Field(default={}, description="Versions that cannot be served, and why.")
    message: str = Field(default="", description="What it waited for, or what is wrong with its configuration.")
