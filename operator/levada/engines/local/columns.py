"""Resources of one kind as `kubectl get` would show them: the same columns, from the same definitions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from levada.names import Kind
from levada.resources import AnyResource
from levada.resources.crd import definition

# The two forms that the definitions use: `.name`, and `[?(@.name=="value")]`.
_PART = re.compile(r'\.(?P<field>\w+)|\[\?\(@\.(?P<key>\w+)=="(?P<value>\w+)"\)\]')


def columns_of(kind: Kind) -> dict[str, str]:
    """The JSON path of each column: those that kubectl shows, and the message. A home keeps no time of creation."""
    columns = definition(kind)["spec"]["versions"][0]["additionalPrinterColumns"]
    return {
        column["name"]: column["jsonPath"]
        for column in columns
        if column["type"] != "date" and ("priority" not in column or column["name"] == "Message")
    }


def value_at(document: Any, path: str) -> Any:
    """What stands at a JSON path of a document, or None."""
    found = document
    for part in _PART.finditer(path):
        if part["field"] is not None:
            found = found.get(part["field"]) if isinstance(found, dict) else None
        else:
            items = found if isinstance(found, list) else []
            found = next((item for item in items if item.get(part["key"]) == part["value"]), None)
    return found


def kind_table(kind: Kind, resources: Iterable[AnyResource], *, namespaces: bool) -> Table:
    """A table of resources of one kind, with a column for their namespaces if there are several."""
    columns = columns_of(kind)
    grid = Table(box=None, pad_edge=False)
    for heading in (*(["NAMESPACE"] if namespaces else []), "NAME", *(name.upper() for name in columns)):
        grid.add_column(heading, overflow="fold", no_wrap=heading in ("NAME", "READY", "REASON"))
    for resource in resources:
        document = resource.document()
        metadata = document["metadata"]
        cells = [metadata["namespace"]] if namespaces else []
        cells += [metadata["name"], *(_shown(value_at(document, path)) for path in columns.values())]
        grid.add_row(*map(Text, cells))
    return grid


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
