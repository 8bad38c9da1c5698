"""Fitted transforms and the graphs they write (PREP-2, PREP-7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from levada.errors import Stalled
from levada.features.types import NULL_STRING
from levada.methods.transforms import TRANSFORMS, Block, Fitted, apply, transform_of
from levada.methods.transforms.categories import frequencies
from levada.resources.featureset import TransformStep

NAN = float("nan")


def numbers(*columns: list[float], dtype: npt.DTypeLike = np.float32) -> Block:
    return Block(tuple("abcdef"[: len(columns)]), np.array(columns, dtype=dtype).T.copy())


def texts(*values: str | None) -> Block:
    cells = [[NULL_STRING if value is None else value] for value in values]
    return Block(("t",), np.array(cells, dtype=object))


def fit(step: dict[str, Any], block: Block) -> Fitted:
    _, transform, config = transform_of(TransformStep.model_validate(step))
    return transform.fit(block, config)


def run(step: dict[str, Any], block: Block, on: Block | None = None) -> npt.NDArray[Any]:
    return apply(fit(step, block), on or block).values


@pytest.mark.parametrize(
    ("impute", "expected"),
    [
        ({"strategy": "median"}, 2.0),
        ({"strategy": "mean"}, 3.0),
        ({"strategy": "mostFrequent"}, 1.0),
        ({"strategy": "constant", "value": -7}, -7.0),
    ],
)
def test_prep2_impute_fills_gaps_by_its_strategy(impute: dict[str, Any], expected: float) -> None:
    block = numbers([1, NAN, 2, 8, 1, 3])
    values = run({"impute": impute}, block)[:, 0]
    assert values.tolist() == pytest.approx([1, expected, 2, 8, 1, 3])


def test_prep2_impute_says_where_values_were_missing() -> None:
    step = {"impute": {"strategy": "median", "indicator": True}}
    block = numbers([1, NAN, 3], [NAN, 5, 5])
    assert fit(step, block).names == ("a", "b", "a_missing", "b_missing")
    assert run(step, block).tolist() == [[1, 5, 0, 1], [2, 5, 1, 0], [3, 5, 0, 0]]


def test_prep2_impute_fills_a_text_with_the_most_frequent_one() -> None:
    block = texts("x", None, "y", "y")
    assert run({"impute": {"strategy": "mostFrequent"}}, block).ravel().tolist() == ["x", "y", "y", "y"]


def test_prep2_impute_of_a_text_by_its_mean_is_refused() -> None:
    with pytest.raises(Stalled, match=r"'t' is a text.*mostFrequent"):
        fit({"impute": {"strategy": "mean"}}, texts("x"))


def test_prep2_clip_bounds_values_and_leaves_gaps() -> None:
    values = run({"clip": {"min": 0, "max": 2}}, numbers([-1, 1, NAN, 3]))[:, 0]
    assert values[[0, 1, 3]].tolist() == [0, 1, 2]
    assert np.isnan(values[2])


def test_prep2_clip_learns_its_bounds_from_the_training_part_alone() -> None:
    block = numbers(list(range(101)))
    later = numbers([-50, 50, 500])
    assert run({"clip": {"quantiles": [0.1, 0.9]}}, block, later)[:, 0].tolist() == [10, 50, 90]


@pytest.mark.parametrize(
    ("scale", "twin"), [("standard", StandardScaler()), ("minMax", MinMaxScaler()), ("robust", RobustScaler())]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prep2_scale_agrees_with_scikit_learn(scale: str, twin: Any, dtype: npt.DTypeLike) -> None:
    values = np.random.default_rng(0).normal(40, 12, size=(500, 3)).astype(dtype)
    block = Block(("a", "b", "c"), values)
    assert np.allclose(run({"scale": scale}, block), twin.fit_transform(values.astype(np.float64)), atol=2e-6)


def test_prep2_scale_of_a_constant_is_zero() -> None:
    assert run({"scale": "standard"}, numbers([4, 4, 4])).tolist() == [[0], [0], [0]]


def test_prep2_bin_counts_quantiles_and_leaves_gaps() -> None:
    values = run({"bin": 4}, numbers([*range(100), NAN]))[:, 0]
    assert values[[0, 30, 60, 99]].tolist() == [0, 1, 2, 3]
    assert np.isnan(values[100])


def test_prep2_one_hot_has_a_column_for_each_category_most_frequent_first() -> None:
    step = {"encode": {"type": "oneHot"}}
    block = texts("b", "a", "b", None)
    assert fit(step, block).names == ("t=b", "t=a", "t=null")
    assert run(step, block).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_prep2_one_hot_of_an_unseen_category_is_all_zeros() -> None:
    assert run({"encode": {"type": "oneHot"}}, texts("a", "b"), texts("c", None)).tolist() == [[0, 0], [0, 0]]


def test_prep2_the_rarest_categories_become_one() -> None:
    step = {"encode": {"type": "oneHot", "maxCategories": 2}}
    block = texts("a", "a", "a", "b", "b", "c")
    assert fit(step, block).names == ("t=a", "t=other")
    assert run(step, block, texts("a", "b", "c", "d")).tolist() == [[1, 0], [0, 1], [0, 1], [0, 0]]


def test_prep2_ordinal_numbers_categories_in_their_order() -> None:
    step = {"encode": {"type": "ordinal"}}
    seen = texts("pear", None, "apple", "pear")
    assert run(step, seen, texts("apple", "pear", None, "fig")).ravel().tolist() == [0, 1, 2, -1]


def test_prep2_ordinal_beyond_the_most_categories_is_one_number() -> None:
    step = {"encode": {"type": "ordinal", "maxCategories": 3}}
    seen = texts("z", "z", "z", "a", "a", "b", "c")
    assert run(step, seen, texts("a", "z", "b", "c", "d")).ravel().tolist() == [0, 1, 2, 2, -1]


def test_prep2_frequency_is_the_share_in_the_training_part() -> None:
    step = {"encode": {"type": "frequency"}}
    assert run(step, texts("a", "a", "a", "b"), texts("a", "b", "c")).ravel().tolist() == [0.75, 0.25, 0]


def test_prep2_numbers_can_be_categories_with_all_their_digits() -> None:
    big = 2.0**53
    block = numbers([big, big - 1, NAN], dtype=np.float64)
    step = {"encode": {"type": "ordinal"}}
    assert run(step, block, numbers([big - 1, big, NAN, 3], dtype=np.float64)).ravel().tolist() == [0, 1, 2, -1]


def test_prep2_numbers_with_fractions_are_no_categories() -> None:
    with pytest.raises(Stalled, match="'a' has fractions: use bin"):
        fit({"encode": {"type": "oneHot"}}, numbers([0.5, 1]))


def test_unknown_refuse_lists_what_is_accepted() -> None:
    fitted = fit({"encode": {"type": "oneHot", "unknown": "refuse"}}, texts("b", None, "b", "a"))
    assert fitted.learned["accepted"] == {"t": ["b", "a", None]}


@pytest.mark.parametrize("step", [{"clip": {"min": 0}}, {"scale": "standard"}, {"bin": 4}])
def test_transforms_of_numbers_refuse_texts(step: dict[str, Any]) -> None:
    with pytest.raises(Stalled, match="takes numbers, and 't' is a text"):
        fit(step, texts("a", "b"))


STEPS: list[dict[str, Any]] = [
    {"impute": {"strategy": "median", "indicator": True}},
    {"clip": {"quantiles": [0.1, 0.9]}},
    {"scale": "standard"},
    {"scale": "minMax"},
    {"scale": "robust"},
    {"bin": 8},
    {"encode": {"type": "oneHot"}},
    {"encode": {"type": "ordinal"}},
    {"encode": {"type": "frequency"}},
]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_score1_a_row_is_transformed_to_the_same_bits_in_any_batch(step: dict[str, Any]) -> None:
    values = np.random.default_rng(1).integers(0, 20, size=(200, 1)).astype(np.float32)
    values[::7] = NAN
    block = Block(("a",), values)
    fitted = fit(step, block)
    whole = apply(fitted, block).values
    for size in (1, 2, 3, 64, 199):
        part = apply(fitted, Block(block.names, values[:size])).values
        assert part.tobytes() == whole[:size].tobytes()


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_conformance_a_transform_names_every_column_it_gives(step: dict[str, Any]) -> None:
    block = numbers([1, 2, 3, 4, 5, 6])
    fitted = fit(step, block)
    assert apply(fitted, block).values.shape == (6, len(fitted.names))
    assert len(set(fitted.names)) == len(fitted.names)


def test_the_registry_names_all_transforms() -> None:
    assert set(TRANSFORMS) == {"impute", "clip", "scale", "encode", "bin"}


@pytest.mark.parametrize("seed", range(5))
def test_prep2_frequencies_of_random_texts_are_those_that_numpy_counts(seed: int) -> None:
    generator = np.random.default_rng(seed)
    alphabet = [*"ab", "", "ä", "\U0001f600", "ﬀ", " ", NULL_STRING]
    lengths = generator.integers(0, 4, 3000)
    values = np.array(["".join(generator.choice(alphabet, n)) for n in lengths], dtype=object)
    found, counts = np.unique(values.astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    keys, ours = frequencies(values)
    assert keys == found[order].tolist()
    assert ours.tolist() == counts[order].tolist()


def test_prep2_one_long_text_makes_no_other_text_longer() -> None:
    values = np.array(["a", "b"] * 50_000 + ["x" * 1_000_000], dtype=object)  # as numpy's texts: 400 GB
    assert frequencies(values)[0][:2] == ["a", "b"]
    impute = {"impute": {"strategy": "mostFrequent"}}
    assert fit(impute, Block(("t",), values.reshape(-1, 1))).learned == {"fill": {"t": "a"}}
