"""What is kept of a trained model besides its file (TRAIN-5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from levada.artifacts import LookupSpec, ModelManifest, Output, Parity, StoredFile
from levada.methods.algorithms import FittedModel
from levada.methods.splitters import Parts
from levada.resources.dataset import Column
from levada.steps.context import StepContext
from levada.steps.io import TrainWork
from levada.steps.train import split_prefix
from levada.steps.train.data import Label, Version
from levada.steps.train.matrix import Matrix
from levada.steps.train.parity import TOLERANCE


@dataclass(frozen=True)
class Trained:
    """A model that was fitted, converted, verified and written."""

    candidate: str
    file: StoredFile
    fitted: FittedModel
    outputs: list[Output]
    max_abs: float
    parts: Parts
    warnings: list[str]
    label: Label | None


def manifest_of(
    context: StepContext, work: TrainWork, version: Version, inputs: Sequence[str], matrix: Matrix, trained: Trained
) -> ModelManifest:
    """The manifest; `inputs`: of the model's graph, in its order."""
    spec = work.spec.algorithms[context.index]
    lookups = _lookups(version, inputs)
    rows = {name: len(numbers) for name, numbers in trained.parts.items()}
    is_boolean = trained.label is not None and trained.label.is_boolean
    return ModelManifest(
        candidate=trained.candidate,
        namespace=context.input.owner.namespace,
        task=work.spec.task,
        algorithm=spec.name,
        type=spec.type,
        params=spec.params,
        onnx=trained.file,
        request=_request(version, inputs, lookups),
        lookups=lookups,
        inputs=[_plain(version, name) for name in inputs],
        outputs=trained.outputs,
        classes=[bool(c) for c in trained.fitted.classes] if is_boolean else list(trained.fitted.classes),
        feature_names=matrix.names,
        learned=trained.fitted.learned(matrix.names) | matrix.learned,
        accepted={name: values for name, values in matrix.accepted.items() if name in inputs},
        parity=Parity(rows=sum(rows.values()), max_abs=trained.max_abs, tolerance=TOLERANCE),
        warnings=trained.warnings,
        training_run=context.input.owner.name,
        execution=work.execution,
        feature_set=work.feature_set,
        feature_set_version=work.version,
        features_prefix=work.features_prefix,
        split=work.split,
        split_prefix=split_prefix(context, work),
        label=trained.label.name if trained.label else None,
        batches=version.manifest.inputs,
        rows=rows,
        timings=dict(context.timings),
        created_at=context.now(),
    )


def _lookups(version: Version, inputs: Sequence[str]) -> list[LookupSpec]:
    """The lookups that the model needs, each with the columns that it needs of it."""
    needed = []
    for lookup in version.manifest.lookups:
        columns = [column for column in lookup.columns if column.name in inputs]
        if columns:
            needed.append(lookup.model_copy(update={"columns": columns}))
    return needed


def _request(version: Version, inputs: Sequence[str], lookups: Sequence[LookupSpec]) -> list[Column]:
    """What a caller brings: columns of the query that the graph takes, or that lookups are found by."""
    needed = {name for name in inputs if version.column(name).origin == "query"}
    for lookup in lookups:
        needed.update(lookup.on)
        if lookup.as_of is not None:
            needed.add(lookup.as_of)
    return [_plain(version, column.name) for column in version.manifest.columns if column.name in needed]


def _plain(version: Version, name: str) -> Column:
    column = version.column(name)
    return Column(name=column.name, type=column.type, nullable=column.nullable)
