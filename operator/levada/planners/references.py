"""Following references: what a resource refers to, whether it is there and usable, and cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from levada.errors import Stalled, Waiting
from levada.names import Kind
from levada.planners.plan import Observed
from levada.resources import (
    AnyResource,
    Dataset,
    Deployment,
    FeatureSet,
    ModelCandidate,
    Ref,
    ScoringRun,
    TrainingRun,
)
from levada.resources.conditions import ConditionType, Reason, condition_of, is_true


class MissingReference(Waiting):
    """A resource that is referred to does not exist (yet): manifests come in any order."""


class ApprovalNeeded(Waiting):
    """A person must approve first."""


def references_of(resource: AnyResource) -> frozenset[Ref]:
    """The resources whose changes may change this one's plan (its children too, once its status names them)."""
    namespace = resource.metadata.namespace
    names: set[tuple[Kind, str | None]] = set()
    match resource:
        case FeatureSet(spec=spec):
            names |= {(Kind.DATASET, i.dataset) for i in spec.inputs}
            names |= {(Kind.FEATURE_SET, lookup.feature_set) for lookup in spec.lookups}
        case TrainingRun(spec=spec, status=status):
            names.add((Kind.FEATURE_SET, spec.feature_set.name))
            names |= {(Kind.MODEL_CANDIDATE, c.name) for c in status.candidates}
        case Deployment(spec=spec, status=status):
            names |= {(Kind.TRAINING_RUN, spec.model.training_run), (Kind.MODEL_CANDIDATE, spec.model.candidate)}
            names.add((Kind.MODEL_CANDIDATE, spec.approved))
            names |= {(Kind.MODEL_CANDIDATE, v.candidate) for v in status.versions}
        case ScoringRun(spec=spec):
            names |= {
                (Kind.DEPLOYMENT, spec.model.deployment),
                (Kind.TRAINING_RUN, spec.model.training_run),
                (Kind.MODEL_CANDIDATE, spec.model.candidate),
                (Kind.DATASET, spec.input.dataset),
                (Kind.FEATURE_SET, spec.input.feature_set.name if spec.input.feature_set else None),
            }
        case _:
            pass
    return frozenset(Ref(kind, namespace, name) for kind, name in names if name is not None)


def cycle_through(start: FeatureSet, resources: Mapping[Ref, AnyResource]) -> tuple[Ref, ...] | None:
    """A shortest way from a FeatureSet over look-ups back to itself, or None."""
    ways: list[tuple[Ref, ...]] = [(start.ref,)]
    seen = {start.ref}
    for way in ways:
        here = start if way[-1] == start.ref else resources.get(way[-1])
        for other in _lookups(here):
            if other == start.ref:
                return way
            if other not in seen:
                seen.add(other)
                ways.append((*way, other))
    return None


def _lookups(resource: AnyResource | None) -> Iterable[Ref]:
    if not isinstance(resource, FeatureSet):
        return ()
    return [Ref(Kind.FEATURE_SET, resource.metadata.namespace, x.feature_set) for x in resource.spec.lookups]


def dataset(observed: Observed, namespace: str, name: str) -> Dataset:
    """A Dataset that has a batch; raises Waiting."""
    found = _existing(observed, Ref(Kind.DATASET, namespace, name))
    assert isinstance(found, Dataset)
    if found.status.latest_batch is None:
        raise _not_yet(found, "has no batch yet")
    return found


def feature_set(observed: Observed, namespace: str, name: str) -> FeatureSet:
    """A FeatureSet that has a version; raises Waiting."""
    found = _existing(observed, Ref(Kind.FEATURE_SET, namespace, name))
    assert isinstance(found, FeatureSet)
    if found.status.latest_version is None:
        raise _not_yet(found, "has no version yet")
    return found


def training_run(observed: Observed, namespace: str, name: str) -> TrainingRun:
    """A TrainingRun that has a best candidate; raises Waiting."""
    found = _existing(observed, Ref(Kind.TRAINING_RUN, namespace, name))
    assert isinstance(found, TrainingRun)
    if found.status.best is None:
        raise _not_yet(found, "has no best candidate yet")
    return found


def candidate(observed: Observed, namespace: str, name: str) -> ModelCandidate:
    """A ModelCandidate that has been evaluated; raises Waiting."""
    found = _existing(observed, Ref(Kind.MODEL_CANDIDATE, namespace, name))
    assert isinstance(found, ModelCandidate)
    if found.status.evaluation is None:
        raise _not_yet(found, "has not been evaluated yet")
    return found


def deployment(observed: Observed, namespace: str, name: str) -> Deployment:
    """A Deployment that serves a version; raises Waiting."""
    found = _existing(observed, Ref(Kind.DEPLOYMENT, namespace, name))
    assert isinstance(found, Deployment)
    if found.status.serving_version is None:
        raise _not_yet(found, "serves no version yet")
    return found


def settled(resource: AnyResource) -> AnyResource:
    """The resource, if what it shows is that of its spec; raises Waiting while a changed spec is being carried out.

    Else a change of several manifests at once would first be carried out on results that are about to be replaced.
    """
    status = resource.status
    ready = condition_of(status.conditions, ConditionType.READY)
    if status.observed_generation != resource.metadata.generation or (ready is not None and ready.status == "Unknown"):
        raise Waiting(f"waits for {resource.ref}, which is being brought up to date")
    return resource


def _existing(observed: Observed, ref: Ref) -> AnyResource:
    found = observed.resources.get(ref)
    if found is None:
        raise MissingReference(f"waits for {ref}, which does not exist")
    return found


def _not_yet(resource: AnyResource, what: str) -> Waiting:
    ready = condition_of(resource.status.conditions, ConditionType.READY)
    why = ""
    if ready is not None and is_true(resource.status.conditions, ConditionType.STALLED):
        why = f": {ready.message}"
    elif ready is not None and ready.reason == Reason.SUSPENDED:
        why = " and is suspended"
    return Waiting(f"waits for {resource.ref}, which {what}{why}")


def refuse_cycle(resource: FeatureSet, observed: Observed) -> None:
    """Raise Stalled if a FeatureSet looks itself up, directly or over others."""
    cycle = cycle_through(resource, observed.resources)
    if cycle is not None:
        way = " → ".join(ref.name for ref in (*cycle, cycle[0]))
        raise Stalled(
            Reason.CYCLE, f"spec.lookups: the look-ups of FeatureSets form a cycle: {way}; remove one of them"
        )
