"""Deployment: a model behind an address (DEP-1 … DEP-6, SCORE-2, SCORE-7, MON-*)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from levada.resources.base import Duration, Model, Name, Resources, Rule, Subject, Text
from levada.resources.conditions import REASON_SCHEMA, Reason
from levada.resources.status import Status


class ModelSource(Model):
    """Which candidate is served."""

    rules = (
        Rule(
            "has(self.trainingRun) != has(self.candidate)",
            "model is exactly one of trainingRun and candidate",
            lambda m: (m.training_run is None) != (m.candidate is None),
        ),
    )
    training_run: Name | None = Field(default=None, description="Follow the best candidate of this TrainingRun.")
    candidate: Name | None = Field(default=None, description="Pin this ModelCandidate.")


class DeploymentTest(Model):
    """A check before a version serves."""

    rules = (
        Rule(
            "self.type != 'quality' || has(self.metric) && (has(self.minimum) || has(self.maximum))",
            "a quality test needs metric, and minimum or maximum",
            lambda t: (
                t.type != "quality" or (t.metric is not None and (t.minimum is not None or t.maximum is not None))
            ),
        ),
        Rule(
            "self.type != 'latency' || has(self.maximum)",
            "a latency test needs maximum",
            lambda t: t.type != "latency" or t.maximum is not None,
        ),
        Rule(
            "self.type != 'smoke' || !has(self.maximum)",
            "maximum is for quality and latency tests only",
            lambda t: t.type != "smoke" or t.maximum is None,
        ),
        Rule(
            "self.type == 'quality' || !has(self.metric) && !has(self.minimum)",
            "metric and minimum are for quality tests only",
            lambda t: t.type == "quality" or (t.metric is None and t.minimum is None),
        ),
    )

    type: Literal["smoke", "quality", "latency"] = Field(description="What is checked.")
    metric: Text | None = Field(default=None, description="quality: metric of the evaluation.")
    minimum: float | None = Field(default=None, description="quality: smallest value.")
    maximum: float | None = Field(default=None, description="quality: largest value; latency: milliseconds a row.")


class RolloutStep(Model):
    """A step of a canary."""

    weight: int = Field(ge=0, le=100, description="Share of requests in percent.")
    pause: Duration | None = Field(default=None, description="How long before the next step.")


class Rollout(Model):
    """How a new version takes over."""

    rules = (
        Rule(
            "(self.strategy == 'canary') == has(self.steps)",
            "steps are needed with strategy 'canary', and only there",
            lambda r: (r.strategy == "canary") == (r.steps is not None),
        ),
    )
    strategy: Literal["replace", "canary", "blueGreen", "shadow"] = Field(default="replace", description="How.")
    steps: list[RolloutStep] | None = Field(default=None, min_length=1, max_length=32, description="canary: the steps.")


class Fallback(Model):
    """Better wrong than late."""

    deadline: Duration = Field(description="After this a request is answered by the previous version.")


class Revert(Model):
    """When a version is taken back."""

    signals: list[Text] = Field(min_length=1, max_length=16, description="Signals: quality, latency, errors.")
    min_samples: int = Field(default=100, ge=1, description="How many outcomes are needed.")
    window: Duration = Field(default="1h", description="Over what time.")


class EntityFeatures(Model):
    """Take the row itself from the online store, by entity key."""

    by_entity_key: bool = Field(default=False, description="Requests bring only the entity's keys.")


class Cache(Model):
    """Predictions that are kept for requests that come again."""

    max_entries: int = Field(default=10000, ge=1, description="Predictions kept.")
    ttl: Duration = Field(default="5m", description="For how long.")


class AsyncScoring(Model):
    """Scoring behind a queue."""

    subject: Subject = Field(description="NATS subject of the requests.")


class Monitoring(Model):
    """What is watched."""

    drift: bool = Field(default=False, description="Measure drift of features and predictions.")
    outcomes: Name | None = Field(default=None, description="Dataset of the actual values.")


class Autoscaling(Model):
    """Replicas by load."""

    rules = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            "minReplicas must not exceed maxReplicas",
            lambda a: a.min_replicas <= a.max_replicas,
        ),
    )
    min_replicas: int = Field(default=1, ge=0, le=1000, description="Fewest replicas.")
    max_replicas: int = Field(default=1, ge=1, le=1000, description="Most replicas.")
    target_cpu_percent: int = Field(default=80, ge=1, le=100, description="Wanted CPU use.")


class Recording(Model):
    """What is kept of online scores."""

    enabled: bool = Field(default=True, description="Whether scores are recorded.")
    requests: bool = Field(
        default=True,
        description="Whether the request's columns are kept with the score.",
    )


class DeploymentSpec(Model):
    """What is wanted of a Deployment."""

    rules = (
        Rule(
            "!has(self.replicas) || !has(self.autoscaling)",
            "replicas and autoscaling exclude each other",
            lambda s: s.replicas is None or s.autoscaling is None,
        ),
        Rule(
            "!has(self.approved) || self.promotion == 'manual'",
            "approved needs promotion 'manual'",
            lambda s: s.approved is None or s.promotion == "manual",
        ),
        Rule(
            "!has(self.approved) || has(self.model.trainingRun)",
            "approved needs model.trainingRun: a candidate that is named there needs no approval",
            lambda s: s.approved is None or s.model.training_run is not None,
        ),
    )
    model: ModelSource = Field(description="Which candidate is served.")
    promotion: Literal["automatic", "manual"] = Field(
        default="automatic",
        description="manual: a new best candidate waits until it is named in `approved`.",
    )
    approved: Name | None = Field(
        default=None,
        description="manual: the ModelCandidate that a person has approved.",
    )
    tests: list[DeploymentTest] = Field(
        default_factory=list,
        max_length=32,
        description="Checks before a version serves.",
    )
    rollout: Rollout = Field(default_factory=Rollout, description="How a new version takes over.")
    fallback: Fallback | None = Field(default=None, description="Better wrong than late.")
    revert: Revert | None = Field(default=None, description="When a version is taken back.")
    features: EntityFeatures = Field(default_factory=EntityFeatures, description="What requests bring.")
    cache: Cache | None = Field(default=None, description="Cached predictions.")
    async_: AsyncScoring | None = Field(default=None, alias="async", description="Scoring behind a queue.")
    recording: Recording = Field(default_factory=Recording, description="What is kept of scores.")
    monitoring: Monitoring = Field(default_factory=Monitoring, description="What is watched.")
    keep_versions: int = Field(
        default=2,
        ge=1,
        le=10,
        description="How many versions stay warm, the serving one included.",
    )
    replicas: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Fixed number of replicas; 1 if absent. The local engine runs one.",
    )
    autoscaling: Autoscaling | None = Field(default=None, description="Replicas by load. The local engine runs one.")
    resources: Resources | None = Field(default=None, description="Resources of the scorer's container.")
    suspend: bool = Field(default=False, description="Take over no new version.")


class VersionStatus(Model):
    """A version; numbers only grow."""

    version: int = Field(ge=1, description="Number of the version, as in request paths.")
    candidate: Name = Field(description="Its ModelCandidate.")
    digest: str = Field(max_length=80, description="Digest of its ONNX file.")
    state: Literal["Pending", "Serving", "Previous", "Rejected"] = Field(description="How it stands.")
    weight: int = Field(default=0, ge=0, le=100, description="Share of requests in percent.")
    since: datetime = Field(description="Since when.")
    reason: Annotated[Reason, REASON_SCHEMA] | None = Field(default=None, description="Why it was rejected.")
    message: str = Field(default="", max_length=1024, description="Why it was rejected, for a person.")


class DeploymentStatus(Status):
    """What has been observed of a Deployment."""

    url: str | None = Field(
        default=None,
        max_length=2048,
        description="Address of the model (Open Inference Protocol).",
    )
    serving_version: int | None = Field(default=None, description="Number of the serving version.")
    versions: list[VersionStatus] = Field(
        default_factory=list,
        max_length=20,
        description="The newest versions, newest first.",
    )
    last_version: Annotated[int, Field(ge=0)] = Field(default=0, description="Highest version number ever given.")
