"""A bench for the score step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from levada.settings import Settings
from tests.support.steps import Bench, bench_of


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    """The real stores, empty."""
    with bench_of(settings, tmp_path) as made:
        yield made
