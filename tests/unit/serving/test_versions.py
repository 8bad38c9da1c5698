"""What a loader makes of versions that cannot be loaded."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from levada.errors import StoreUnavailable
from levada.serving import versions
from levada.serving.app import App
from levada.serving.config import ScorerConfig, ScorerVersion
from levada.serving.lookups import Tables
from levada.serving.versions import Loader
from tests.unit.serving import small


def unexpected(*_: object) -> Any:
    raise AssertionError("it needs no store")


def test_dep3_a_version_that_goes_on_failing_in_an_unforeseen_way_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [ValueError("odd")]

    def load(*_: object) -> None:
        raise errors[0]

    wanted = ScorerVersion(
        version=1, candidate="small", folder=Path("models"), onnx_digest="sha256:" + "0" * 64, weight=100
    )
    config = ScorerConfig(name="small", namespace="default", versions=[wanted], recording=False)
    app = App("small", "default", None)
    loader = Loader(app, None, config, unexpected, Tables(unexpected, unexpected, Counter()))
    monkeypatch.setattr(versions, "load", load)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # it would keep what other tests have left in this process

    def outcome(error: Exception) -> tuple[dict[int, str], dict[int, str]]:
        errors[0] = error
        assert not loader._apply()
        return app.progress.waiting, app.progress.failed

    assert outcome(ValueError("odd")) == ({1: "ValueError: odd"}, {})
    monkeypatch.setattr(versions, "PATIENCE", 0.0)
    assert outcome(ValueError("odd")) == ({}, {1: "ValueError: odd"})
    assert outcome(MemoryError("no room")) == ({1: "MemoryError: no room"}, {})  # it may pass, however long it takes
    assert outcome(StoreUnavailable("away")) == ({1: "away"}, {})
    monkeypatch.setattr(versions, "PATIENCE", 60.0)
    loader._crashing[wanted] = -1000.0  # since long ago
    assert outcome(StoreUnavailable("away")) == ({1: "away"}, {})
    assert outcome(ValueError("odd")) == ({1: "ValueError: odd"}, {})  # counted from here on

    monkeypatch.setattr(versions, "load", lambda *_: small.served())
    assert loader._apply()
    assert app.progress.failed == {}
