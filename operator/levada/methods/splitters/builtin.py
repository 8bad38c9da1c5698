"""The splitters that come with Levada."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from levada.errors import Stalled
from levada.methods.splitters.base import PARTS, Parts, Rows
from levada.resources.conditions import Reason
from levada.resources.trainingrun import Ratios, Split


def sequential(rows: Rows, split: Split) -> Parts:
    """The oldest rows train, the newest test."""
    return _cut(rows.numbers, split.ratios)


def random(rows: Rows, split: Split) -> Parts:
    """Rows are dealt by a permutation that the seed draws."""
    return _sorted(_cut(np.random.default_rng(split.seed).permutation(rows.numbers), split.ratios))


def stratified(rows: Rows, split: Split) -> Parts:
    """Rows are dealt at random within each value of a column, so that every part has the same share of each."""
    if rows.values is None:
        raise Stalled(
            Reason.INVALID_SPEC,
            "a stratified split needs a label, or split.stratify with the column to stratify by",
        )
    texts = np.array([repr(value) for value in rows.values])
    values, codes = np.unique(texts, return_inverse=True)
    if len(values) > max(2, len(codes) // 2):
        raise Stalled(
            Reason.INVALID_SPEC,
            f"a stratified split needs a column with few values, and this one has {len(values)} in {len(codes)} rows: "
            "choose another with split.stratify, or split at random",
        )
    generator = np.random.default_rng(split.seed)
    dealt: dict[str, list[npt.NDArray[np.int64]]] = {part: [] for part in PARTS}
    for code in range(len(values)):
        stratum = generator.permutation(rows.numbers[codes == code])
        for part, numbers in _cut(stratum, split.ratios).items():
            dealt[part].append(numbers)
    return {part: np.sort(np.concatenate(dealt[part])) for part in PARTS}


def by_column(rows: Rows, split: Split) -> Parts:
    """A column says of each row which part it belongs to; rows where it is null belong to none."""
    assert rows.values is not None, "the split's column is read before"
    known = [*PARTS, None]
    for number, value in zip(rows.numbers, rows.values, strict=True):
        if value not in known:
            raise Stalled(
                Reason.INVALID_DATA,
                f"the column '{split.column}', which divides the rows, holds '{value}' in row {number}: "
                "it may hold train, validation, test or nothing",
            )
    return {part: rows.numbers[rows.values == part] for part in PARTS}


def _cut(numbers: npt.NDArray[np.int64], ratios: Ratios) -> Parts:
    """`numbers` cut in the given order, each border rounded to the nearest row."""
    # exact: 0.7 + 0.1 as doubles lies below 0.8, which would move a border
    shares = [Fraction(str(share)) for share in (ratios.train, ratios.validation, ratios.test)]
    first = round(len(numbers) * shares[0] / sum(shares))
    second = round(len(numbers) * (shares[0] + shares[1]) / sum(shares))
    return {"train": numbers[:first], "validation": numbers[first:second], "test": numbers[second:]}


def _sorted(parts: Parts) -> Parts:
    return {part: np.sort(numbers) for part, numbers in parts.items()}
