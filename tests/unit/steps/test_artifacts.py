"""Documents of the object store."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from levada.artifacts import SplitManifest


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_figure_that_json_cannot_hold_is_refused_by_name(value: float) -> None:
    """It would become null, which the next step could not read."""
    manifest = SplitManifest(
        split="split-1",
        namespace="default",
        training_run="run",
        feature_set="things",
        version="features-1",
        type="random",
        seed=0,
        parts=[],
        statistics={"train": {"rows": 3.0, "mean:size": value}},
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
    )
    with pytest.raises(ValueError, match=r"SplitManifest\.statistics\.train\.mean:size is -?(inf|nan), which JSON"):
        manifest.to_bytes()
