"""Every event that Levada announces: CloudEvents 1.0 over NATS, and the data of each (docs/events.md shows it).

Events inform; nothing's correctness depends on one arriving. They are written to the outbox in the transaction of what
they speak of and published from there at least once, with the event's id as `Nats-Msg-Id`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, ValidationError

from levada import names
from levada.names import Kind
from levada.resources.base import Model
from levada.resources.conditions import Reason
from levada.resources.status import InputVersion


class EventType(StrEnum):
    """The last part of an event's subject; its CloudEvents type is `dev.levada.<kind>.<event>`."""

    # steps
    RAW_DATA_EXTRACTED = "raw-data-extracted"
    FEATURES_GENERATED = "features-generated"
    SPLIT_CREATED = "split-created"
    MODEL_TRAINED = "model-trained"
    MODEL_REGISTERED = "model-registered"
    MODEL_EVALUATED = "model-evaluated"
    SCORES_READY = "scores-ready"
    # decisions (planners/plan.py: Action)
    EXECUTION_STARTED = "execution-started"
    EXECUTION_FAILED = "execution-failed"
    CANDIDATE_CREATED = "candidate-created"
    CANDIDATE_REFUSED = "candidate-refused"
    MODEL_READY = "model-ready"
    VERSION_CREATED = "version-created"
    VERSION_SERVING = "version-serving"
    VERSION_REJECTED = "version-rejected"
    APPROVAL_NEEDED = "approval-needed"
    STALLED = "stalled"
    DELETED = "deleted"


# --- what events say ------------------------------------------------------------------------------------------------


class Stored(Model):
    """Where something immutable lies."""

    uri: str = Field(description="Folder in the object store; its `manifest.json` says what is there.")
    digest: str = Field(description="SHA-256 of the manifest, `sha256:<hex>`.")


class RawDataExtracted(Stored):
    """A raw batch was committed: its bytes are kept as they came, and its rows can be read."""

    batch: str = Field(description="Id of the batch.")
    rows: int = Field(description="Rows that can be read.")
    quarantined: int = Field(description="Rows that were set aside.")
    files: int = Field(description="Files that it was made from.")


class FeaturesGenerated(Stored):
    """A feature set version was committed."""

    version: str = Field(description="Id of the version.")
    rows: int = Field(description="Rows.")
    columns: int = Field(description="Columns.")
    inputs: list[InputVersion] = Field(description="Batches and versions that it was made from.")


class SplitCreated(Stored):
    """Rows were divided into parts."""

    split: str = Field(description="Id of the split.")
    feature_set_version: str = Field(description="Version whose rows were divided.")
    rows: dict[str, int] = Field(description="Rows of each part.")
    warnings: list[str] = Field(description="What a person should know, e.g. of an uneven label.")


class ModelTrained(Stored):
    """A model was fitted, converted to ONNX, and found to agree with what was fitted."""

    candidate: str = Field(description="Name of the ModelCandidate that it becomes.")
    algorithm: str = Field(description="Name of the algorithm within the TrainingRun.")
    execution: str = Field(description="Execution that trained it.")
    feature_set_version: str = Field(description="Version that it was trained on.")
    split: str = Field(description="Split that it was trained on.")


class ModelRegistered(Stored):
    """A model that was trained elsewhere was copied and made to take columns."""

    candidate: str = Field(description="Name of the ModelCandidate.")
    source: str = Field(description="URI that it was copied from.")


class ModelEvaluated(Stored):
    """A candidate's ONNX artefact was measured."""

    candidate: str = Field(description="Name of the ModelCandidate.")
    evaluation: str = Field(description="Id of the evaluation.")
    part: str = Field(description="Part of the split that it was measured on.")
    rows: int = Field(description="Rows that it was measured on.")
    metrics: dict[str, float] = Field(description="Metrics by name.")


class ScoresReady(Stored):
    """The scores of an execution were committed."""

    execution: str = Field(description="Execution; a score's id is `<execution>:<row>`.")
    candidate: str = Field(description="ModelCandidate that scored.")
    rows: int = Field(description="Rows that were scored.")


class Decided(Model):
    """Why something was decided."""

    reason: Reason = Field(description="Why, for programs.")
    message: str = Field(description="Why, for people.")


class ExecutionStarted(Decided):
    """An execution was started."""

    execution: str = Field(description="Id of the execution.")
    attempt: int = Field(description="1, and more when the same execution was asked for again.")
    trigger: str = Field(description="What started it.")


class ExecutionFailed(Decided):
    """An execution failed for good."""

    execution: str = Field(description="Id of the execution.")
    attempt: int = Field(description="1, and more when the same execution was asked for again.")


class CandidateCreated(Decided):
    """A ModelCandidate was created for a trained model."""

    execution: str = Field(description="Execution that trained it.")
    algorithm: str = Field(description="Name of the algorithm within the TrainingRun.")
    candidate: str = Field(description="Name of the ModelCandidate.")


class CandidateRefused(Decided):
    """An algorithm gave no candidate, or one that cannot be compared: the message says why."""

    execution: str = Field(description="Execution that trained it.")
    algorithm: str = Field(description="Name of the algorithm within the TrainingRun.")
    candidate: str | None = Field(default=None, description="Name of the ModelCandidate, if there is one.")


