"""The built-in algorithms, evaluators and metrics by name: what planners may know without loading any of them.

A test holds these tables against the registries in levada.methods. Plug-ins' names come from their entry points, which
are read once, when this module is imported; nothing of a plug-in is loaded.
"""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points
from typing import Literal

from levada.errors import Stalled
from levada.resources.conditions import Reason
from levada.resources.trainingrun import Objective, Task, TrainingRunSpec

ALGORITHMS: dict[str, tuple[Task, ...]] = {
    "logisticRegression": ("classification",),
    "linearRegression": ("regression",),
    "decisionTree": ("classification", "regression"),
    "randomForest": ("classification", "regression"),
    "boostedTrees": ("classification", "regression"),
    "kMeans": ("clustering",),
}
EVALUATORS: dict[str, tuple[Task, ...]] = {
    "roc": ("classification",),
    "precisionRecall": ("classification",),
    "calibration": ("classification",),
    "confusion": ("classification",),
    "regressionErrors": ("regression",),
    "clustering": ("clustering",),
}
OBJECTIVES: dict[Task, str] = {"classification": "rocAuc", "regression": "rmse", "clustering": "silhouette"}
# Of the evaluators' metrics, those of which more (or less) is better as such.
_MORE_IS_BETTER = (
    *("rocAuc", "prAuc", "precision", "recall", "f1", "accuracy", "balancedAccuracy"),
    *("r2", "silhouette"),
)
_LESS_IS_BETTER = (
    *("logLoss", "brier", "calibrationError"),
    *("rmse", "mae", "medianAe", "maxError"),
    *("inertia", "meanDistance"),
)
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    **dict.fromkeys(_MORE_IS_BETTER, "maximize"),
    **dict.fromkeys(_LESS_IS_BETTER, "minimize"),
}
_PLUGINS = {sort: {p.name for p in entry_points(group=f"levada.{sort}")} for sort in ("algorithms", "evaluators")}


def evaluators_of(task: Task, named: list[str]) -> list[str]:
    """The evaluators that are named, or all built-in ones of the task."""
    return named or [name for name, tasks in EVALUATORS.items() if task in tasks]


def objective_of(spec: TrainingRunSpec) -> Objective:
    """What the best is chosen by, with its direction; raises Stalled if that is neither given nor known."""
    objective = spec.objective or Objective(metric=OBJECTIVES[spec.task])
    if objective.direction is not None:
        return objective
    direction = DIRECTIONS.get(objective.metric)
    if direction is None:
        near = difflib.get_close_matches(objective.metric, DIRECTIONS, n=1)
        hint = f", or did you mean the metric '{near[0]}'?" if near else ""
        raise Stalled(
            Reason.INVALID_SPEC,
            f"spec.objective.direction is missing, and which way is better for the metric '{objective.metric}' is not "
            f"known; write maximize or minimize{hint}",
        )
    return objective.model_copy(update={"direction": direction})


def check_strategy(sort: Literal["algorithms", "evaluators"], name: str, task: Task, field: str) -> None:
    """Raise Stalled if there is no such algorithm or evaluator, or it is not for the task."""
    builtin = ALGORITHMS if sort == "algorithms" else EVALUATORS
    one = sort[:-1]
    fitting = [n for n, tasks in builtin.items() if task in tasks]
    if name in builtin:
        if task not in builtin[name]:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"{field}: the {one} '{name}' is not for {task}; use {' or '.join(fitting)}",
            )
    elif name not in _PLUGINS[sort]:
        near = difflib.get_close_matches(name, [*builtin, *_PLUGINS[sort]], n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"for {task} there are {', '.join(fitting)}"
        raise Stalled(Reason.INVALID_SPEC, f"{field}: there is no {one} '{name}'; {hint}")
