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
OBJECTIVES: dict[Task, Objective] = {
    "classification": Objective(metric="rocAuc", direction="maximize"),
    "regression": Objective(metric="rmse", direction="minimize"),
    "clustering": Objective(metric="silhouette", direction="maximize"),
}
_PLUGINS = {sort: {p.name for p in entry_points(group=f"levada.{sort}")} for sort in ("algorithms", "evaluators")}


def evaluators_of(task: Task, named: list[str]) -> list[str]:
    """The evaluators that are named, or all built-in ones of the task."""
    return named or [name for name, tasks in EVALUATORS.items() if task in tasks]


def objective_of(spec: TrainingRunSpec) -> Objective:
    """What the best is chosen by."""
    return spec.objective or OBJECTIVES[spec.task]


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
