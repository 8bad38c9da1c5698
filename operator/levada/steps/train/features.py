"""From columns to the matrix that a model sees: fitted in stages, each on what the converted stages before it gave.

What is fitted is therefore what the graph computes, in its precision, and not something near to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from levada.artifacts import FeatureColumn
from levada.errors import Stalled
from levada.features.types import NULL_STRING, ColumnType
from levada.methods.graph import DOUBLE, FLOAT, STRING, Graph
from levada.methods.transforms import Block, Fitted, apply, transform_of
from levada.resources.conditions import Reason
from levada.resources.featureset import Encode, Impute, Transform, TransformStep

DEFAULT_NUMBER = [TransformStep(impute=Impute(strategy="median"))]
DEFAULT_TEXT = [TransformStep(encode=Encode(type="oneHot"))]
FEATURES = "features"  # output of the graph: float32 [N, F]
Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Group:
    """Columns that go through the same steps together."""

    columns: list[FeatureColumn]
    steps: list[TransformStep]

    @property
    def element(self) -> int:
        """Element type in which the group starts. Categories that are numbers keep all their digits."""
        if self.columns[0].type is ColumnType.STRING:
            return STRING
        return DOUBLE if any(step.encode is not None for step in self.steps) else FLOAT

    @property
    def fills_gaps(self) -> bool:
        return self.element == STRING or any(step.impute or step.encode for step in self.steps)


@dataclass(frozen=True)
class FittedGroup:
    group: Group
    fitted: list[tuple[str, Fitted]]  # name of the transform, and what fitting made

    @property
    def names(self) -> tuple[str, ...]:
        return self.fitted[-1][1].names

    @property
    def sources(self) -> list[str]:
        """For each name the column that it is made of: elementwise transforms keep the columns' order."""
        columns = self.group.columns
        return [columns[i % len(columns)].name for i in range(len(self.names))]

    @property
    def accepted(self) -> dict[str, list[str | int | None]]:
        """The values that may come, of a column whose other values are refused."""
        imputed = any(name == "impute" for name, _ in self.fitted)
        found: dict[str, list[str | int | None]] = {}
        for _, fitted in self.fitted:
            for column, values in fitted.learned.get("accepted", {}).items():
                found[column] = [*values, None] if imputed and None not in values else values
        return found

    @property
    def learned(self) -> dict[str, Any]:
        steps = [{name: {k: v for k, v in fitted.learned.items() if k != "accepted"}} for name, fitted in self.fitted]
        return {"columns": [column.name for column in self.group.columns], "steps": steps}


@dataclass(frozen=True)
class FeatureGraph:
    """The fitted way from columns to features. `sources`: for each feature the column that it is made of."""

    model: onnx.ModelProto
    names: list[str]
    sources: list[str]
    learned: list[dict[str, Any]]
    accepted: dict[str, list[str | int | None]]
    may_have_gaps: bool  # whether a feature may be NaN


def plan_groups(columns: Sequence[FeatureColumn], transforms: Sequence[Transform]) -> list[Group]:
    """Which columns go through which steps; those that no transform names have their default. Raises Stalled."""
    by_name = {column.name: column for column in columns}
    seen: set[str] = set()
    groups: list[Group] = []
    for transform in transforms:
        for name in transform.columns:
            if name in seen:
                raise Stalled(
                    Reason.INVALID_SPEC,
                    f"the column '{name}' is named by two transforms: put their steps together, or derive a copy of it",
                )
            seen.add(name)
        chosen = [by_name[name] for name in transform.columns if name in by_name]
        texts = [column for column in chosen if column.type is ColumnType.STRING]
        numbers = [column for column in chosen if column.type is not ColumnType.STRING]
        groups += [Group([column], transform.steps) for column in texts]
        together = all(transform_of(step)[1].elementwise for step in transform.steps)
        if numbers and together:
            groups.append(Group(numbers, transform.steps))
        else:
            groups += [Group([column], transform.steps) for column in numbers]
    rest = [column for column in columns if column.name not in seen]
    groups += [Group([column], DEFAULT_TEXT) for column in rest if column.type is ColumnType.STRING]
    plain = [column for column in rest if column.type is not ColumnType.STRING]
    return groups + ([Group(plain, DEFAULT_NUMBER)] if plain else [])


def check_names(transforms: Sequence[Transform], features: Sequence[FeatureColumn]) -> None:
    """Raise Stalled where a transform names a column that is no feature."""
    known = [column.name for column in features]
    for number, transform in enumerate(transforms):
        for name in transform.columns:
            if name not in known:
                raise Stalled(
                    Reason.INVALID_SPEC,
                    f"transform[{number}] names the column '{name}', which is not among the features "
                    f"({', '.join(known)})",
                )