class ModelReady(Decided):
    """The best candidate of an execution was chosen: it can be deployed."""

    execution: str = Field(description="Execution that trained it.")
    candidate: str = Field(description="Name of the ModelCandidate.")
    metric: str = Field(description="Metric by which it is the best.")
    value: float = Field(description="Value of that metric.")


class VersionCreated(Decided):
    """A Deployment has a new version, which is being brought into service."""

    version: int = Field(description="Number of the version.")
    candidate: str = Field(description="ModelCandidate that it serves.")


class VersionServing(Decided):
    """A version took over."""

    version: int = Field(description="Number of the version.")
    candidate: str = Field(description="ModelCandidate that it serves.")
    instead_of: int | None = Field(default=None, description="Version that served before.")


class VersionRejected(Decided):
    """A version did not pass its tests or cannot be served; it is not tried again."""

    version: int = Field(description="Number of the version.")
    candidate: str = Field(description="ModelCandidate that it would have served.")


class ApprovalNeeded(Decided):
    """A candidate waits for a person to name it in `spec.approved`."""

    candidate: str = Field(description="Name of the ModelCandidate.")


class Stalled(Decided):
    """Nothing goes on until a person changes something; the message says what."""


class Deleted(Decided):
    """The resource was deleted, with what it owned."""

    keep_data: bool = Field(description="Whether the data that it made was kept.")


_ANY = tuple(Kind)
_RUNS = (Kind.DATASET, Kind.FEATURE_SET, Kind.TRAINING_RUN, Kind.MODEL_CANDIDATE, Kind.SCORING_RUN)
CATALOGUE: dict[EventType, tuple[tuple[Kind, ...], type[Model]]] = {
    EventType.RAW_DATA_EXTRACTED: ((Kind.DATASET,), RawDataExtracted),
    EventType.FEATURES_GENERATED: ((Kind.FEATURE_SET,), FeaturesGenerated),
    EventType.SPLIT_CREATED: ((Kind.TRAINING_RUN,), SplitCreated),
    EventType.MODEL_TRAINED: ((Kind.TRAINING_RUN,), ModelTrained),
    EventType.MODEL_REGISTERED: ((Kind.MODEL_CANDIDATE,), ModelRegistered),
    EventType.MODEL_EVALUATED: ((Kind.MODEL_CANDIDATE,), ModelEvaluated),
    EventType.SCORES_READY: ((Kind.SCORING_RUN,), ScoresReady),
    EventType.EXECUTION_STARTED: (_RUNS, ExecutionStarted),
    EventType.EXECUTION_FAILED: (_RUNS, ExecutionFailed),
    EventType.CANDIDATE_CREATED: ((Kind.TRAINING_RUN,), CandidateCreated),
    EventType.CANDIDATE_REFUSED: ((Kind.TRAINING_RUN,), CandidateRefused),
    EventType.MODEL_READY: ((Kind.TRAINING_RUN,), ModelReady),
    EventType.VERSION_CREATED: ((Kind.DEPLOYMENT,), VersionCreated),
    EventType.VERSION_SERVING: ((Kind.DEPLOYMENT,), VersionServing),
    EventType.VERSION_REJECTED: ((Kind.DEPLOYMENT,), VersionRejected),
    EventType.APPROVAL_NEEDED: ((Kind.DEPLOYMENT,), ApprovalNeeded),
    EventType.STALLED: (_ANY, Stalled),
    EventType.DELETED: (_ANY, Deleted),
}
"""Of every type, the kinds of resources that announce it and what its data says."""

_KINDS = {kind.value.lower(): kind for kind in Kind}


class Event(Model):
    """An event, before it takes the CloudEvents form."""

    id: str
    type: EventType
    kind: Kind
    namespace: str
    name: str
    time: datetime
    data: dict[str, Any] = {}

    def check(self) -> None:
        """Raise ValueError unless kind and data are as documented. Events of other versions may be otherwise, so this
        is for those that are announced, not for those that are read."""
        kinds, schema = CATALOGUE[self.type]
        if self.kind not in kinds:
            raise ValueError(f"a {self.kind.value} does not announce '{self.type.value}'")
        try:
            schema.model_validate(self.data)
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ValueError(f"the data of '{self.type.value}' is not as documented: {found}") from error

    @property
    def subject(self) -> str:
        """NATS subject."""
        return names.subject(self.namespace, self.kind, self.name, self.type.value)

    @classmethod
    def from_cloud_event(cls, document: dict[str, Any]) -> Self:
        """The event of a CloudEvents document as `cloud_event` makes them."""
        _, _, kind, event = document["type"].split(".")
        _, _, namespace, _, name = document["source"].split("/")
        return cls(
            id=document["id"],
            type=EventType(event),
            kind=_KINDS[kind],
            namespace=namespace,
            name=name,
            time=datetime.fromisoformat(document["time"]),
            data=document.get("data", {}),
        )

    def cloud_event(self) -> dict[str, Any]:
        """The event as CloudEvents 1.0 in JSON (structured mode)."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "type": f"dev.levada.{self.kind.value.lower()}.{self.type.value}",
            "source": f"/levada/{self.namespace}/{self.kind.value.lower()}/{self.name}",
            "subject": self.name,
            "time": self.time.isoformat(),
            "datacontenttype": "application/json",
            "data": self.data,
        }
