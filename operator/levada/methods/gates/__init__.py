"""What a candidate must reach before it may be called the best (EVAL-4). Pure: planners call it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from levada.resources.trainingrun import Gate, Objective, Task

# Metric and direction by which candidates are compared where a TrainingRun names none.
OBJECTIVES = {
    "classification": Objective(metric="rocAuc", direction="maximize"),
    "regression": Objective(metric="rmse", direction="minimize"),
    "clustering": Objective(metric="silhouette", direction="maximize"),
    "forecast": Objective(metric="rmse", direction="minimize"),
}


def objective_of(task: Task, objective: Objective | None) -> Objective:
    """What candidates are compared by."""
    return objective or OBJECTIVES[task]


def gain(objective: Objective, value: float, than: float) -> float:
    """By how much `value` is better than `than`; negative if it is worse, NaN if either is."""
    return value - than if objective.direction == "maximize" else than - value


def failures(
    gate: Gate | None,
    metrics: Mapping[str, float],
    objective: Objective,
    incumbent: Mapping[str, float] | None = None,
) -> list[str]:
    """Why a candidate does not pass its gate, a sentence each; empty if it passes.

    `incumbent` has the metrics of the model that serves now, measured on the same split; None if none serves, and then
    there is nothing to beat. A metric that was not measured, or is NaN, does not pass.
    """
    if gate is None:
        return []
    found = []
    for metric, least in gate.minimum.items():
        value = metrics.get(metric, math.nan)
        if not value >= least:
            found.append(f"{metric} is {_shown(metrics, metric)}, but the gate asks for at least {least:g}")
    for metric, most in gate.maximum.items():
        value = metrics.get(metric, math.nan)
        if not value <= most:
            found.append(f"{metric} is {_shown(metrics, metric)}, but the gate allows at most {most:g}")
    if gate.incumbent is not None and incumbent is not None:
        name, wanted = objective.metric, gate.incumbent.min_improvement
        improvement = gain(objective, metrics.get(name, math.nan), incumbent.get(name, math.nan))
        if not improvement >= wanted:
            found.append(
                f"{name} is {_shown(metrics, name)}, but the model that the deployment '{gate.incumbent.deployment}' "
                f"serves has {_shown(incumbent, name)} on the same rows, and the gate asks to improve it by {wanted:g}"
            )
    return found


def _shown(metrics: Mapping[str, float], metric: str) -> str:
    return f"{metrics[metric]:.4g}" if metric in metrics else f"not among the metrics ({', '.join(sorted(metrics))})"
