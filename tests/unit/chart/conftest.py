"""The chart is rendered by the real Helm, which is built once per machine."""

from __future__ import annotations

import pytest

from tests.support.chart import BuildError, Chart


@pytest.fixture(scope="session")
def chart() -> Chart:
    try:
        return Chart()
    except BuildError as error:
        pytest.skip(f"Helm cannot be built here: {error}")