def all_missing(columns: Sequence[FeatureColumn], values: Columns) -> list[str]:
    """The columns that have no value at all in these rows."""
    found = []
    for column in columns:
        cells = values[column.name]
        gaps = cells == NULL_STRING if column.type is ColumnType.STRING else np.isnan(cells)
        if gaps.all():
            found.append(column.name)
    return found


def fit_features(groups: Sequence[Group], values: Columns, keep: Sequence[int] | None = None) -> FeatureGraph:
    """Fit all groups on the training part's columns, tensors [N, 1]; `keep`: the places of the features that are kept,
    all if None. Raises Stalled."""
    return _assemble([_fit_group(group, values) for group in groups], keep)


def _fit_group(group: Group, values: Columns) -> FittedGroup:
    _check_refusal(group)
    names = tuple(column.name for column in group.columns)
    cells = np.concatenate([values[name] for name in names], axis=1)
    if group.element == FLOAT:
        with np.errstate(over="ignore"):  # infinite, as the graph's own cast makes it
            cells = cells.astype(np.float32)
    block = Block(names, cells)
    steps = list(group.steps)
    if group.element == STRING and all(step.encode is None and step.plugin is None for step in steps):
        steps += DEFAULT_TEXT
    done: list[tuple[str, Fitted]] = []
    for number, step in enumerate(steps):
        name, transform, config = transform_of(step)
        fitted = transform.fit(block, config)
        done.append((name, fitted))
        if number + 1 < len(steps):
            block = apply(fitted, block)
    return FittedGroup(group, done)


def _check_refusal(group: Group) -> None:
    """Whoever scores refuses unseen values before the graph runs: so they must be those of a column that comes in."""
    for number, step in enumerate(group.steps):
        if step.encode is None or step.encode.unknown != "refuse":
            continue
        name = group.columns[0].name
        if group.columns[0].origin == "derived":
            raise Stalled(
                Reason.INVALID_SPEC,
                f"encode with unknown: refuse takes columns of the query or of a lookup, and '{name}' is derived: "
                "make it in the query, or let unknown be ignore",
            )
        if any(before.impute is None for before in group.steps[:number]):
            raise Stalled(
                Reason.INVALID_SPEC,
                f"encode with unknown: refuse must be the first of the steps of '{name}', but for impute",
            )


def _assemble(groups: Sequence[FittedGroup], keep: Sequence[int] | None) -> FeatureGraph:
    """The graph of fitted groups: an input [N, 1] for each column, the output `features`."""
    graph = Graph()
    tensors: list[str] = []
    names: list[str] = []
    sources: list[str] = []
    for done in groups:
        x = _read(graph, done.group)
        for _, fitted in done.fitted:
            x = fitted.emit(graph, x)
        tensors.append(x if done.fitted[-1][1].element == FLOAT else graph.op("Cast", x, to=FLOAT))
        names += done.names
        sources += done.sources
    x = graph.op("Concat", *tensors, axis=1) if len(tensors) > 1 else tensors[0]
    names = _distinct(names)
    if keep is not None and len(keep) < len(names):
        x = graph.op("Gather", x, graph.constant(np.array(keep, dtype=np.int64)), axis=1)
        names, sources = [names[place] for place in keep], [sources[place] for place in keep]
    graph.output(FEATURES, x, FLOAT, len(names))
    return FeatureGraph(
        model=graph.model(FEATURES),
        names=names,
        sources=sources,
        learned=[done.learned for done in groups],
        accepted={column: values for done in groups for column, values in done.accepted.items()},
        may_have_gaps=not all(done.group.fills_gaps for done in groups),
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """The same names, numbered where one comes again: a category may be called what stands for all others."""
    found: dict[str, None] = {}
    for name in names:
        again = (f"{name} ({number})" for number in count(2))
        found[name if name not in found else next(other for other in again if other not in found)] = None
    return list(found)


def _read(graph: Graph, group: Group) -> str:
    """The group's columns side by side, in its element type."""
    stored = STRING if group.element == STRING else DOUBLE
    inputs = [graph.input(column.name, stored) for column in group.columns]
    x = graph.op("Concat", *inputs, axis=1) if len(inputs) > 1 else inputs[0]
    return graph.op("Cast", x, to=FLOAT) if group.element == FLOAT else x
