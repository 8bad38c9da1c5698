"""What a loader makes of versions that cannot be loaded."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from levada.serving import versions
from levada.serving.app import App
from levada.serving.config import ScorerConfig, ScorerVersion
from levada.serving.lookups import Tables
from levada.serving.versions import MOST_CRASHES, Loader
from tests.unit.serving import small


def unexpected(*_: object) -> Any:
    raise AssertionError("it needs no store")


def test_dep3_a_version_that_fails_again_and_again_in_an_unforeseen_way_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object) -> None:
        raise MemoryError("no room")

    wanted = ScorerVersion(
        version=1, candidate="small", folder=Path("models"), onnx_digest="sha256:" + "0" * 64, weight=100
    )
    config = ScorerConfig(name="small", namespace="default", versions=[wanted], recording=False)
    app = App("small", "default", None)
    loader = Loader(app, None, config, unexpected, Tables(unexpected, unexpected, Counter()))
    monkeypatch.setattr(versions, "load", load)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # it would keep what other tests have left in this process

    for _ in range(MOST_CRASHES - 1):
        assert not loader._apply()
        assert app.progress.waiting == {1: "MemoryError: no room"}
    assert not loader._apply()
    assert (app.progress.waiting, app.progress.failed) == ({}, {1: "MemoryError: no room"})

    monkeypatch.setattr(versions, "load", lambda *_: small.served())
    assert loader._apply()
    assert app.progress.failed == {}
