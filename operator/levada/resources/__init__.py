"""The six custom resources as typed models; CRDs are generated from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from pydantic import Field

from levada.names import Kind
from levada.resources.base import Metadata, Model
from levada.resources.dataset import DatasetSpec, DatasetStatus
from levada.resources.deployment import DeploymentSpec, DeploymentStatus
from levada.resources.featureset import FeatureSetSpec, FeatureSetStatus
from levada.resources.modelcandidate import ModelCandidateSpec, ModelCandidateStatus
from levada.resources.scoringrun import ScoringRunSpec, ScoringRunStatus
from levada.resources.status import Status
from levada.resources.trainingrun import TrainingRunSpec, TrainingRunStatus

S = TypeVar("S", bound=Model)
T = TypeVar("T", bound=Status)


@dataclass(frozen=True, order=True)
class Ref:
    """Names a resource."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.namespace}/{self.name}"


class Resource(Model, Generic[S, T]):
    """A custom resource: what is wanted (`spec`) and what has been observed (`status`)."""

    api_version: Literal["levada.dev/v1alpha1"] = "levada.dev/v1alpha1"
    kind: Kind
    metadata: Metadata
    spec: S
    status: T

    @property
    def ref(self) -> Ref:
        return Ref(self.kind, self.metadata.namespace, self.metadata.name)


class Dataset(Resource[DatasetSpec, DatasetStatus]):
    """Where raw data comes from, what it looks like, and what is demanded of it."""

    kind: Literal[Kind.DATASET] = Kind.DATASET
    status: DatasetStatus = Field(default_factory=DatasetStatus)


class FeatureSet(Resource[FeatureSetSpec, FeatureSetStatus]):
    """Features from one or several datasets, defined once for offline and online."""

    kind: Literal[Kind.FEATURE_SET] = Kind.FEATURE_SET
    status: FeatureSetStatus = Field(default_factory=FeatureSetStatus)


class TrainingRun(Resource[TrainingRunSpec, TrainingRunStatus]):
    """Split, fit and compare models."""

    kind: Literal[Kind.TRAINING_RUN] = Kind.TRAINING_RUN
    status: TrainingRunStatus = Field(default_factory=TrainingRunStatus)


class ModelCandidate(Resource[ModelCandidateSpec, ModelCandidateStatus]):
    """A model in ONNX and where it comes from."""

    kind: Literal[Kind.MODEL_CANDIDATE] = Kind.MODEL_CANDIDATE
    status: ModelCandidateStatus = Field(default_factory=ModelCandidateStatus)


class Deployment(Resource[DeploymentSpec, DeploymentStatus]):
    """A model behind an address."""

    kind: Literal[Kind.DEPLOYMENT] = Kind.DEPLOYMENT
    status: DeploymentStatus = Field(default_factory=DeploymentStatus)


class ScoringRun(Resource[ScoringRunSpec, ScoringRunStatus]):
    """Scores for many rows at once."""

    kind: Literal[Kind.SCORING_RUN] = Kind.SCORING_RUN
    status: ScoringRunStatus = Field(default_factory=ScoringRunStatus)


AnyResource: TypeAlias = Dataset | FeatureSet | TrainingRun | ModelCandidate | Deployment | ScoringRun

RESOURCES: dict[Kind, type[AnyResource]] = {
    Kind.DATASET: Dataset,
    Kind.FEATURE_SET: FeatureSet,
    Kind.TRAINING_RUN: TrainingRun,
    Kind.MODEL_CANDIDATE: ModelCandidate,
    Kind.DEPLOYMENT: Deployment,
    Kind.SCORING_RUN: ScoringRun,
}
