"""What goes wrong on a cluster is said in the status, by a sentence that names it and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cluster.installed import Document, Installed
from tests.e2e.pipelines import PIPELINE, condition, small_pipeline
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

NODE_IS_FULL = {"resources": {"requests": {"cpu": "900"}}}
TOO_LITTLE_MEMORY = {"resources": {"limits": {"memory": "24Mi"}}}
NO_SUCH_IMAGE = {"podTemplate": {"spec": {"containers": [{"name": "step", "image": "localhost/levada/none:none"}]}}}
SOON = {"deadline": "1s", "podTemplate": {"spec": {"nodeSelector": {"levada.dev/none": "here"}}}}


@pytest.fixture
def shops(levada: Installed, tmp_path: Path) -> Iterator[Document]:
    """A Dataset whose data is there."""
    levada.clear()
    levada.forget()
    levada.upload(small_pipeline(tmp_path, 20).folder)
    (found,) = [d for d in yaml.safe_load_all(PIPELINE) if (d["kind"], d["metadata"]["name"]) == ("Dataset", "shops")]
    yield found
    levada.clear()


def says(levada: Installed, *words: str) -> Document:
    """The Ready condition of the Dataset once it says all of this."""
    last = ""

    def look() -> Document | None:
        nonlocal last
        ready = condition(levada.get("dset/shops"), "Ready") if "status" in levada.get("dset/shops") else {}
        last = ready.get("message", "")
        return ready if all(word in last for word in words) else None

    try:
        return until(look)
    except AssertionError:
        raise AssertionError(f"it says: {last}\n{levada.operator_log()}") from None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(NO_SUCH_IMAGE, ["does not start", "image cannot be pulled"], id="no such image"),
        pytest.param(NODE_IS_FULL, ["fits on no node", "Insufficient cpu"], id="fits on no node"),
    ],
)
def test_x5_a_step_that_cannot_start_says_why_while_it_waits(
    levada: Installed, shops: Document, spec: Document, words: list[str]
) -> None:
    levada.apply(with_spec(shops, spec))

    assert says(levada, *words)["status"] == "Unknown"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(TOO_LITTLE_MEMORY, ["more memory than it may", "spec.resources.limits.memory"], id="memory"),
        pytest.param(SOON, ["deadline of 1 s passed", "spec.deadline"], id="deadline"),
    ],
)
def test_x5_a_step_that_was_ended_says_why(
    levada: Installed, shops: Document, spec: Document, words: list[str]
) -> None:
    levada.apply(with_spec(shops, {"retries": 0, **spec}))

    stalled = condition(levada.wait("dset/shops", "Stalled"), "Stalled")
    assert all(word in stalled["message"] for word in words), stalled


def test_x3_a_secret_that_is_not_there_is_named(levada: Installed, shops: Document) -> None:
    spec = deepcopy(shops["spec"])
    spec["source"]["object"]["credentials"] = {"secretRef": {"name": "nowhere"}}
    levada.apply({**shops, "spec": spec})

    says(levada, "nowhere")


def test_x5_a_full_quota_is_said_and_the_step_runs_once_there_is_room(levada: Installed, shops: Document) -> None:
    quota: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "full"},
        "spec": {"hard": {"pods": "0"}},
    }
    levada.apply(quota)
    try:
        levada.apply(shops)
        says(levada, "quota")
    finally:
        levada.run("delete", "resourcequota", "full")
    levada.wait("dset/shops", "Ready")


def with_spec(dataset: Document, fields: Document) -> Document:
    return {**dataset, "spec": {**dataset["spec"], **fields}}
