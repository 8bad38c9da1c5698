"""What a step is given and what it returns: the one contract between planners, engines and steps.

A step's process gets the path of a `StepInput` document, its index in `JOB_COMPLETION_INDEX` (0 if absent) and the
stores' settings in the environment (settings.py). It writes its `StepResult` to the object store and a `Termination`
of at most 4,096 bytes to its termination log. Exit codes: 0 done, 65 the user must act (never retried), else: retry.

An indexed job has `completions` processes. Each does its share, leaves a receipt, and whichever finds all receipts
there commits the whole (idempotently): only such a result carries an `output`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from levada import names
from levada.artifacts import (
    Artifact,
    BatchManifest,
    EvaluationManifest,
    FeatureManifest,
    LookupSpec,
    ModelManifest,
    ScoresManifest,
)
from levada.names import Kind
from levada.resources.base import Model
from levada.resources.conditions import Reason
from levada.resources.dataset import DatasetSpec, Format, ObjectSource
from levada.resources.featureset import FeatureSetSpec, Select, Transform
from levada.resources.status import InputVersion
from levada.resources.trainingrun import Algorithm, Task, TrainingRunSpec

EXIT_USER_ERROR = 65
TERMINATION_LIMIT = 4096


class Owner(Model):
    """The resource that a step works for."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    generation: int


class IngestWork(Model):
    """Copy a source into a raw batch. Index i of n takes every n-th entry of the listing."""

    step: Literal["ingest"] = "ingest"
    batch: str
    spec: DatasetSpec


class InputBatch(Model):
    """Batches that stand behind one table of the query."""

    dataset: str
    alias: str
    batches: list[str]
    prefixes: list[str]


class PrepareWork(Model):
    """Run query, lookups and derivations and write a feature set version. `lookups` are complete but for `columns`
    of those that take all and for `key_types`: the step completes them from the other version's manifest."""

    step: Literal["prepare"] = "prepare"
    version: str
    spec: FeatureSetSpec
    inputs: list[InputBatch]
    lookups: list[LookupSpec] = []


class TrainWork(Model):
    """Split, fit, convert, verify. Index i fits algorithm i; the split is the same for all."""

    step: Literal["train"] = "train"
    execution: str
    split: str
    feature_set: str
    version: str
    features_prefix: str
    spec: TrainingRunSpec
    transform: list[Transform] = []  # of the feature set: fitted here, on the training part
    select: Select | None = None
    candidates: list[str]  # name of the ModelCandidate of each algorithm


class EvaluateWork(Model):
    """Measure a candidate's ONNX artefact on the test part of its split (all rows where there is none)."""

    step: Literal["evaluate"] = "evaluate"
    evaluation: str
    candidate: str
    model_uri: str
    digest: str | None
    task: Task
    evaluators: list[str]
    seed: int = 0


class ScoreWork(Model):
    """Score many rows. Index i of n takes the i-th of n contiguous parts of the rows."""

    step: Literal["score"] = "score"
    execution: str
    candidate: str
    model_prefix: str
    source: Literal["dataset", "featureSet", "object"]
    prefixes: list[str] = []  # of the batch or feature set version
    input: InputVersion | None = None
    part: Literal["all", "train", "validation", "test"] = "all"
    object: ObjectSource | None = None
    format: Format | None = None
    catalogue: bool = True
    columns: list[str] = []
    deployment: str | None = None
    version: int | None = None


Work = Annotated[
    IngestWork | PrepareWork | TrainWork | EvaluateWork | ScoreWork,
    Field(discriminator="step"),
]


class StepInput(Artifact):
    """What a step is given."""

    api_version: Literal["levada.dev/steps/v1"] = "levada.dev/steps/v1"
    job: str
    owner: Owner
    execution: str
    completions: int = 1
    work: Work

    @property
    def result_prefix(self) -> str:
        return names.step_prefix(self.owner.namespace, self.job)


class StepError(Model):
    """Why a step failed: one sentence for a person."""

    reason: Reason
    message: str


class IngestOutput(Model):
    step: Literal["ingest"] = "ingest"
    prefix: str
    digest: str
    manifest: BatchManifest


class PrepareOutput(Model):
    step: Literal["prepare"] = "prepare"
    prefix: str
    digest: str
    manifest: FeatureManifest


class TrainedCandidate(Model):
    """A fitted candidate, or why there is none."""

    algorithm: Algorithm
    name: str
    prefix: str
    digest: str = ""
    onnx_digest: str = ""
    split_digest: str = ""
    split_prefix: str = ""
    rows: dict[str, int] = {}
    warnings: list[str] = []
    refused: StepError | None = None


class TrainOutput(Model):
    """Every index returns its own candidate."""

    step: Literal["train"] = "train"
    candidate: TrainedCandidate


class EvaluateOutput(Model):
    step: Literal["evaluate"] = "evaluate"
    prefix: str
    digest: str
    manifest: EvaluationManifest
    model: ModelManifest


class ScoreOutput(Model):
    step: Literal["score"] = "score"
    prefix: str
    digest: str
    manifest: ScoresManifest


AnyOutput = Annotated[
    IngestOutput | PrepareOutput | TrainOutput | EvaluateOutput | ScoreOutput,
    Field(discriminator="step"),
]


class StepResult(Artifact):
    """What a step returns. `output` is absent where another index committed, `error` where all went well."""

    job: str
    index: int
    output: AnyOutput | None = None
    error: StepError | None = None
    warnings: list[str] = []
    timings: dict[str, float] = {}  # seconds by phase, for a person
    finished_at: datetime


class Termination(Artifact):
    """A container's termination message: where the result lies, or the error itself."""

    result: str | None = None  # object key
    digest: str | None = None
    error: StepError | None = None


class ProgressRecord(Model):
    """One line of progress: JSON on the file that LEVADA_PROGRESS names."""

    phase: str
    done: int
    total: int | None = None
    unit: str = "rows"
    details: dict[str, Any] = {}
