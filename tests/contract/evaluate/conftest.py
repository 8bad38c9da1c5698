"""A bench for the evaluate step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from levada.settings import Settings
from levada.stores.objects import ensure_bucket
from levada.stores.open import open_objects
from tests.support.steps import Bench, bench_of


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    """The real stores, empty."""
    with bench_of(settings, tmp_path) as made:
        yield made


@pytest.fixture
def elsewhere_bench(bench: Bench) -> Bench:
    """Another installation: a bucket of its own."""
    settings = bench.settings.model_copy(update={"objects_bucket": f"{bench.settings.objects_bucket}-elsewhere"})
    ensure_bucket(settings)
    return replace(bench, settings=settings, objects=open_objects(settings))
