"""Progress of a step, as its resource's status tells it."""

from __future__ import annotations

from pathlib import Path

from levada.names import Kind
from tests.support.space import Space, land, pipeline
from tests.support.waiting import until


def test_x4_a_step_that_takes_long_shows_its_progress_in_the_status(empty_space: Space, tmp_path: Path) -> None:
    space = empty_space
    often = {"stringData": {"LEVADA_PROGRESS_SECONDS": "0.05"}}
    space.core.patch_namespaced_secret("levada-stores", space.namespace, often)
    space.settings["LEVADA_PROGRESS_SECONDS"] = "0.1"
    land(space, tmp_path, rows=400_000)
    orders = next(d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "orders")
    space.start()
    space.apply(orders)

    progress = until(
        lambda: space.get(Kind.DATASET, "orders").get("status", {}).get("execution", {}).get("progress"), space.operator
    )

    assert progress["step"] == "ingest"
    assert progress["unit"] == "rows"
    assert progress["done"] > 0
    ready = space.wait(Kind.DATASET, "orders", "Ready")
    assert "progress" not in ready["status"]["execution"]
