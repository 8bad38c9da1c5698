"""Fields that no part of Levada honours yet are refused by name, never ignored: this is the one list of them.

Each is given with what to do instead.

Beside them, what can be seen from a spec alone: schedules, durations, strategies. All checks raise Stalled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from levada.errors import Stalled
from levada.names import Kind
from levada.planners import schedule, strategies
from levada.resources import (
    AnyResource,
    Dataset,
    Deployment,
    FeatureSet,
    ModelCandidate,
    ScoringRun,
    TrainingRun,
    hyperparameters,
)
from levada.resources.conditions import Reason

_Refused: TypeAlias = Iterator[tuple[str, str]]  # fields, each with what to do instead
_OMIT = "leave it out"
_OTHER_TASK = "use classification, regression or clustering"


def _dataset(dataset: Dataset) -> _Refused:
    if dataset.spec.source.type != "object":
        yield f"spec.source.type: {dataset.spec.source.type}", "use object, with the data as files"


def _feature_set(feature_set: FeatureSet) -> _Refused:
    spec = feature_set.spec
    if spec.engine.type != "duckdb":
        yield f"spec.engine.type: {spec.engine.type}", "use duckdb, without endpoint"
    if spec.lookback is not None:
        yield "spec.lookback", _OMIT


def _training_run(run: TrainingRun) -> _Refused:
    spec = run.spec
    if spec.task == "forecast":
        yield "spec.task: forecast", _OTHER_TASK
    if spec.search is not None:
        yield "spec.search", _OMIT
    for index, algorithm in enumerate(spec.algorithms):
        if algorithm.search:
            yield f"spec.algorithms[{index}].search", _OMIT
    if spec.parallelism.mode != "models":
        yield f"spec.parallelism.mode: {spec.parallelism.mode}", "use models"
    if spec.gate is not None and spec.gate.incumbent is not None:
        yield "spec.gate.incumbent", _OMIT


def _candidate(candidate: ModelCandidate) -> _Refused:
    if candidate.spec.task == "forecast":
        yield "spec.task: forecast", _OTHER_TASK
    if candidate.spec.signature is not None:
        yield "spec.signature", _OMIT


def _deployment(deployment: Deployment) -> _Refused:
    spec = deployment.spec
    if spec.rollout.strategy != "replace":
        without = ", without steps" if spec.rollout.steps is not None else ""
        yield f"spec.rollout.strategy: {spec.rollout.strategy}", f"use replace{without}"
    for name in ("fallback", "revert", "cache"):
        if getattr(spec, name) is not None:
            yield f"spec.{name}", _OMIT
    if spec.features.by_entity_key:
        yield "spec.features.byEntityKey", _OMIT
    if spec.async_ is not None:
        yield "spec.async", _OMIT
    if spec.monitoring.drift:
        yield "spec.monitoring.drift", _OMIT
    if spec.monitoring.outcomes is not None:
        yield "spec.monitoring.outcomes", _OMIT
    for index, test in enumerate(spec.tests):
        if test.type == "latency":
            yield f"spec.tests[{index}].type: latency", "use smoke or quality, or leave the test out"


def _scoring_run(run: ScoringRun) -> _Refused:
    yield from ()


def _uris(resource: AnyResource) -> Iterator[tuple[str, str]]:
    match resource:
        case Dataset(spec=spec) if spec.source.object is not None:
            yield "spec.source.object.uri", spec.source.object.uri
        case ScoringRun(spec=spec) if spec.input.object is not None:
            yield "spec.input.object.uri", spec.input.object.uri
        case ModelCandidate(spec=spec):
            yield "spec.model.uri", spec.model.uri


_UNSUPPORTED: dict[Kind, Callable[[Any], _Refused]] = {
    Kind.DATASET: _dataset,
    Kind.FEATURE_SET: _feature_set,
    Kind.TRAINING_RUN: _training_run,
    Kind.MODEL_CANDIDATE: _candidate,
    Kind.DEPLOYMENT: _deployment,
    Kind.SCORING_RUN: _scoring_run,
}


def check(resource: AnyResource, *, local: bool) -> None:
    """Raise Stalled for the first thing in a spec that cannot be carried out."""
    for field, instead in _UNSUPPORTED[resource.kind](resource):
        raise Stalled(Reason.NOT_SUPPORTED, f"{field} is not supported yet; {instead}")
    spec = resource.spec
    for field, uri in _uris(resource):
        if uri.startswith("file:") and not local:
            raise Stalled(
                Reason.NOT_SUPPORTED,
                f"{field}: only the local engine reads files ({uri}); put them into object storage",
            )
        if uri.startswith("./"):
            raise Stalled(
                Reason.INVALID_SPEC, f"{field}: {uri} leads out of the folder of sources; name a place inside of it"
            )
    if local and getattr(spec, "pod_template", None) is not None:
        raise Stalled(
            Reason.NOT_SUPPORTED,
            "spec.podTemplate: the local engine has no pods; leave it out, or run it on Kubernetes",
        )
    if local and getattr(spec, "triggers", None):
        raise Stalled(
            Reason.NOT_SUPPORTED, "spec.triggers: the local engine does not listen to messages yet; leave it out"
        )
    plan = getattr(spec, "schedule", None)
    if plan is not None:
        schedule.check(plan)
    if isinstance(resource, TrainingRun):
        strategies.objective_of(resource.spec)
        for index, algorithm in enumerate(resource.spec.algorithms):
            strategies.check_strategy(
                "algorithms", algorithm.type, resource.spec.task, f"spec.algorithms[{index}].type"
            )
            if algorithm.type in hyperparameters.BUILT_IN:
                params = hyperparameters.BUILT_IN[algorithm.type]
                hyperparameters.check(
                    params, algorithm.params, f"'{algorithm.name}'", f"spec.algorithms[{index}].params"
                )
    if isinstance(resource, TrainingRun | ModelCandidate):
        for index, name in enumerate(resource.spec.evaluators):
            strategies.check_strategy("evaluators", name, resource.spec.task, f"spec.evaluators[{index}]")
