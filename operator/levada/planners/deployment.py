"""Deployment: which version serves, which is about to, and which stay warm.

A version is a candidate with a number. It is Pending until the scorers hold it, then Serving, then Previous when
another takes over. Naming a candidate that was served before makes its old version serve again: a rollback is one
edit. A rejected version is remembered and not tried again, unless its tests have changed and it passes them now.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime

from levada import names
from levada.errors import Stalled, Waiting
from levada.planners import references, supported
from levada.planners.conditions import Verdict, clipped, conditions_of
from levada.planners.executions import waits
from levada.planners.plan import Action, Decision, Observed, Plan, ServedVersion, Serving, ServingState
from levada.resources import Deployment, ModelCandidate
from levada.resources.conditions import ConditionType, Reason, condition_of
from levada.resources.deployment import DeploymentTest, VersionStatus
from levada.steps.io import StepError

VERSIONS_SHOWN = 20  # as DeploymentStatus bounds them


@dataclass
class _Notes:
    """What is decided on the way to a plan."""

    wanted: tuple[str, str] | None = None  # name and digest of the candidate that should serve
    decisions: list[Decision] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def decide(self, action: Action, reason: Reason, message: str, key: str, **data: object) -> None:
        self.decisions.append(Decision(action, reason, message, key, data))


def plan(deployment: Deployment, observed: Observed, now: datetime) -> Plan:
    """Bring the wanted candidate into service without taking away what serves before the new one is ready."""
    status = deployment.status
    state = observed.serving or ServingState()
    versions = list(status.versions)
    notes = _Notes()
    stalled: StepError | None = None
    waiting: Waiting | None = None
    try:
        supported.check(deployment, local=observed.local)
        versions = _wanted(deployment, observed, now, notes)
    except Stalled as error:
        stalled = StepError(reason=error.reason, message=error.message)
    except Waiting as error:
        waiting = error
    versions = _shown(_seen(deployment, state, now, versions, notes))
    serving = _find(versions, "Serving")
    if serving is not None:
        notes.warnings += [waiting.message] if waiting is not None else []
        notes.warnings += [_why_rejected(v) for v in versions if v.state == "Rejected" and _is(v, notes.wanted)]
        notes.warnings += [_why_cold(v, state.failed[v.version]) for v in versions if _is_cold(v, state)]
    status = status.model_copy(
        update={
            "observed_generation": deployment.metadata.generation,
            "versions": versions,
            "last_version": _last(deployment, versions),
            "serving_version": serving.version if serving is not None else None,
            "url": state.url if serving is not None else None,
            "warnings": [clipped(w, 1024) for w in notes.warnings],
        }
    )
    verdict = _verdict(deployment, versions, state, stalled, waiting)
    status = status.model_copy(update={"conditions": conditions_of(deployment, verdict, now)})
    if observed.rolling:
        versions = _promoted(versions, now)  # the scorers to come, while those that serve stay as they are
    return Plan(status=status, serving=_serving(deployment, versions, state), decisions=tuple(notes.decisions))


# --- what is wanted -------------------------------------------------------------------------------------------------


def _wanted(deployment: Deployment, observed: Observed, now: datetime, notes: _Notes) -> list[VersionStatus]:
    """The versions, with the wanted candidate's Pending unless it serves or was rejected. Raises Stalled, Waiting."""
    versions = list(deployment.status.versions)
    if deployment.spec.suspend:
        return versions
    candidate = _candidate(deployment, observed, notes)
    name, digest = candidate.metadata.name, candidate.status.digest
    notes.wanted = (name, digest)
    known = next((v for v in versions if _is(v, notes.wanted)), None)
    if known is not None and known.state == "Serving":
        return _without_pending(versions, now)
    broken = _broken_test(deployment.spec.tests, candidate)
    if known is not None and known.state == "Rejected" and (broken or known.reason != Reason.GATE_NOT_PASSED):
        return _without_pending(versions, now)
    if known is not None and known.state == "Pending" and not broken:
        return versions
    number = known.version if known is not None else 1 + _last(deployment, versions)
    others = [v for v in _without_pending(versions, now) if v.version != number]
    if known is None:
        message = f"version {number} was created for {name}"
        notes.decide(Action.VERSION_CREATED, Reason.PROGRESSING, message, f"{number}", version=number, candidate=name)
    version = VersionStatus(version=number, candidate=name, digest=digest, state="Pending", since=now)
    if broken:
        version = _rejected(deployment, version, Reason.GATE_NOT_PASSED, broken, now, notes)
    return [version, *others]


