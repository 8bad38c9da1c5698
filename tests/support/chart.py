"""The chart as Helm renders it, and its objects by kind and name."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from tools.build import BuildError, ensure
from tools.chart import ROOT, render

Document = dict[str, Any]
EXISTING: Document = {"stores": {"existingSecret": "mine"}, "models": {"existingSecret": "my-models"}}
NAMESPACED: Document = {"namespaces": ["team-b", "team-a"]}
CLUSTER_VALUES = ROOT / "tests" / "support" / "cluster-values.yaml"


class Chart:
    """Renders with one Helm; raises BuildError if that cannot be had."""

    def __init__(self) -> None:
        (self.helm,) = ensure(["helm"])
        self._rendered: dict[str, list[Document]] = {}

    def objects(self, values: Document | None = None, *, namespace: str = "levada") -> list[Document]:
        """The objects with some values; passwords in them are the same each time."""
        key = f"{namespace} {json.dumps(values)}"
        if key not in self._rendered:
            self._rendered[key] = render(self.helm, values or {}, namespace)
        return deepcopy(self._rendered[key])

    def refusal(self, values: Document) -> str:
        """What Helm says of values that it does not take."""
        try:
            render(self.helm, values)
        except subprocess.CalledProcessError as error:
            return str(error.stderr)
        raise AssertionError(f"these values were taken: {values}")


def of_kind(objects: list[Document], *kinds: str) -> list[Document]:
    return [one for one in objects if one["kind"] in kinds]


def named(objects: list[Document], kind: str, name: str, namespace: str | None = None) -> Document:
    """The one object of a kind and name."""
    (found,) = (
        one
        for one in of_kind(objects, kind)
        if one["metadata"]["name"] == name and namespace in (None, one["metadata"].get("namespace"))
    )
    return found


def pod_templates(objects: list[Document]) -> Iterator[tuple[str, Document]]:
    """The name of each workload, and the metadata and spec of its pods."""
    for one in objects:
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["metadata"]["name"], one["spec"]["template"]
        elif one["kind"] == "Pod":
            yield one["metadata"]["name"], {"metadata": one["metadata"], "spec": one["spec"]}


__all__ = ["CLUSTER_VALUES", "EXISTING", "NAMESPACED", "BuildError", "Chart", "named", "of_kind", "pod_templates"]
