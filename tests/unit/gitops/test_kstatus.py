"""What kstatus itself makes of the statuses: Flux, Helm, Config Sync and kpt wait for what it says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from levada.names import Kind
from tests.unit.gitops.states import states_of
from tests.unit.planners import worlds
from tools.build import BuildError, ensure

Read = Callable[[list[dict[str, Any]]], list[dict[str, str]]]


@pytest.fixture(scope="module")
def read() -> Read:
    """Status and message of each object, by sigs.k8s.io/cli-utils."""
    try:
        (program,) = ensure(["kstatus"])
    except BuildError:
        pytest.skip("kstatus cannot be built here: run 'make tools' to see why")
    return lambda objects: _run(program, objects)


def _run(program: Path, objects: list[dict[str, Any]]) -> list[dict[str, str]]:
    given = "\n".join(map(json.dumps, objects))
    done = subprocess.run([program], input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s3_kstatus_reads_every_state_as_it_is(kind: Kind, read: Read) -> None:
    states = states_of(kind)
    found = read([state.resource.document() for state in states])
    assert {state.name: said["status"] for state, said in zip(states, found, strict=True)} == {
        state.name: state.kstatus for state in states
    }
    for state, said in zip(states, found, strict=True):
        if state.kstatus != "Current":  # where it always says the same
            assert state.message in said["message"]


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s3_the_planners_own_tests_read_a_status_as_kstatus_does(kind: Kind, read: Read) -> None:
    states = states_of(kind)
    found = read([state.resource.document() for state in states])
    assert [said["status"] for said in found] == [worlds.kstatus(state.resource) for state in states]


def test_k8s3_kstatus_sees_that_something_is_being_deleted(read: Read) -> None:
    (ready,) = [state for state in states_of(Kind.DATASET) if state.name == "ready"]
    document = ready.resource.document()
    document["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert read([document])[0]["status"] == "Terminating"
