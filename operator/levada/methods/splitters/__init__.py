"""Ways to divide rows into train, validation and test (SPLIT-1)."""

from __future__ import annotations

from levada.methods.registry import Registry
from levada.methods.splitters.base import PARTS, Parts, Rows, Splitter
from levada.methods.splitters.builtin import by_column, random, sequential, stratified
from levada.resources.trainingrun import Split

SPLITTERS: Registry[Splitter] = Registry(
    "splitters",
    {"sequential": sequential, "random": random, "stratified": stratified, "column": by_column},
)


def splitter_of(split: Split) -> Splitter:
    """The splitter that a spec asks for; raises Stalled if it names a plug-in that is not there."""
    if split.type == "custom":
        return SPLITTERS[split.plugin or "column"]
    return SPLITTERS[split.type]


def column_of(split: Split, label: str | None) -> str | None:
    """The column that a splitter wants to see, if any."""
    if split.type == "stratified":
        return split.stratify or label
    return split.column if split.type == "custom" else None


__all__ = ["PARTS", "SPLITTERS", "Parts", "Rows", "Splitter", "column_of", "splitter_of"]