def _candidate(deployment: Deployment, observed: Observed, notes: _Notes) -> ModelCandidate:
    """The candidate that should serve; raises Waiting."""
    namespace, spec = deployment.metadata.namespace, deployment.spec
    if spec.model.candidate is not None:
        return references.candidate(observed, namespace, spec.model.candidate)
    assert spec.model.training_run is not None
    if spec.promotion == "automatic":
        best = references.training_run(observed, namespace, spec.model.training_run).status.best
        assert best is not None
        return references.candidate(observed, namespace, best.name)
    try:
        best = references.training_run(observed, namespace, spec.model.training_run).status.best
    except Waiting:
        if spec.approved is None:
            raise
        best = None
    if best is not None and best.name != spec.approved:
        message = f"{best.name} waits for approval; name it in spec.approved"
        if not _was_said(deployment, message):
            reason = Reason.WAITING_FOR_APPROVAL
            key = f"{best.name}/{best.since.isoformat()}/{deployment.metadata.generation}"
            notes.decide(Action.APPROVAL_NEEDED, reason, message, key, candidate=best.name)
        if spec.approved is None:
            raise references.ApprovalNeeded(message)
        notes.warnings.append(message)
    assert spec.approved is not None
    return references.candidate(observed, namespace, spec.approved)


def _was_said(deployment: Deployment, message: str) -> bool:
    ready = condition_of(deployment.status.conditions, ConditionType.READY)
    return message in deployment.status.warnings or (ready is not None and ready.message == message)


def _broken_test(tests: list[DeploymentTest], candidate: ModelCandidate) -> str:
    """What a candidate's evaluation misses of the tests, or an empty text."""
    evaluation = candidate.status.evaluation
    metrics = evaluation.metrics if evaluation is not None else {}
    for index, test in enumerate(tests):
        if test.type != "quality" or test.metric is None:
            continue  # smoke: every version is loaded, checked and answers before it serves
        value = metrics.get(test.metric, math.nan)
        if math.isnan(value):
            there = ", ".join(sorted(metrics)) or "none"
            return f"spec.tests[{index}]: it has no metric '{test.metric}' (it has: {there})"
        if test.minimum is not None and value < test.minimum:
            return f"spec.tests[{index}]: {test.metric} is {value:.4g}, less than {test.minimum:g}"
        if test.maximum is not None and value > test.maximum:
            return f"spec.tests[{index}]: {test.metric} is {value:.4g}, more than {test.maximum:g}"
    return ""


# --- what is seen ---------------------------------------------------------------------------------------------------


def _seen(
    deployment: Deployment, state: ServingState, now: datetime, versions: list[VersionStatus], notes: _Notes
) -> list[VersionStatus]:
    """The versions after what the scorers show: a Pending one that is ready serves, one that cannot be is rejected."""
    pending, serving = _find(versions, "Pending"), _find(versions, "Serving")
    if pending is None:
        return versions
    if pending.version in state.ready_versions:
        was = serving.version if serving is not None else 0
        notes.decide(
            Action.VERSION_SERVING,
            Reason.SERVING,
            f"version {pending.version} ({pending.candidate}) serves" + (f" instead of {was}" if was else ""),
            f"{pending.version}/{was}/{_known_since(deployment, was)}",
            version=pending.version,
            candidate=pending.candidate,
            **({"insteadOf": was} if was else {}),
        )
        return _promoted(versions, now)
    error = state.failed.get(pending.version)
    if error is not None:
        rejected = _rejected(deployment, pending, error.reason, error.message, now, notes)
        return [rejected if v.version == pending.version else v for v in versions]
    return versions


def _promoted(versions: list[VersionStatus], now: datetime) -> list[VersionStatus]:
    """The versions once the one that is Pending has taken over."""
    if _find(versions, "Pending") is None:
        return versions
    after = {"Pending": {"state": "Serving", "weight": 100}, "Serving": {"state": "Previous", "weight": 0}}
    return [v.model_copy(update={**after[v.state], "since": now}) if v.state in after else v for v in versions]


def _rejected(
    deployment: Deployment, version: VersionStatus, reason: Reason, why: str, now: datetime, notes: _Notes
) -> VersionStatus:
    message = clipped(why, 1024)
    update = {"state": "Rejected", "weight": 0, "since": now, "reason": reason, "message": message}
    rejected = version.model_copy(update=update)
    notes.decide(
        Action.VERSION_REJECTED,
        reason,
        _why_rejected(rejected),
        f"{version.version}/{names.short_hash(message)}/{_known_since(deployment, version.version)}",
        version=version.version,
        candidate=version.candidate,
    )
    return rejected


def _known_since(deployment: Deployment, number: int) -> str:
    """Since when a version has stood as the status has it: tells what happens to it now from when it happened before.

    Not the time of the plan, which comes again as long as the status has not been written.
    """
    return next((v.since.isoformat() for v in deployment.status.versions if v.version == number), "")


def _is(version: VersionStatus, wanted: tuple[str, str] | None) -> bool:
    return (version.candidate, version.digest) == wanted


def _why_rejected(version: VersionStatus) -> str:
    return f"version {version.version} ({version.candidate}) was rejected: {version.message}"


