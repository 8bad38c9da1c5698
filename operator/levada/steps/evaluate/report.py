"""The evaluation as a page: one HTML file without scripts, for light and dark, for screens, printers and readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jinja2

from levada.artifacts import EvaluationManifest, ModelManifest
from levada.methods.evaluators import Chart, Table
from levada.steps.evaluate.charts import draw, number_text

SHOWN_FEATURES = 20
LEARNED = {
    "importances": "Importance of the features",
    "splits": "How often trees split by a feature",
    "coefficients": "Coefficients of the features",
}
UNITS = (("B", 1), ("KiB", 1024), ("MiB", 1024**2), ("GiB", 1024**3))


@dataclass(frozen=True)
class Facts:
    """What was seen of the artefact itself: nodes of its graph, median seconds for one row."""

    nodes: int
    single_row_seconds: float


def render(evaluation: EvaluationManifest, model: ModelManifest, facts: Facts) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("levada.steps.evaluate", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number_text
    figures = [evaluation.figures[name] for name in evaluation.evaluators]
    charts = [Chart.model_validate(document) for found in figures for document in found["charts"]]
    return environment.get_template("report.html.j2").render(
        evaluation=evaluation,
        model=model,
        metrics=_metrics(evaluation),
        charts=[(chart, draw(chart, environment, number)) for number, chart in enumerate(charts)],
        tables=[Table.model_validate(document) for found in figures for document in found["tables"]],
        learned=_learned(model),
        lineage=_lineage(evaluation, model),
        size=_size(model.onnx.bytes),
        facts=facts,
    )


def _metrics(evaluation: EvaluationManifest) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "value": number_text(round(value, 4)),
            "baseline": number_text(round(evaluation.baselines[name], 4)) if name in evaluation.baselines else "",
        }
        for name, value in evaluation.metrics.items()
    ]


def _learned(model: ModelManifest) -> dict[str, Any] | None:
    """What a model learnt of each feature, strongest first; bars are drawn relative to the strongest."""
    for kind, title in LEARNED.items():
        values = model.learned.get(kind)
        if isinstance(values, dict) and all(isinstance(value, int | float) for value in values.values()):
            strongest = sorted(values.items(), key=lambda item: -abs(item[1]))[:SHOWN_FEATURES]
            most = max((abs(value) for _, value in strongest), default=0.0) or 1.0
            rows = [(name, f"{value:.4g}", round(100 * abs(value) / most, 1), value < 0) for name, value in strongest]
            return {"title": title, "rows": rows, "left_out": len(values) - len(rows)}
    return None


def _lineage(evaluation: EvaluationManifest, model: ModelManifest) -> list[tuple[str, str]]:
    """Ids by which everything is traced, from the evaluation back to the raw batches."""
    pairs = [
        ("Evaluation", evaluation.evaluation),
        ("Candidate", f"{model.namespace}/{model.candidate}"),
        ("ONNX file", model.onnx.digest),
        ("Execution", model.execution),
        ("Split", model.split),
        ("Feature set version", model.feature_set_version),
        *((f"{given.kind} {given.name}", ", ".join(given.ids)) for given in model.batches),
        *((f"Lookup of {lookup.feature_set}", lookup.version) for lookup in model.lookups),
        ("Source", model.params.get("source") if model.type == "external" else None),
    ]
    return [(name, value) for name, value in pairs if value]


def _size(count: int) -> str:
    unit, factor = max((u for u in UNITS if count >= u[1]), key=lambda u: u[1], default=UNITS[0])
    return f"{count / factor:.3g} {unit}"
