"""Measures a model on rows whose truth is known, or, where there are none, says what can be said without them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa

from levada import names
from levada.artifacts import EvaluationManifest, FeatureManifest, ModelManifest, SplitManifest, StoredFile
from levada.errors import Stalled
from levada.features.model import MODEL_STAGE, OnnxModel
from levada.methods.evaluators import EVALUATORS, Finding, Measured
from levada.resources.conditions import Reason
from levada.steps.context import StepContext
from levada.steps.cores import cores
from levada.steps.evaluate.generated import generated_rows
from levada.steps.evaluate.model import load
from levada.steps.evaluate.report import Facts, render
from levada.steps.io import EvaluateWork
from levada.steps.rows import ParquetRows, numbers_of, tensors
from levada.stores.ports import ObjectNotFound

REPORT = "report.html"
DATA = "report.json"
SINGLE_RUNS = 200


@dataclass(frozen=True)
class Sample:
    """Rows to measure on: the model's inputs as tensors, the label's values (None without one), and which rows these
    are."""

    columns: dict[str, npt.NDArray[Any]]
    label: list[Any] | None
    part: str
    train: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(next(iter(self.columns.values())))


def evaluate(context: StepContext, work: EvaluateWork, prefix: str) -> tuple[EvaluationManifest, ModelManifest]:
    """Measure a candidate and write its report; the evaluation's manifest, not yet written, and the model's."""
    manifest, data = load(context, work)
    evaluators = {name: EVALUATORS[name] for name in work.evaluators}
    for name, evaluator in evaluators.items():
        if work.task not in evaluator.tasks:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"the evaluator '{name}' is not for the task {work.task} (there are: {', '.join(_fitting(work))})",
            )
    model = OnnxModel(data)
    sample = _sample(context, manifest)
    findings: dict[str, Finding] = {}
    if sample is not None:
        context.progress("score", 0, sample.count)
        measured = _measured(manifest, model, data, sample, work.seed)
        context.progress("score", sample.count, sample.count)
        for number, (name, evaluator) in enumerate(evaluators.items()):
            context.progress("evaluate", number, len(evaluators), "evaluators")
            findings[name] = evaluator.measure(measured)
        context.progress("evaluate", len(evaluators), len(evaluators), "evaluators")
    else:
        sample = _generated(manifest, work.seed)
        model.run_all(sample.columns)
    evaluation = EvaluationManifest(
        evaluation=work.evaluation,
        namespace=context.input.owner.namespace,
        candidate=work.candidate,
        metrics={name: value for found in findings.values() for name, value in found.metrics.items()},
        baselines={name: value for found in findings.values() for name, value in found.baselines.items()},
        figures={
            name: {
                "charts": [chart.document() for chart in found.charts],
                "tables": [table.document() for table in found.tables],
            }
            for name, found in findings.items()
        },
        evaluators=list(findings),
        part=sample.part,
        rows=sample.count,
        report=StoredFile(key=REPORT, bytes=0, digest=""),
        warnings=[*sample.warnings, *(text for found in findings.values() for text in found.warnings)],
        created_at=context.now(),
    )
    facts = Facts(len(onnx.load_from_string(data).graph.node), _single_row_seconds(model, sample))
    return _written(context, prefix, evaluation, manifest, facts), manifest


def _written(
    context: StepContext, prefix: str, evaluation: EvaluationManifest, model: ModelManifest, facts: Facts
) -> EvaluationManifest:
    """Write the report and its data."""
    html = render(evaluation, model, facts).encode()
    file = StoredFile(key=REPORT, bytes=len(html), digest=names.digest(html))
    evaluation = evaluation.model_copy(update={"report": file})
    context.objects.put(prefix + REPORT, html)
    context.objects.put(prefix + DATA, evaluation.to_bytes())
    return evaluation


def _fitting(work: EvaluateWork) -> list[str]:
    return sorted(name for name in EVALUATORS if work.task in EVALUATORS[name].tasks)


def _sample(context: StepContext, model: ModelManifest) -> Sample | None:
    """The test part of the model's split, all its rows if it has none; None for a model without data."""
    if model.features_prefix is None or model.split_prefix is None:
        return None
    objects = context.objects
    try:
        version = FeatureManifest.from_bytes(objects.get(model.features_prefix + names.MANIFEST))
        split = SplitManifest.from_bytes(objects.get(model.split_prefix + names.MANIFEST))
    except ObjectNotFound as error:
        raise Stalled(
            Reason.SOURCE_NOT_FOUND,
            f"the rows that the model '{model.candidate}' was fitted on are not there any more ({error}): train anew",
        ) from error
    part, warnings = "test", []
    numbers = numbers_of(split, part, objects, model.split_prefix)
    if not len(numbers):
        part = "all"
        numbers = np.sort(np.concatenate([numbers_of(split, p.name, objects, model.split_prefix) for p in split.parts]))
        warnings.append("the split has no test part, so the model was measured on the rows that it was fitted on")
    wanted = [column.name for column in model.inputs] + ([model.label] if model.label else [])
    rows = ParquetRows(objects, model.features_prefix, version.files)
    table = pa.Table.from_batches(list(rows.selected(wanted, numbers)))
    label = table.column(model.label).to_pylist() if model.label else None
    return Sample(tensors(table, model.inputs), label, part, split.statistics.get("train", {}), warnings)