def _is_cold(version: VersionStatus, state: ServingState) -> bool:
    """Whether an earlier version that should stay warm cannot be served."""
    return version.state == "Previous" and version.version in state.failed


def _why_cold(version: VersionStatus, error: StepError) -> str:
    return f"version {version.version} ({version.candidate}) does not stay warm: {error.message}"


def _find(versions: list[VersionStatus], state: str) -> VersionStatus | None:
    return next((v for v in versions if v.state == state), None)


def _without_pending(versions: list[VersionStatus], now: datetime) -> list[VersionStatus]:
    """The versions, those on their way into service called back."""
    back = {"state": "Previous", "since": now}
    return [v.model_copy(update=back) if v.state == "Pending" else v for v in versions]


def _last(deployment: Deployment, versions: list[VersionStatus]) -> int:
    return max([deployment.status.last_version, *(v.version for v in versions)])


def _shown(versions: list[VersionStatus]) -> list[VersionStatus]:
    """The versions that the status can hold, newest first: rejected ones are forgotten last."""
    kept = sorted(versions, key=lambda v: -v.version)
    while len(kept) > VERSIONS_SHOWN:
        spare = [v for v in kept if v.state == "Previous"] or [v for v in kept if v.state == "Rejected"]
        kept.remove(spare[-1])
    return kept


# --- what is served and said ----------------------------------------------------------------------------------------


def _serving(deployment: Deployment, versions: list[VersionStatus], state: ServingState) -> Serving | None:
    """What the scorers should hold: the serving version, one on its way, and the previous ones that stay warm."""
    spec, metadata = deployment.spec, deployment.metadata
    serving, pending = _find(versions, "Serving"), _find(versions, "Pending")
    previous = sorted((v for v in versions if v.state == "Previous"), key=lambda v: (v.since, v.version), reverse=True)
    held = [v for v in (serving, pending) if v is not None] + previous[: spec.keep_versions - 1]
    if serving is None and pending is None:
        return None
    # Scorers switch once all that have a weight are loaded: one that cannot be must not hold up the one to follow it.
    first = pending if serving is None or (pending is not None and serving.version in state.failed) else serving
    scaling = spec.autoscaling
    return Serving(
        name=metadata.name,
        owner=deployment.ref,
        versions=tuple(
            ServedVersion(
                version=v.version,
                candidate=v.candidate,
                model_prefix=names.model_prefix(metadata.namespace, v.candidate),
                onnx_digest=v.digest,
                weight=100 if v == first else 0,
            )
            for v in sorted(held, key=lambda v: v.version)
        ),
        recording=spec.recording.enabled,
        record_requests=spec.recording.requests,
        replicas=1 if spec.replicas is None else spec.replicas,
        min_replicas=scaling.min_replicas if scaling is not None else None,
        max_replicas=scaling.max_replicas if scaling is not None else None,
        target_cpu_percent=scaling.target_cpu_percent if scaling is not None else None,
        resources=spec.resources,
    )


def _verdict(
    deployment: Deployment,
    versions: list[VersionStatus],
    state: ServingState,
    stalled: StepError | None,
    waiting: Waiting | None,
) -> Verdict:
    serving, pending = _find(versions, "Serving"), _find(versions, "Pending")
    if stalled is None and pending is None and serving is not None and serving.version in state.failed:
        error = state.failed[serving.version]
        why = f"version {serving.version} ({serving.candidate}) cannot be served: {error.message}"
        stalled = StepError(reason=error.reason, message=why)
    # A person named this very candidate: that it is not served is theirs to know. A best one may be rejected quietly.
    named = deployment.spec.model.candidate or deployment.spec.approved
    refused = next((v for v in versions if v.state == "Rejected" and (serving is None or v.candidate == named)), None)
    if stalled is None and pending is None and waiting is None and refused is not None:
        stalled = StepError(reason=refused.reason or Reason.NOT_READY, message=_why_rejected(refused))
    if stalled is not None:
        return Verdict("False", stalled.reason, stalled.message, stalled=True)
    work: tuple[Reason, str] | None = None
    if pending is not None:
        what = f"version {pending.version} ({pending.candidate}) is being brought into service"
        work = (Reason.PROGRESSING, f"{what}: {state.message}" if state.message else what)
    if serving is None:
        if work is not None:
            return Verdict("Unknown", *work, work)
        if waiting is not None:
            return waits(waiting)
        return Verdict("False", Reason.SUSPENDED, "suspended before a version was served; set spec.suspend to false")
    if serving.version not in state.ready_versions:
        what = f"version {serving.version} ({serving.candidate}) does not answer"
        message = f"{what}: {state.message}" if state.message else what
        return Verdict("False", Reason.NOT_READY, message, (Reason.PROGRESSING, message))
    message = f"version {serving.version} ({serving.candidate}) serves"
    if pending is not None and work is not None and pending.candidate == named:
        return Verdict("Unknown", *work, work)
    return Verdict("True", Reason.SERVING, message, work)
