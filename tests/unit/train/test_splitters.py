"""How rows are divided (SPLIT-1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada.errors import Stalled
from levada.methods.splitters import PARTS, SPLITTERS, Parts, Rows, column_of, splitter_of
from levada.resources.conditions import Reason
from levada.resources.trainingrun import Split


def split_of(**fields: Any) -> Split:
    return Split.model_validate(fields)


def divide(rows: Rows, split: Split) -> Parts:
    return splitter_of(split)(rows, split)


RATIOS = {"train": 0.7, "validation": 0.1, "test": 0.2}


@given(count=st.integers(0, 300), seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["sequential", "random"]))
def test_split1_every_row_is_in_exactly_one_part_and_parts_ascend(count: int, seed: int, kind: str) -> None:
    parts = divide(Rows(np.arange(count)), split_of(type=kind, seed=seed, ratios=RATIOS))
    assert set(parts) == set(PARTS)
    assert sorted(np.concatenate([parts[name] for name in PARTS]).tolist()) == list(range(count))
    for numbers in parts.values():
        assert np.all(np.diff(numbers) > 0)


@given(count=st.integers(0, 1000))
def test_split1_parts_have_their_shares_to_the_nearest_row(count: int) -> None:
    parts = divide(Rows(np.arange(count)), split_of(type="sequential", ratios=RATIOS))
    assert abs(len(parts["train"]) - 0.7 * count) <= 0.5 + 1e-9
    assert abs(len(parts["train"]) + len(parts["validation"]) - 0.8 * count) <= 0.5 + 1e-9


def test_split1_sequential_puts_the_newest_rows_last() -> None:
    parts = divide(Rows(np.arange(10)), split_of(type="sequential"))
    assert parts["train"].tolist() == list(range(8))
    assert parts["test"].tolist() == [8, 9]


def test_split1_borders_do_not_move_by_rounding_of_doubles() -> None:
    # 0.7 + 0.1 is less than 0.8 as doubles
    parts = divide(Rows(np.arange(10)), split_of(type="sequential", ratios=RATIOS))
    assert [len(parts[name]) for name in PARTS] == [7, 1, 2]


def test_split1_without_a_test_share_all_rows_train() -> None:
    parts = divide(Rows(np.arange(7)), split_of(type="random", ratios={"train": 1, "validation": 0, "test": 0}))
    assert len(parts["train"]) == 7


def test_split2_the_same_seed_divides_alike_and_another_differently() -> None:
    rows = Rows(np.arange(100))
    one, same, other = (divide(rows, split_of(type="random", seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(one["test"], same["test"])
    assert not np.array_equal(one["test"], other["test"])


def test_split1_stratified_gives_every_part_the_same_shares() -> None:
    values = np.array(["rare"] * 20 + ["common"] * 180, dtype=object)
    parts = divide(Rows(np.arange(200), values), split_of(type="stratified", seed=3))
    assert [int(np.sum(values[parts[name]] == "rare")) for name in ("train", "test")] == [16, 4]


def test_split1_stratified_refuses_a_column_of_many_values() -> None:
    with pytest.raises(Stalled, match="100 in 100 rows"):
        divide(Rows(np.arange(100), np.arange(100).astype(object)), split_of(type="stratified"))


def test_split1_stratified_needs_something_to_stratify_by() -> None:
    with pytest.raises(Stalled, match="needs a label"):
        divide(Rows(np.arange(100)), split_of(type="stratified"))


def test_split1_custom_takes_the_parts_from_a_column() -> None:
    values = np.array(["train", "test", None, "validation", "train"], dtype=object)
    parts = divide(Rows(np.arange(10, 15), values), split_of(type="custom", column="part"))
    assert {name: numbers.tolist() for name, numbers in parts.items()} == {
        "train": [10, 14],
        "validation": [13],
        "test": [11],
    }


def test_split1_custom_names_the_row_with_another_value() -> None:
    values = np.array(["train", "holdout"], dtype=object)
    with pytest.raises(Stalled, match=r"'part'.*'holdout' in row 1") as caught:
        divide(Rows(np.arange(2), values), split_of(type="custom", column="part"))
    assert caught.value.reason is Reason.INVALID_DATA


def test_split1_a_splitter_that_is_not_there_is_named() -> None:
    with pytest.raises(Stalled, match="there is no splitters 'weekly'"):
        splitter_of(split_of(type="custom", plugin="weekly"))


@pytest.mark.parametrize(
    ("fields", "column"),
    [
        ({"type": "random"}, None),
        ({"type": "stratified"}, "label"),
        ({"type": "stratified", "stratify": "region"}, "region"),
        ({"type": "custom", "column": "part"}, "part"),
    ],
)
def test_the_column_that_a_splitter_reads(fields: dict[str, str], column: str | None) -> None:
    assert column_of(split_of(**fields), "label") == column


def test_the_registry_names_all_splitters() -> None:
    assert set(SPLITTERS) == {"sequential", "random", "stratified", "column"}