def _measured(manifest: ModelManifest, model: OnnxModel, data: bytes, sample: Sample, seed: int) -> Measured:
    """What the model says of the sample, as evaluators take it."""
    found = model.run_all(sample.columns, cores())
    by_kind = {output.kind: found[output.name] for output in manifest.outputs}
    if manifest.task == "classification":
        assert sample.label is not None
        places = {value: place for place, value in enumerate(manifest.classes)}
        labels = by_kind["label"].tolist()
        if manifest.classes and isinstance(manifest.classes[0], bool):
            labels = [bool(value) for value in labels]
        return Measured(
            task=manifest.task,
            seed=seed,
            classes=manifest.classes,
            truth=np.array([places.get(value, -1) for value in sample.label]),
            predicted=np.array([places[value] for value in labels]),
            probabilities=by_kind["probabilities"],
            train=sample.train,
        )
    if manifest.task == "regression":
        return Measured(
            task=manifest.task,
            seed=seed,
            truth=np.array(sample.label, dtype=np.float64),
            prediction=by_kind["prediction"][:, 0].astype(np.float64),
            train=sample.train,
        )
    shown = with_features(data)
    features = None if shown is None else next(iter(OnnxModel(shown).run_all(sample.columns, cores()).values()))
    distance = by_kind.get("distance")
    return Measured(
        task=manifest.task,
        seed=seed,
        cluster=by_kind["cluster"],
        distance=None if distance is None else distance[:, 0].astype(np.float64),
        features=features,
    )


def with_features(data: bytes) -> bytes | None:
    """A model's graph up to the features [N, F] that its model stage takes; None if that cannot be told."""
    model = onnx.load_from_string(data)
    inner = {name for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if any(name.startswith(MODEL_STAGE) for name in node.output):
            outer = [name for name in node.input if name in inner and not name.startswith(MODEL_STAGE)]
            if outer:
                del model.graph.output[:]
                model.graph.output.append(onnx.helper.make_tensor_value_info(outer[0], onnx.TensorProto.FLOAT, None))
                return bytes(model.SerializeToString())
    return None


def _generated(manifest: ModelManifest, seed: int) -> Sample:
    warning = "the model comes without data, so nothing is known but that it runs on generated rows"
    return Sample(generated_rows(manifest.inputs, seed), None, "generated", warnings=[warning])


def _single_row_seconds(model: OnnxModel, sample: Sample) -> float:
    """Median time of scoring one row."""
    row = {name: values[:1] for name, values in sample.columns.items()}
    taken = []
    for _ in range(SINGLE_RUNS):
        started = time.perf_counter()
        model.run(row)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))
