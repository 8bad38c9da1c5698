"""The matrix that an algorithm is fitted on, and the graph that makes it of the stored columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from levada.artifacts import FeatureColumn
from levada.errors import Stalled
from levada.features.graph import Stage, merge
from levada.features.model import OnnxModel
from levada.methods.selectors import Ranked
from levada.methods.splitters import Parts
from levada.resources.conditions import Reason
from levada.resources.featureset import Select
from levada.steps.io import TrainWork
from levada.steps.rows import take
from levada.steps.train.data import Label, Version
from levada.steps.train.features import (
    FEATURES,
    FeatureGraph,
    all_missing,
    check_names,
    fit_features,
    plan_groups,
)
from levada.steps.train.selection import GAPPED, chosen, filling, medians, ranked

SHOWN_RANKING = 1000
Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Matrix:
    """Features of all rows of a version, float32 [N, F]; `stages`: the graph from stored columns to them."""

    stages: list[Stage]
    names: list[str]
    values: npt.NDArray[np.float32]
    learned: dict[str, Any]
    accepted: dict[str, list[str | int | None]]
    columns: Columns  # the stored columns, tensors [N, 1]
    warnings: list[str]


def make_matrix(
    work: TrainWork,
    version: Version,
    label: Label | None,
    parts: Parts,
    accepts_gaps: bool,
    threads: int,
) -> Matrix:
    """Fit transforms and selection on the training part and apply them to all rows; raises Stalled."""
    train = parts["train"]
    features = version.features()
    check_names(work.transform, features)
    columns = version.read(version.inputs(features))
    fitted_on = _derive(version, features, take(columns, train))
    missing = all_missing(features, fitted_on)
    warnings = [
        f"the feature '{name}' has no value in the training part and is left out: check its source, or take it out of "
        "features"
        for name in missing
    ]
    features = [column for column in features if column.name not in missing]
    if not features:
        raise Stalled(Reason.INVALID_DATA, f"no feature of '{work.feature_set}' has a value in the training part")
    learned: dict[str, Any] = {}
    graph = fit_features(plan_groups(features, work.transform), fitted_on)
    if work.select is not None:
        keep, ranking = _select(work, version, graph, columns, label, train)
        learned["ranking"] = ranking[:SHOWN_RANKING]
        names, sources = [graph.names[place] for place in keep], {graph.sources[place] for place in keep}
        kept = [column for column in features if column.name in sources]
        left = [place for place, source in enumerate(graph.sources) if source in sources]  # in the same order
        graph = fit_features(plan_groups(kept, work.transform), fitted_on, [left.index(place) for place in keep])
        graph = replace(graph, names=names)
    learned["transforms"] = graph.learned
    stages = [*_derived_stage(version), Stage(graph.model, "features/")]
    values = _run(stages, columns, threads)
    used = np.sort(np.concatenate(list(parts.values())))
    _refuse_infinite(graph, values[used], used)
    if graph.may_have_gaps and not accepts_gaps:
        fills = medians(values[train])
        stages = [*stages[:-1], replace(stages[-1], outputs={FEATURES: GAPPED}), Stage(filling(fills), "fill/")]
        values = np.where(np.isnan(values), fills, values)
    return Matrix(stages, graph.names, values, learned, graph.accepted, columns, warnings)


def _derived_stage(version: Version) -> list[Stage]:
    return [Stage(version.derived, "derived/")] if version.derived is not None else []


def _derive(version: Version, features: list[FeatureColumn], columns: dict[str, npt.NDArray[Any]]) -> Columns:
    """The stored columns and what the derived features' graph makes of them."""
    wanted = [column.name for column in features if column.origin == "derived"]
    if not wanted:
        return columns
    model = OnnxModel(merge(_derived_stage(version), outputs=wanted).SerializeToString())
    return columns | model.run_all(columns)


def _run(stages: list[Stage], columns: Columns, threads: int) -> npt.NDArray[np.float32]:
    model = OnnxModel(merge(stages, outputs=[FEATURES]).SerializeToString())
    return model.run_all(columns, threads)[FEATURES]


def _select(
    work: TrainWork,
    version: Version,
    graph: FeatureGraph,
    columns: Columns,
    label: Label | None,
    train: npt.NDArray[np.int64],
) -> tuple[list[int], list[tuple[str, float]]]:
    """Places of the features that are kept, and the ranking that chose them (none for the caller's own choice)."""
    select = work.select
    assert isinstance(select, Select)
    if select.method == "columns":
        return chosen(select, graph), []
    values = _run([*_derived_stage(version), Stage(graph.model, "features/")], take(columns, train), 1)
    _refuse_infinite(graph, values, train)
    values = np.where(np.isnan(values), medians(values), values)
    labels = label.values[train] if label is not None else None
    return ranked(select, graph, Ranked(values, labels, work.spec.task, work.spec.split.seed))


def _refuse_infinite(graph: FeatureGraph, values: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> None:
    """Raise Stalled at the first infinite feature; `values` are those of `rows`."""
    infinite = np.isinf(values)
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise Stalled(
            Reason.INVALID_DATA,
            f"the feature '{graph.names[column]}' is infinite in row {rows[row]}: bound its source by quality checks "
            "or clip, or divide by nullif(..., 0) where it is derived",
        )
