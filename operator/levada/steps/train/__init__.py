"""The train step: split, fit, convert to ONNX, verify (SPLIT-1 … SPLIT-3, TRAIN-5, TRAIN-6).

Index i fits algorithm i of the TrainingRun. All indexes compute the same split; the first one writes it. A model's
`manifest.json` is written last, only if absent, and keeps the clock's time of that moment; `model.onnx` depends on
nothing but the inputs, so a step that was killed before and runs again writes the same bytes.
"""

from __future__ import annotations

import os

from levada import names
from levada.artifacts import ModelManifest, SplitManifest
from levada.events import EventType
from levada.steps.context import StepContext
from levada.steps.io import TrainedCandidate, TrainOutput, TrainWork
from levada.stores.ports import ObjectNotFound

# Read when scikit-learn loads OpenMP, whose threads otherwise wait for each other by spinning: on two cores shared with
# another process, boosted trees took 6 to 30 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def run(context: StepContext) -> TrainOutput:
    """Train the candidate of this index. Raises Stalled where the data or the spec do not allow it."""
    work = context.input.work
    assert isinstance(work, TrainWork)
    namespace, candidate = context.input.owner.namespace, work.candidates[context.index]
    prefix = names.model_prefix(namespace, candidate)
    try:
        data = context.objects.get(prefix + names.MANIFEST)
    except ObjectNotFound:
        from levada.steps.train.fit import fit

        outcome = fit(context, work, candidate, prefix)
        if isinstance(outcome, TrainedCandidate):
            return TrainOutput(candidate=outcome)
        data, _ = context.put_manifest(prefix + names.MANIFEST, outcome)
    return TrainOutput(candidate=commit(context, work, prefix, data))


def commit(context: StepContext, work: TrainWork, prefix: str, data: bytes) -> TrainedCandidate:
    """Make a model whose manifest is written known, once."""
    manifest = ModelManifest.from_bytes(data)
    digest = names.digest(data)
    split, split_digest = split_of(context, work)
    owner = context.input.owner
    event = context.event(
        EventType.MODEL_TRAINED,
        key=(owner.uid, work.execution, manifest.candidate),
        time=manifest.created_at,
        data={
            "candidate": manifest.candidate,
            "algorithm": manifest.algorithm,
            "execution": work.execution,
            "featureSetVersion": work.version,
            "split": work.split,
            "uri": context.objects.uri(prefix),
            "digest": digest,
        },
    )
    context.catalogue.commit_candidate(manifest, context.objects.uri(prefix), digest, event)
    # the split is the same for all indexes, so one of them speaks of it
    for message in [*(split.warnings if context.index == 0 else []), *manifest.warnings]:
        context.warn(message)
    return TrainedCandidate(
        algorithm=work.spec.algorithms[context.index],
        name=manifest.candidate,
        prefix=prefix,
        digest=digest,
        onnx_digest=manifest.onnx.digest,
        split_digest=split_digest,
        split_prefix=split_prefix(context, work),
        rows=manifest.rows,
        warnings=manifest.warnings,
    )


def split_prefix(context: StepContext, work: TrainWork) -> str:
    """Where the split lies."""
    return names.split_prefix(context.input.owner.namespace, context.input.owner.name, work.split)


def split_of(context: StepContext, work: TrainWork) -> tuple[SplitManifest, str]:
    """The split that is there, and its manifest's digest; raises ObjectNotFound."""
    data = context.objects.get(split_prefix(context, work) + names.MANIFEST)
    return SplitManifest.from_bytes(data), names.digest(data)
