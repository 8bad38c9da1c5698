"""The health checks that Argo CD gets, run by a Lua with no more than what Argo CD's has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import lua51

from levada.generate import outputs
from levada.names import Kind
from levada.resources.argocd import key
from tests.unit.gitops.states import State, states_of

ROOT = Path(__file__).parents[3]
CONFIG_MAP = "charts/argocd/argocd-cm.yaml"
# Argo CD opens the basic library, tables and some harmless functions of os; nothing else is there.
ABSENT = ("string", "math", "io", "os", "coroutine", "package", "require", "debug", "dofile", "loadfile", "python")

Health = Callable[[dict[str, Any]], dict[str, str]]


def health_of(kind: Kind) -> Health:
    """The health check of a kind, as it stands in the ConfigMap."""
    script = yaml.safe_load((ROOT / CONFIG_MAP).read_text())["data"][key(kind)]

    def run(document: dict[str, Any]) -> dict[str, str]:
        lua = lua51.LuaRuntime(register_eval=False)
        for name in ABSENT:
            lua.globals()[name] = None
        lua.globals()["obj"] = lua.table_from(document, recursive=True)
        return dict(lua.execute(script))

    return run


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s3_argo_cd_sees_the_health_of_every_state(kind: Kind) -> None:
    health = health_of(kind)
    states = states_of(kind)
    found = {state.name: health(state.resource.document()) for state in states}
    assert {name: said["status"] for name, said in found.items()} == {state.name: state.argo for state in states}
    for state in states:
        assert state.message in found[state.name]["message"]
        assert set(found[state.name]) == {"status", "message"}


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s3_argo_cd_shows_a_conditions_own_message(kind: Kind) -> None:
    health = health_of(kind)
    for state in states_of(kind):
        document = state.resource.document()
        message, said = health(document)["message"], _messages(state)
        if document["status"]["observedGeneration"] == document["metadata"]["generation"]:
            assert message in said or message == "; ".join(said)
        else:
            assert message == f"the operator has not looked at generation {document['metadata']['generation']} yet"


def _messages(state: State) -> list[str]:
    """The messages of a resource's conditions, each once, that of Ready first."""
    conditions = sorted(state.resource.status.conditions, key=lambda c: c.type.value != "Ready")
    return list(dict.fromkeys(condition.message for condition in conditions))


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s3_argo_cd_and_kstatus_agree_on_what_has_failed_and_what_is_done(kind: Kind) -> None:
    for state in states_of(kind):
        assert (state.argo == "Degraded") == (state.kstatus == "Failed")
        if state.kstatus == "Current":
            assert state.argo in ("Healthy", "Suspended")


def test_k8s3_a_resource_without_a_status_is_on_its_way() -> None:
    found = health_of(Kind.DATASET)({"metadata": {"generation": 1}, "spec": {}})
    assert found["status"] == "Progressing"


def test_k8s3_the_config_map_holds_the_check_of_each_kind() -> None:
    text = (ROOT / CONFIG_MAP).read_text()
    assert text == outputs()[CONFIG_MAP]
    document = yaml.safe_load(text)
    assert document["metadata"]["name"] == "argocd-cm"
    assert list(document["data"]) == [f"resource.customizations.health.levada.dev_{kind.value}" for kind in Kind]
    script = (ROOT / "charts/argocd/health.lua").read_text()
    assert all(part == script for part in document["data"].values())
