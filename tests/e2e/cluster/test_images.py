"""What is in the images that the project ships: looked at from inside, where they run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tools.cluster.images import PROJECT

from .conftest import Cluster
from .jobs import job, run

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

LOOK = """
import importlib.metadata, json, os, pathlib
home = pathlib.Path("/opt/levada")
bom = json.loads((home / "sbom.cdx.json").read_text())
files = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
installed = importlib.metadata.distributions(path=[str(next(home.glob("lib/python3*/site-packages")))])
print(json.dumps({
    "bytes": sum(path.stat().st_size for path in files),
    "user": os.getuid(),
    "installed": sorted(f"{one.name}=={one.version}" for one in installed),
    "purls": [component["purl"] for component in bom["components"] if "purl" in component],
    "format": bom["bomFormat"],
    "subject": bom["metadata"]["component"]["name"],
}))
"""
TRAINING = {"duckdb", "kserve", "kubernetes", "onnx", "pandas", "scikit-learn", "scipy", "skl2onnx"}


def look(cluster: Cluster, namespace: str, image: str) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(run(cluster, job("look", namespace, LOOK, image=image)))
    return seen


def normal(name: str) -> str:
    """A distribution's name or `name==version` as the index writes it."""
    return name.lower().replace("_", "-").replace(".", "-")


@pytest.mark.parametrize("image", PROJECT)
def test_an_image_runs_without_root_and_lists_what_it_holds(cluster: Cluster, namespace: str, image: str) -> None:
    seen = look(cluster, namespace, image)
    assert seen["user"] == 65532
    assert (seen["format"], seen["subject"]) == ("CycloneDX", f"levada-{image}")
    listed = [purl.removeprefix("pkg:pypi/").replace("@", "==") for purl in seen["purls"] if "pkg:pypi/" in purl]
    assert sorted(map(normal, listed)) == sorted(map(normal, seen["installed"]))
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in seen["purls"])


def test_the_scorers_image_has_nothing_that_trains_and_is_small(cluster: Cluster, namespace: str) -> None:
    seen = look(cluster, namespace, "scorer")
    assert not TRAINING & {one.partition("==")[0] for one in map(normal, seen["installed"])}
    assert seen["bytes"] <= 350_000_000
