"""What planners write as status is taken by a real API server as it is."""

from __future__ import annotations

from typing import Any

import pytest

from levada import names
from levada.names import Kind
from levada.resources import AnyResource
from levada.resources.conditions import Reason
from tests.api.test_crds import Api, Kubectl, api, kubectl  # noqa: F401
from tests.unit.planners.test_pipeline import pipeline
from tests.unit.planners.worlds import World, ref


def finished() -> World:
    world = pipeline()
    world.settle()
    return world


def running() -> World:
    world = pipeline()
    for each in list(world.resources):
        world.reconcile(each)
    return world


def failed() -> World:
    world = finished()
    world.edit(ref(Kind.TRAINING_RUN, "late"), gate={"minimum": {"rocAuc": 0.99}})
    world.edit(ref(Kind.DEPLOYMENT, "late"), cache={})
    world.edit(ref(Kind.DATASET, "flights"), format={"type": "jsonl"})
    world.reconcile(ref(Kind.DATASET, "flights"))
    world.fail(ref(Kind.DATASET, "flights"), Reason.INVALID_DATA, "long " * 5000)
    for each in list(world.resources):
        world.reconcile(each)
    return world


@pytest.mark.parametrize("world", [finished, running, failed])
def test_k8s1_every_status_is_stored_as_the_planners_write_it(world: Any, api: Api) -> None:  # noqa: F811
    made = world()
    for resource in made.resources.values():
        written = resource.status.document()
        assert _store(api, resource, world.__name__, written)["status"] == written


def _store(api: Api, resource: AnyResource, prefix: str, status: dict[str, Any]) -> dict[str, Any]:  # noqa: F811
    document = resource.document()
    name = f"{prefix}-{resource.metadata.name}"[:50].rstrip("-")
    manifest = {**document, "metadata": {"name": name}}
    del manifest["status"]
    api.create(manifest, keep=True)
    return api.custom.patch_namespaced_custom_object_status(  # type: ignore[no-any-return]
        names.GROUP,
        names.VERSION,
        "default",
        names.PLURALS[resource.kind],
        name,
        {"status": status},
        field_validation="Strict",
    )
