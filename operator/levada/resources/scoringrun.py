"""ScoringRun: scores for many rows at once (SCORE-4)."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from levada.resources.base import ColumnName, Model, Name, Rule, RunPolicy, Schedule, Trigger, Union
from levada.resources.dataset import Format, ObjectSource
from levada.resources.status import RunStatus, Stored


class ScoringModel(Model):
    """Which model scores."""

    rules = (
        Rule(
            "[has(self.deployment), has(self.trainingRun), has(self.candidate)].filter(x, x).size() == 1",
            "model is exactly one of deployment, trainingRun and candidate",
            lambda m: sum(x is not None for x in (m.deployment, m.training_run, m.candidate)) == 1,
        ),
    )
    deployment: Name | None = Field(default=None, description="The serving version of this Deployment.")
    training_run: Name | None = Field(default=None, description="The best candidate of this TrainingRun.")
    candidate: Name | None = Field(default=None, description="This ModelCandidate.")


class ObjectInput(ObjectSource):
    """Files with the request's columns."""

    format: Format = Field(description="How they are read.")


class FeatureSetInput(Model):
    """Rows of a FeatureSet version."""

    name: Name = Field(description="Name of the FeatureSet.")
    version: Name | None = Field(default=None, description="A version to pin; the newest if absent.")
    part: Literal["all", "train", "validation", "test"] = Field(
        default="all",
        description="Only the rows of this part of the split that the model was measured on.",
    )


class ScoringInput(Model):
    """What is scored."""

    union = Union("type", {"dataset": "dataset", "featureSet": "feature_set", "object": "object"})
    type: Literal["dataset", "featureSet", "object"] = Field(description="Which block below is given.")
    dataset: Name | None = Field(default=None, description="Newest batch of this Dataset; lookups are joined.")
    feature_set: FeatureSetInput | None = Field(default=None, description="A version of a FeatureSet.")
    object: ObjectInput | None = Field(default=None, description="Files; lookups are joined.")


class ScoringOutput(Model):
    """What is kept of the scores."""

    catalogue: bool = Field(default=True, description="Rows in the catalogue too, beside the Parquet files.")
    columns: list[ColumnName] = Field(
        default_factory=list,
        max_length=256,
        description="Input columns copied to the output; the entity's keys and time if empty.",
    )


class ScoringRunSpec(RunPolicy):
    """What is wanted of a ScoringRun."""

    model: ScoringModel = Field(description="Which model scores.")
    input: ScoringInput = Field(description="What is scored.")
    output: ScoringOutput = Field(default_factory=ScoringOutput, description="What is kept.")
    partitions: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Into how many parts the rows are divided.",
    )
    schedule: Schedule | None = Field(
        default=None,
        description="When what is new is scored (files: each time), instead of at once; the first time is at once.",
    )
    triggers: list[Trigger] = Field(
        default_factory=list,
        max_length=16,
        description="Messages that start a scoring.",
    )
    suspend: bool = Field(default=False, description="Start nothing new.")


class ScoresStatus(Stored):
    """The scores of an execution."""

    rows: int = Field(ge=0, description="Rows scored.")
    created_at: datetime = Field(description="When they were committed.")


class ScoringRunStatus(RunStatus):
    """What has been observed of a ScoringRun."""

    candidate: Name | None = Field(default=None, description="The model that scored.")
    scores: ScoresStatus | None = Field(default=None, description="The newest scores.")
