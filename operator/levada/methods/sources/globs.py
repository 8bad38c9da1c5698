"""Globs on paths: `*` and `?` within a name, `**` across folders, `[…]` for a set of characters."""

from __future__ import annotations

import re
from collections.abc import Callable


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path matches a glob, whole and case-sensitive.

    Names that begin with `.` or `_` (hidden files, and what engines leave beside data, such as `_SUCCESS`) match only
    a part of the pattern that begins so too. Raises re.error for a set that there cannot be, such as `[z-a]`.
    """
    expression = re.compile("".join(_translated(pattern)), re.DOTALL)
    shown = any(part[:1] in ("_", ".") for part in pattern.split("/"))

    def matches(path: str) -> bool:
        hidden = any(part[:1] in ("_", ".") for part in path.split("/"))
        return (shown or not hidden) and expression.fullmatch(path) is not None

    return matches


def deepest(pattern: str) -> int | None:
    """How many folders deep a path that matches a glob can lie; None if there is no end."""
    return None if "**" in pattern else pattern.count("/")


def _translated(pattern: str) -> list[str]:
    parts: list[str] = []
    i = 0
    while i < len(pattern):
        if pattern.startswith("**/", i):
            parts.append("(?:.*/)?")
            i += 3
        elif pattern.startswith("**", i):
            parts.append(".*")
            i += 2
        elif pattern[i] == "*":
            parts.append("[^/]*")
            i += 1
        elif pattern[i] == "?":
            parts.append("[^/]")
            i += 1
        elif pattern[i] == "[" and (end := pattern.find("]", i + 2)) > 0:
            inner = pattern[i + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"[^/{inner[1:]}]" if inner[0] in "!^" else f"(?!/)[{inner}]")
            i = end + 1
        else:
            parts.append(re.escape(pattern[i]))
            i += 1
    return parts
