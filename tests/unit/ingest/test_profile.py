"""Columns in figures."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pyarrow as pa
import pytest

from levada.artifacts import StoredFile
from levada.methods.formats.values import arrow_schema
from levada.steps.ingest.profile import Profiler, Sketch, column_profile, merge
from levada.steps.ingest.receipt import FileReceipt, Receipt
from tests.unit.ingest.reading import columns

SCHEMA = columns(i="int64", f="float64", s="string", b="boolean", d="date", t="timestamp", n="string")


def _table(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table({
        "i": pa.array(random.integers(-5, 6, rows), mask=random.random(rows) < 0.1),
        "f": random.normal(1e6, 2, rows),
        "s": [f"v{k}" for k in random.integers(0, 500, rows)],
        "b": random.random(rows) < 0.5,
        "d": random.integers(15000, 15010, rows).astype("datetime64[D]"),
        "t": random.integers(0, 10**15, rows).astype("datetime64[us]"),
        "n": pa.nulls(rows, pa.string()),
    }).cast(arrow_schema(SCHEMA))  # fmt: skip


def test_figures_of_parts_together_are_those_of_the_whole() -> None:
    parts = [_table(1000, 1), _table(1, 2), _table(3000, 3)]
    profilers = []
    for part in parts:
        profiler = Profiler(SCHEMA)
        profiler.add(part)
        profilers.append(profiler)
    sketches = [Sketch() for _ in SCHEMA]
    for profiler in profilers:
        for sketch, other in zip(sketches, profiler.sketches, strict=True):
            sketch.merge(Sketch.from_text(other.to_text()))
    whole = pa.concat_tables(parts)
    profiles = {}
    for i, column in enumerate(SCHEMA):
        moments = merge(profiler.moments[i] for profiler in profilers)
        profiles[column.name] = column_profile(column, moments, sketches[i])
    for name in ("i", "f", "b"):
        numbers = [float(value) for value in whole[name].to_pylist() if value is not None]
        assert profiles[name].mean == pytest.approx(statistics.fmean(numbers), rel=1e-12)
        assert profiles[name].std == pytest.approx(statistics.stdev(numbers), rel=1e-9)
        assert (profiles[name].min, profiles[name].max) == (min(numbers), max(numbers))
    assert profiles["i"].nulls == whole["i"].null_count
    for name in ("i", "s", "b", "d"):
        assert profiles[name].distinct == pytest.approx(len(set(whole[name].drop_null().to_pylist())), rel=0.03)
    for name in ("f", "t"):
        assert profiles[name].distinct == pytest.approx(4001, rel=0.05)
    dates = whole["d"].to_pylist()
    assert (profiles["d"].min, profiles["d"].max) == (min(dates).isoformat(), max(dates).isoformat())
    assert profiles["n"].model_dump(include={"nulls", "distinct", "min", "mean"}) == {
        "nulls": 4001, "distinct": 0, "min": None, "mean": None,
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 100, 5_000, 20_000, 400_000])
def test_many_different_values_are_estimated(count: int) -> None:
    for values in (pa.array(np.arange(count) * 7919), pa.array([f"id-{i}" for i in range(count)])):
        sketch = Sketch()
        sketch.add(values)
        assert sketch.estimate() == pytest.approx(count, rel=0.06)


def test_numbers_that_are_not_finite_count_as_values_only() -> None:
    profiler = Profiler(columns(f="float64"))
    profiler.add(pa.table({"f": [1.0, math.nan, math.inf, 3.0]}))
    profile = column_profile(columns(f="float64")[0], profiler.moments[0], profiler.sketches[0])
    assert (profile.mean, profile.min, profile.max, profile.nulls, profile.distinct) == (2.0, 1.0, 3.0, 0, 4)


@pytest.mark.parametrize("files", [1, 2])
def test_figures_that_no_double_can_hold_are_left_out_and_receipts_can_be_read_again(files: int) -> None:
    """The largest double often stands for a missing value."""
    largest = np.finfo(np.float64).max
    values = [1.0, largest, largest, -2.0]
    moments = []
    for part in np.array_split(values, files):
        profiler = Profiler(columns(f="float64"))
        profiler.add(pa.table({"f": part}))
        sketch = profiler.sketches[0].to_text()
        file = FileReceipt(number=0, original=StoredFile(key="", bytes=0, digest=""), moments=profiler.moments)
        receipt = Receipt.from_bytes(Receipt(index=0, files=[file], distinct=[sketch]).to_bytes())
        moments += receipt.files[0].moments
    profile = column_profile(columns(f="float64")[0], merge(moments), Sketch())
    assert (profile.min, profile.max, profile.std) == (-2.0, largest, None)
    assert profile.mean in (None, pytest.approx(largest / 2))


def test_a_spread_that_no_double_can_hold_leaves_the_mean() -> None:
    moments = []
    for value in (0.0, 1e200):
        profiler = Profiler(columns(f="float64"))
        profiler.add(pa.table({"f": [value]}))
        moments += profiler.moments
    profile = column_profile(columns(f="float64")[0], merge(moments), Sketch())
    assert profile.mean == pytest.approx(5e199)
    assert profile.std is None


@pytest.mark.parametrize("values", [[2**60 + 1, 5, None], [-(2**63), 2**63 - 1, None]])
def test_whole_numbers_beyond_2_53_have_the_figures_of_the_nearest_doubles(values: list[int | None]) -> None:
    """Ids and hashes are such numbers; what is kept of them is exact, the figures are doubles."""
    profiler = Profiler(columns(i="int64"))
    profiler.add(pa.table({"i": pa.array(values, pa.int64())}))
    profile = column_profile(columns(i="int64")[0], profiler.moments[0], profiler.sketches[0])
    numbers = [float(value) for value in values if value is not None]
    assert (profile.min, profile.max) == (min(numbers), max(numbers))
    assert (profile.distinct, profile.nulls) == (2, 1)
