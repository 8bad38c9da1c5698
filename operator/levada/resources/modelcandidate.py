"""ModelCandidate: a model in ONNX and where it comes from; made by a TrainingRun or by hand (EVAL-1, EVAL-5)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from levada.features.types import ColumnType
from levada.resources.base import DIGEST, MODEL_URI, ColumnName, Model, Name, RunPolicy, Text
from levada.resources.status import RunStatus, Stored
from levada.resources.trainingrun import Task


class ModelRef(Model):
    """An ONNX model in object storage."""

    uri: Text = Field(
        description="Folder with model.onnx (and manifest.json), or the .onnx file; ./ as in a Dataset's source.",
        pattern=MODEL_URI,
    )
    digest: Annotated[str, Field(pattern=DIGEST, max_length=71)] | None = Field(
        default=None, description="Digest of the .onnx file; checked if given."
    )


class SignatureColumn(Model):
    """An input."""

    name: ColumnName = Field(description="Name of the ONNX input.")
    type: ColumnType = Field(description="Type of its values.")


class Signature(Model):
    """Inputs of a model trained elsewhere, where its ONNX inputs do not say enough."""

    inputs: list[SignatureColumn] = Field(min_length=1, max_length=2048, description="Inputs.")


class Provenance(Model):
    """Where a model comes from."""

    training_run: Name | None = Field(default=None, description="TrainingRun that made it.")
    execution: Name | None = Field(default=None, description="Its execution.")
    algorithm: Name | None = Field(default=None, description="Algorithm within the run.")
    feature_set: Name | None = Field(default=None, description="FeatureSet that it learnt from.")
    feature_set_version: Name | None = Field(default=None, description="Version that it learnt from.")
    split: Name | None = Field(default=None, description="Split that it was fitted and measured on.")
    source: Text | None = Field(
        default=None,
        description="For a model trained elsewhere: where, in the user's words.",
    )


class ModelCandidateSpec(RunPolicy):
    """What is wanted of a ModelCandidate; which model it is may not change."""

    model: ModelRef = Field(description="The model.", json_schema_extra={"immutable": True})
    task: Task = Field(description="What it does.", json_schema_extra={"immutable": True})
    signature: Signature | None = Field(default=None, description="Inputs, if the model does not say.")
    provenance: Provenance = Field(
        default_factory=Provenance, description="Where it comes from.", json_schema_extra={"immutable": True}
    )
    evaluators: list[Text] = Field(default_factory=list, max_length=32, description="By task if empty.")


class EvaluationStatus(Stored):
    """An evaluation of the ONNX artefact."""

    report: str = Field(max_length=2048, description="Where the HTML report lies.")
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64, description="Metrics on the test part.")
    rows: int = Field(ge=0, description="Rows that were measured.")
    created_at: datetime = Field(description="When it was committed.")


class ModelCandidateStatus(RunStatus):
    """What has been observed of a ModelCandidate."""

    evaluation: EvaluationStatus | None = Field(default=None, description="The newest evaluation.")
    digest: str = Field(default="", max_length=80, description="Digest of the ONNX file that was measured.")
    algorithm: str = Field(default="", max_length=128, description="What it is.")
