"""Fits one algorithm of a training run and writes its model."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from levada import names
from levada.artifacts import ModelManifest, Output, StoredFile
from levada.errors import Stalled
from levada.features.graph import Stage, merge
from levada.features.model import MODEL_STAGE, OnnxModel
from levada.methods.algorithms import ALGORITHMS, Algorithm, FittedModel, Predictions, Training
from levada.methods.splitters import Parts
from levada.resources.conditions import Reason
from levada.steps.context import StepContext
from levada.steps.cores import cores
from levada.steps.io import StepError, TrainedCandidate, TrainWork
from levada.steps.rows import numbers_of
from levada.steps.train import split_prefix
from levada.steps.train.data import Label, Version, open_version
from levada.steps.train.manifest import Trained, manifest_of
from levada.steps.train.matrix import Matrix, make_matrix
from levada.steps.train.parity import TOLERANCE, Difference, difference
from levada.steps.train.split import split

MODEL = "model.onnx"


class _Unfit(Exception):
    """An algorithm cannot be fitted; others of the same run may be."""


def fit(context: StepContext, work: TrainWork, candidate: str, prefix: str) -> ModelManifest | TrainedCandidate:
    """The manifest of a model whose file is written; or the candidate that is refused, because it cannot be fitted or
    its ONNX twin says something else than it."""
    threads = cores()
    algorithm = _algorithm(context, work)
    version = open_version(context.objects, work.features_prefix, work.version)
    label = _label(work, version)
    with _phase(context, "split"):
        split_manifest = split(context, work, version, label)
        where = split_prefix(context, work)
        parts = {p.name: numbers_of(split_manifest, p.name, context.objects, where) for p in split_manifest.parts}
        warned = _check_label(label, parts)

    def refused(reason: Reason, message: str) -> TrainedCandidate:
        return TrainedCandidate(
            algorithm=work.spec.algorithms[context.index],
            name=candidate,
            prefix=prefix,
            rows={name: len(rows) for name, rows in parts.items()},
            refused=StepError(reason=reason, message=message),
        )

    with _phase(context, "transform"), threadpool_limits(threads):
        matrix = make_matrix(work, version, label, parts, algorithm.accepts_gaps, threads)
    with _phase(context, "fit"), threadpool_limits({"openmp": threads, "blas": 1}):  # BLAS adds up as its threads fall
        try:
            fitted, messages = _fit(context, work, algorithm, matrix, label, parts, split_manifest.shuffle, threads)
        except _Unfit as unfit:
            return refused(Reason.INVALID_SPEC, str(unfit))
    with _phase(context, "convert"):
        outputs = _outputs(fitted, matrix)
        model = merge(
            [*matrix.stages, Stage(fitted.graph(), MODEL_STAGE, outputs={o.kind: o.name for o in outputs})],
            outputs=[output.name for output in outputs],
        ).SerializeToString(deterministic=True)
    with _phase(context, "verify"), threadpool_limits(threads):
        found, row = _verify(model, outputs, fitted, matrix, np.concatenate(list(parts.values())), threads)
    if found.max_abs > TOLERANCE:
        return refused(Reason.PARITY_BROKEN, _refusal(work, version, context.index, found, row))
    file = StoredFile(key=MODEL, bytes=len(model), digest=names.digest(model))
    context.objects.put(prefix + MODEL, model)
    trained = Trained(
        candidate, file, fitted, outputs, found.max_abs, parts, [*warned, *matrix.warnings, *messages], label
    )
    return manifest_of(context, work, version, OnnxModel(model).inputs, matrix, trained)


def _algorithm(context: StepContext, work: TrainWork) -> Algorithm:
    """The algorithm of this index; raises Stalled if it is not there, or not for this task or these parameters."""
    spec = work.spec.algorithms[context.index]
    algorithm = ALGORITHMS[spec.type]
    if work.spec.task not in algorithm.tasks:
        fitting = [name for name in ALGORITHMS if work.spec.task in ALGORITHMS[name].tasks]
        raise Stalled(
            Reason.INVALID_SPEC,
            f"the algorithm '{spec.name}' is of type {spec.type}, which is not for the task {work.spec.task}"
            + (f" (there are: {', '.join(sorted(fitting))})" if fitting else ", for which there is no algorithm yet"),
        )
    algorithm.check(spec.params, spec.name)
    return algorithm


def _label(work: TrainWork, version: Version) -> Label | None:
    if work.spec.task == "clustering":
        return None
    name = version.manifest.label
    if name is None:
        raise Stalled(
            Reason.INVALID_SPEC,
            f"the feature set '{work.feature_set}' has no label, and the task {work.spec.task} needs one: name its "
            "column in spec.label of the feature set",
        )
    return version.label(name, work.spec.task)


def _check_label(label: Label | None, parts: Parts) -> list[str]:
    """Warnings about the label; raises Stalled if there is nothing to learn."""
    if label is None:
        return []
    values = np.unique(label.values[parts["train"]])
    if len(values) < 2:
        shown = bool(values[0]) if label.is_boolean else values[0]
        raise Stalled(
            Reason.CONSTANT_LABEL,
            f"the label '{label.name}' is {shown} in all {len(parts['train'])} rows of the training part, so there is "
            "nothing to learn: check the query, or split another way",
        )
    if label.values.dtype == np.float64:
        return []
    unseen = np.setdiff1d(label.values[np.concatenate(list(parts.values()))], values)
    return [
        f"the class '{bool(value) if label.is_boolean else value}' of the label '{label.name}' is never in the "
        "training part, so no model can predict it"
        for value in unseen
    ]


def _fit(
    context: StepContext,
    work: TrainWork,
    algorithm: Algorithm,
    matrix: Matrix,
    label: Label | None,
    parts: Parts,
    shuffle: bool,
    threads: int,
) -> tuple[FittedModel, list[str]]:
    """The fitted model, and what a person should know of the fit; raises _Unfit."""
    seed, spec = work.spec.split.seed, work.spec.algorithms[context.index]
    rows = np.random.default_rng(seed).permutation(parts["train"]) if shuffle else parts["train"]
    held_out = parts.get("validation")
    training = Training(
        task=work.spec.task,
        features=matrix.values[rows],
        labels=None if label is None else label.values[rows],
        validation=None
        if held_out is None
        else (matrix.values[held_out], None if label is None else label.values[held_out]),
        seed=seed,
        threads=threads,
    )
    context.progress("fit", 0, len(rows))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = algorithm.fit(training, spec.params)
        except ValueError as error:
            why = " ".join(str(error).split())
            raise _Unfit(f"the algorithm '{spec.name}' ({spec.type}) cannot be fitted: {why}") from error
    context.progress("fit", len(rows), len(rows))
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        return fitted, [
            f"the algorithm '{spec.name}' ({spec.type}) stopped before it converged: raise maxIterations, or scale the "
            "features"
        ]
    return fitted, []


def _outputs(fitted: FittedModel, matrix: Matrix) -> list[Output]:
    """The outputs of the whole graph: named by their kinds, unless a column has that name."""
    return [
        output.model_copy(update={"name": f"model_{output.name}"}) if output.name in matrix.columns else output
        for output in fitted.outputs()
    ]


def _verify(
    model: bytes,
    outputs: list[Output],
    fitted: FittedModel,
    matrix: Matrix,
    rows: npt.NDArray[np.int64],
    threads: int,
) -> tuple[Difference, int]:
    """The worst difference over all rows of all parts between the file that is served and the fitted model, and the
    number of the row where it is."""
    rows = np.sort(rows)
    columns = {name: values[rows] for name, values in matrix.columns.items()}
    found = OnnxModel(model).run_all(columns, threads)
    by_kind: Predictions = {output.kind: found[output.name] for output in outputs}
    worst = difference(fitted.predict(matrix.values[rows]), by_kind, fitted.classes)
    return worst, int(rows[worst.row])


def _refusal(work: TrainWork, version: Version, index: int, found: Difference, row: int) -> str:
    keys = version.manifest.keys + ([version.manifest.timestamp] if version.manifest.timestamp else [])
    which = next(version.rows.batches(keys, row, row + 1)).to_pylist()[0] if keys else {}
    shown = ", ".join(f"{name}={value}" for name, value in which.items())
    return (
        f"the ONNX model of the algorithm '{work.spec.algorithms[index].name}' says {found.found} and the fitted model "
        f"{found.expected} in row {row}{f' ({shown})' if shown else ''} of the version {work.version}: a difference of "
        f"{found.max_abs:.2g}, and at most {TOLERANCE:g} is allowed; scale the features, or choose another algorithm"
    )


@contextmanager
def _phase(context: StepContext, name: str) -> Iterator[None]:
    """Tells of a phase and notes how many seconds it took."""
    context.progress(name, 0, 1, "steps")
    started = time.perf_counter()
    yield
    context.timings[name] = round(time.perf_counter() - started, 3)
    context.progress(name, 1, 1, "steps")
