"""`levada check`: what it says of stores that let an operator in, and of those that do not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from levada.cli import app
from levada.engines.kubernetes.check import checks, problem_of
from levada.errors import StoreUnavailable
from levada.settings import Settings

STORES = ("object store", "catalogue", "bus")


def problems(settings: Settings) -> dict[str, str | None]:
    found = checks(settings, ())
    return {name: problem_of(found[name]) for name in STORES}


def test_k8s2_stores_that_let_levada_in_are_well(settings: Settings) -> None:
    assert problems(settings) == dict.fromkeys(STORES)


@pytest.mark.parametrize(
    ("change", "store", "said"),
    [
        ({"objects_secret_key": SecretStr("wrong")}, "object store", "refuses"),
        ({"postgres_dsn": SecretStr("")}, "catalogue", "LEVADA_POSTGRES_DSN is not set"),
        ({"postgres_dsn": SecretStr("postgresql://levada:x@127.0.0.1:1/levada")}, "catalogue", "does not answer"),
        ({"nats_url": ""}, "bus", "LEVADA_NATS_URL is not set"),
        ({"nats_password": SecretStr("wrong")}, "bus", "refuses this user"),
    ],
)
def test_k8s2_a_store_that_does_not_is_named_and_the_others_are_well(
    settings: Settings, change: dict[str, Any], store: str, said: str
) -> None:
    found = problems(settings.model_copy(update=change))
    assert said in str(found.pop(store))
    assert set(found.values()) == {None}


def test_k8s2_what_comes_while_it_waits_is_well() -> None:
    attempts = iter([StoreUnavailable("not yet"), None])

    def look() -> None:
        if (error := next(attempts)) is not None:
            raise error

    assert problem_of(look, wait=60) is None


def test_k8s2_the_command_names_everything_that_is_amiss(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OBJECTS_ENDPOINT", "POSTGRES_DSN", "NATS_URL"):
        monkeypatch.setenv(f"LEVADA_{name}", "")
    monkeypatch.setenv("LEVADA_OBJECTS_BUCKET", "No_Bucket")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 1
    assert "API server: there is no kubeconfig, and this is no pod: set KUBECONFIG" in done.output
    assert "object store: 'No_Bucket' is not a name that a bucket can have" in done.output
    assert "bus: LEVADA_NATS_URL is not set" in done.output
