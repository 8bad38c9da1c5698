"""What scorers are told of what is to be served, under every engine."""

from __future__ import annotations

from pathlib import Path

from levada.planners.plan import ServedVersion, Serving
from levada.serving.config import ScorerConfig, ScorerVersion


def leading(serving: Serving) -> ServedVersion:
    """The version that serves, or is about to."""
    return max(serving.versions, key=lambda version: version.weight)


def scorer_config(serving: Serving, *, folder: Path | None = None, drain_seconds: float = 0) -> ScorerConfig:
    """The configuration of a Deployment's scorers, which read the models from the object store.

    `folder` is where the model of the leading version lies before they start, if it does. Told to end, they go on
    accepting connections for `drain_seconds`.
    """
    return ScorerConfig(
        name=serving.name,
        namespace=serving.owner.namespace,
        recording=serving.recording,
        record_requests=serving.record_requests,
        drain_seconds=drain_seconds,
        versions=[_version(v, folder if v == leading(serving) else None) for v in serving.versions],
    )


def _version(served: ServedVersion, folder: Path | None) -> ScorerVersion:
    return ScorerVersion(
        version=served.version,
        candidate=served.candidate,
        model_prefix=served.model_prefix if folder is None else None,
        folder=folder,
        onnx_digest=served.onnx_digest,
        weight=served.weight,
    )
