"""Lineage and audit as a person reads them on a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from levada.stores.ports import LineageNode

# What was made last stands first, so that everything hangs where it entered and not beside it.
_NEAREST_FIRST = ("score", "scores", "evaluation", "candidate", "split", "features", "batch", "source")


def as_tree(nodes: list[LineageNode]) -> Tree:
    """The history of the first node, parents below what was made from them; none is repeated."""
    by_id = {node.id: node for node in nodes}
    seen: set[str] = set()

    def grow(tree: Tree, node: LineageNode) -> None:
        known = (parent for parent in node.parents if parent in by_id)
        for parent in sorted(known, key=lambda id: (_NEAREST_FIRST.index(by_id[id].type), id)):
            if parent in seen:
                tree.add(Text(f"{by_id[parent].type} {parent} (above)", "dim"))
                continue
            seen.add(parent)
            grow(tree.add(_label(by_id[parent])), by_id[parent])

    root = Tree(_label(nodes[0]))
    seen.add(nodes[0].id)
    grow(root, nodes[0])
    return root


def _label(node: LineageNode) -> Text:
    """As a text: what stands in brackets in a name is no markup."""
    details = ", ".join(f"{name} {value}" for name, value in node.details.items() if not isinstance(value, dict | list))
    label = Text.assemble((node.type, "bold"), f" {node.name} ", (node.id, "cyan"))
    if node.created_at:
        label.append(f" {node.created_at:%Y-%m-%d %H:%M:%S}", "dim")
    if details:
        label.append(f" {details}", "dim")
    return label


def as_data(node: LineageNode) -> dict[str, Any]:
    """A node as JSON data."""
    return {
        "id": node.id,
        "type": node.type,
        "name": node.name,
        "createdAt": node.created_at.isoformat() if node.created_at else None,
        "parents": list(node.parents),
        "details": node.details,
    }


def audit_table(decisions: list[dict[str, Any]]) -> Table:
    """Decisions, newest first."""
    grid = Table(box=None, pad_edge=False)
    headings = ("time", "actor", "kind", "namespace", "name", "action", "reason", "message")
    for heading in headings:
        grid.add_column(heading.upper(), no_wrap=heading == "time", overflow="fold")
    for decision in decisions:
        shown = {**decision, "time": f"{decision['time']:%Y-%m-%d %H:%M:%S}"}
        grid.add_row(*(Text(str(shown[heading])) for heading in headings))
    return grid
