"""`levada operator`, as its pod runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from levada.cli import app


@pytest.fixture
def logging_restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_restored")
def test_x4_the_operator_logs_json_of_the_level_that_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        log = structlog.get_logger()
        log.info("of no interest")
        log.warning("trying again", resource="Dataset team/shops")

    # The command imports it: a module in its place, so that nothing is connected to.
    monkeypatch.setattr("levada.engines.kubernetes.operator.run", run)

    result = CliRunner().invoke(app, ["operator"], env={"LEVADA_STEPS_IMAGE": "steps", "LEVADA_LOG_LEVEL": "warning"})

    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"], said["resource"]) == ("trying again", "warning", "Dataset team/shops")
    assert "timestamp" in said


@pytest.mark.usefixtures("logging_restored")
def test_x3_the_operator_tells_steps_and_scorers_every_secret_with_settings_of_stores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("levada.engines.kubernetes.operator.run", lambda *arguments: given.extend(arguments))

    environment = {"LEVADA_STEPS_IMAGE": "steps", "LEVADA_STORES_SECRET": "levada-stores,my-postgres"}
    result = CliRunner().invoke(app, ["operator"], env=environment)

    assert result.exit_code == 0, result.output
    _, pods, scorers, *_ = given
    assert pods.stores_secrets == scorers.stores_secrets == ("levada-stores", "my-postgres")
