"""A world for planners: resources, the jobs that plans ask for, and results as steps would give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings

from levada import names
from levada.artifacts import (
    BatchManifest,
    EvaluationManifest,
    FeatureColumn,
    FeatureManifest,
    ModelManifest,
    ScoresManifest,
    StoredFile,
)
from levada.events import Event, EventType
from levada.features.types import ColumnType
from levada.names import Kind
from levada.planners import plan
from levada.planners.plan import Action, Job, JobState, Observed, Plan, ServingState
from levada.resources import (
    RESOURCES,
    AnyResource,
    Dataset,
    Deployment,
    FeatureSet,
    ModelCandidate,
    Ref,
    ScoringRun,
    TrainingRun,
)
from levada.resources.conditions import ConditionType, Reason, condition_of
from levada.resources.dataset import Column
from levada.steps.io import (
    AnyOutput,
    EvaluateOutput,
    EvaluateWork,
    IngestOutput,
    IngestWork,
    PrepareOutput,
    PrepareWork,
    ScoreOutput,
    ScoreWork,
    StepError,
    StepResult,
    TrainedCandidate,
    TrainOutput,
    TrainWork,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
FIXED = settings(derandomize=True, database=None, deadline=None, max_examples=60)
DIGEST = "sha256:" + "0" * 64
FILE = StoredFile(key="file", bytes=10, digest=DIGEST, rows=5)


def dataset(name: str = "flights", **spec: Any) -> Dataset:
    """A Dataset of CSV files."""
    source = {"type": "object", "object": {"uri": "s3://landing/flights/"}}
    return Dataset.model_validate(_document(name, {"source": source, "format": {"type": "csv"}, **spec}))


def feature_set(name: str = "flights", **spec: Any) -> FeatureSet:
    """A FeatureSet over the Dataset flights."""
    wanted = {"inputs": [{"dataset": "flights"}], "entity": {"keys": ["id"], "timestamp": "at"}, **spec}
    return FeatureSet.model_validate(_document(name, wanted))


def training_run(name: str = "late", **spec: Any) -> TrainingRun:
    """A TrainingRun with two algorithms."""
    algorithms = [{"name": "linear", "type": "logisticRegression"}, {"name": "trees", "type": "boostedTrees"}]
    wanted = {"featureSet": {"name": "flights"}, "task": "classification", "algorithms": algorithms, **spec}
    return TrainingRun.model_validate(_document(name, wanted))


def candidate(name: str = "late-linear", **spec: Any) -> ModelCandidate:
    """A ModelCandidate as a TrainingRun makes it."""
    wanted = {
        "model": {"uri": f"s3://levada/models/default/{name}/", "digest": DIGEST},
        "task": "classification",
        "provenance": {"trainingRun": "late"},
        **spec,
    }
    return ModelCandidate.model_validate(_document(name, wanted))


def deployment(name: str = "late", **spec: Any) -> Deployment:
    """A Deployment that follows the TrainingRun late."""
    return Deployment.model_validate(_document(name, {"model": {"trainingRun": "late"}, **spec}))


def scoring_run(name: str = "late", **spec: Any) -> ScoringRun:
    """A ScoringRun of the newest version with what the Deployment late serves."""
    given = {"type": "featureSet", "featureSet": {"name": "flights"}}
    return ScoringRun.model_validate(_document(name, {"model": {"deployment": "late"}, "input": given, **spec}))


def _document(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": dict(spec)}


@dataclass
class World:
    """Resources and what an engine would observe of them. Plans are carried out at once; jobs end when told to."""

    resources: dict[Ref, AnyResource] = field(default_factory=dict)
    jobs: dict[Ref, dict[str, JobState]] = field(default_factory=dict)
    wanted: dict[str, Job] = field(default_factory=dict)
    serving: dict[Ref, ServingState] = field(default_factory=dict)
    sources: dict[Ref, str] = field(default_factory=dict)
    triggers: dict[Ref, tuple[str, ...]] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)  # by algorithm
    decided: list[tuple[Ref, Action, str]] = field(default_factory=list)  # what was decided, with its key
    now: datetime = NOW
    local: bool = False
    rolling: bool = False

    def add(self, *resources: AnyResource) -> None:
        for resource in resources:
            self.resources[resource.ref] = resource

    def edit(self, ref: Ref, **spec: Any) -> None:
        """Change fields of a spec (YAML names; None takes one away), as `kubectl apply` would."""
        old = self.resources[ref]
        document = {**old.spec.document(), **spec}
        changed = RESOURCES[ref.kind].model_validate(
            {**old.document(), "spec": {k: v for k, v in document.items() if v is not None}}
        )
        self.add(
            changed.model_copy(
                update={
                    "status": old.status,
                    "metadata": old.metadata.model_copy(update={"generation": old.metadata.generation + 1}),
                }
            )
        )

    def annotate(self, ref: Ref, value: str) -> None:
        """Ask for an execution by hand."""
        old = self.resources[ref]
        annotations = {names.ANNOTATION_REQUESTED: value}
        self.add(old.model_copy(update={"metadata": old.metadata.model_copy(update={"annotations": annotations})}))

    def observed(self, ref: Ref) -> Observed:
        return Observed(
            resources=self.resources,
            jobs=self.jobs.get(ref, {}),
            serving=self.serving.get(ref),
            source=self.sources.get(ref),
            triggers=self.triggers.get(ref, ()),
            local=self.local,
            rolling=self.rolling,
        )

    def plan(self, ref: Ref) -> Plan:
        """The plan for a resource; that planning it twice is planning it once is checked every time."""
        resource = self.resources[ref]
        planned = plan(resource, self.observed(ref), self.now)
        again = resource.model_copy(update={"status": planned.status})
        later = plan(again, self.observed(ref), self.now + timedelta(milliseconds=1))
        assert later.status == planned.status
        assert [j.name for j in later.jobs] == [j.name for j in planned.jobs]
        assert later.serving == planned.serving
        assert later.decisions == ()
        # An engine that was killed before it could write the status decides the same once more.
        repeated = plan(resource, self.observed(ref), self.now + timedelta(milliseconds=1))
        assert [(d.action, d.key) for d in repeated.decisions] == [(d.action, d.key) for d in planned.decisions]
        for decision in planned.decisions:
            event = Event(
                id=decision.key,
                type=EventType(decision.action.value),
                kind=ref.kind,
                namespace=ref.namespace,
                name=ref.name,
                time=self.now,
                data={**decision.data, "reason": decision.reason.value, "message": decision.message},
            )
            event.check()
        return planned

    def reconcile(self, ref: Ref) -> Plan:
        """Plan, and carry it out."""
        planned = self.plan(ref)
        self.decided += [(ref, d.action, d.key) for d in planned.decisions]
        resource = self.resources[ref]
        # What the stores hand back is what was written.
        status = type(resource.status).model_validate_json(planned.status.model_dump_json(by_alias=True))
        assert status == planned.status
        self.add(resource.model_copy(update={"status": status}))
        mine = self.jobs.setdefault(ref, {})
        kept = {job.name for job in planned.jobs} | set(planned.keep)
        for name in [name for name, job in mine.items() if job.phase == "active" and name not in kept]:
            del mine[name]
        for job in planned.jobs:
            self.wanted[job.name] = job
            mine.setdefault(job.name, JobState(job.name, "active", started_at=self.now))
        for child in planned.children:
            old = self.resources.get(child.ref)
            generation = 1 if old is None else old.metadata.generation + 1
            metadata = child.metadata.model_copy(update={"generation": generation, "uid": f"uid-{child.metadata.name}"})
            status = old.status if old is not None else child.status
            self.add(child.model_copy(update={"metadata": metadata, "status": status}))
        self.triggers[ref] = tuple(t for t in self.triggers.get(ref, ()) if t not in planned.answered)
        return planned

    def settle(self) -> None:
        """Reconcile and let jobs succeed and versions become ready until nothing changes any more."""
        for _ in range(100):
            before = {ref: resource.status for ref, resource in self.resources.items()}
            ended = False
            for ref in list(self.resources):
                planned = self.reconcile(ref)
                if planned.serving is not None:
                    ready = frozenset(v.version for v in planned.serving.versions)
                    self.serving[ref] = ServingState(ready, url="http://127.0.0.1:1")
                for name in self.active(ref):
                    self.succeed(ref, name)
                    ended = True
            if not ended and before == {ref: resource.status for ref, resource in self.resources.items()}:
                return
        raise AssertionError("the planners do not settle")

    def active(self, ref: Ref) -> list[str]:
        return [name for name, job in self.jobs.get(ref, {}).items() if job.phase == "active"]

    def succeed(self, ref: Ref, name: str | None = None, *, warnings: tuple[str, ...] = ()) -> None:
        """Let a job (the only active one if none is named) succeed."""
        name = name or self.active(ref)[0]
        job = self.wanted[name]
        outputs = [self.output(job, index) for index in range(job.completions)]
        results = tuple(
            StepResult(job=name, index=i, output=o, warnings=list(warnings), finished_at=self.now)
            for i, o in enumerate(outputs)
        )
        self.jobs[ref][name] = replace(self.jobs[ref][name], phase="succeeded", results=results, finished_at=self.now)

    def fail(self, ref: Ref, reason: Reason = Reason.SOURCE_NOT_FOUND, message: str = "there is no bucket 'b'") -> None:
        """Let the only active job fail for good."""
        name = self.active(ref)[0]
        error = StepError(reason=reason, message=message)
        self.jobs[ref][name] = replace(self.jobs[ref][name], phase="failed", error=error, finished_at=self.now)

    def output(self, job: Job, index: int) -> AnyOutput | None:
        """What a step would return: of most steps, only the last index commits."""
        work, owner = job.input.work, job.input.owner
        if isinstance(work, TrainWork):
            algorithm = work.spec.algorithms[index]
            name = work.candidates[index]
            return TrainOutput(
                candidate=TrainedCandidate(
                    algorithm=algorithm,
                    name=name,
                    prefix=names.model_prefix(owner.namespace, name),
                    digest=DIGEST,
                    onnx_digest=names.digest(name.encode()),
                    split_digest=DIGEST,
                    split_prefix=names.split_prefix(owner.namespace, owner.name, work.split),
                    rows={"train": 8, "test": 2},
                )
            )
        if index < job.completions - 1:
            return None
        match work:
            case IngestWork():
                columns = [Column(name="id", type=ColumnType.INT64), Column(name="at", type=ColumnType.TIMESTAMP)]
                return IngestOutput(
                    prefix=names.batch_prefix(owner.namespace, owner.name, work.batch),
                    digest=DIGEST,
                    manifest=BatchManifest(
                        batch=work.batch,
                        namespace=owner.namespace,
                        dataset=owner.name,
                        columns=columns,
                        rows=5,
                        originals=[FILE],
                        typed=[FILE],
                        created_at=self.now,
                    ),
                )
            case PrepareWork():
                return PrepareOutput(
                    prefix=names.features_prefix(owner.namespace, owner.name, work.version),
                    digest=DIGEST,
                    manifest=FeatureManifest(
                        version=work.version,
                        namespace=owner.namespace,
                        feature_set=owner.name,
                        columns=[FeatureColumn(name="id", type=ColumnType.INT64, origin="query", role="key")],
                        keys=["id"],
                        rows=5,
                        files=[FILE],
                        inputs=[],
                        created_at=self.now,
                    ),
                )
            case EvaluateWork():
                fitted_by = work.candidate.split("-")[1] if "-" in work.candidate else work.candidate
                return EvaluateOutput(
                    prefix=names.evaluation_prefix(owner.namespace, owner.name, work.evaluation),
                    digest=DIGEST,
                    manifest=EvaluationManifest(
                        evaluation=work.evaluation,
                        namespace=owner.namespace,
                        candidate=work.candidate,
                        metrics=self.metrics.get(fitted_by, {"rocAuc": 0.5}),
                        evaluators=work.evaluators,
                        part="test",
                        rows=2,
                        report=StoredFile(key="report.html", bytes=10, digest=DIGEST),
                        created_at=self.now,
                    ),
                    model=ModelManifest(
                        candidate=work.candidate,
                        namespace=owner.namespace,
                        task=work.task,
                        algorithm=fitted_by,
                        type="logisticRegression",
                        onnx=StoredFile(key="model.onnx", bytes=10, digest=work.digest or DIGEST),
                        request=[],
                        inputs=[],
                        outputs=[],
                        created_at=self.now,
                    ),
                )
            case ScoreWork():
                return ScoreOutput(
                    prefix=names.scores_prefix(owner.namespace, owner.name, work.execution),
                    digest=DIGEST,
                    manifest=ScoresManifest(
                        execution=work.execution,
                        namespace=owner.namespace,
                        scoring_run=owner.name,
                        candidate=work.candidate,
                        model_digest=DIGEST,
                        rows=5,
                        files=[FILE],
                        created_at=self.now,
                    ),
                )
        raise AssertionError(work)


def ref(kind: Kind, name: str) -> Ref:
    return Ref(kind, "default", name)


def says(resource: AnyResource, type: ConditionType = ConditionType.READY) -> tuple[str, Reason, str] | None:
    """Status, reason and message of a condition."""
    found = condition_of(resource.status.conditions, type)
    return None if found is None else (found.status, found.reason, found.message)


def kstatus(resource: AnyResource) -> str:
    """How kstatus (sigs.k8s.io/cli-utils) reads a resource: Current, InProgress or Failed."""
    status = resource.status
    if status.observed_generation != resource.metadata.generation:
        return "InProgress"
    by_type = {c.type: c.status for c in status.conditions}
    if by_type.get(ConditionType.STALLED) == "True":
        return "Failed"
    if by_type.get(ConditionType.RECONCILING) == "True":
        return "InProgress"
    return "Current" if by_type.get(ConditionType.READY, "True") == "True" else "InProgress"
