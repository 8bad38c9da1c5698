"""URIs that a manifest gives relative (`./folder/`): who reads it says relative to what."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

# Places of a URI that may be relative.
_PLACES = (("spec", "source", "object"), ("spec", "input", "object"), ("spec", "model"))


def with_absolute_uris(document: dict[str, Any], absolute: Callable[[str], str]) -> dict[str, Any]:
    """A document of a resource, each relative URI of which has been made `absolute`. Others stay as they are."""
    for place in _PLACES:
        document = _at(document, place, absolute)
    return document


def _at(block: Any, place: tuple[str, ...], absolute: Callable[[str], str]) -> Any:
    if not isinstance(block, dict):
        return block
    if not place:
        uri = block.get("uri")
        return {**block, "uri": absolute(uri)} if isinstance(uri, str) and uri.startswith("./") else block
    key, *rest = place
    return {**block, key: _at(block[key], tuple(rest), absolute)} if key in block else block


def below(root: str, uri: str) -> str:
    """A relative URI below a root (`s3://bucket/prefix`), with its slash at the end; one that leads out of it stays."""
    path = posixpath.normpath(uri)
    if path == ".." or path.startswith("../"):
        return uri
    end = "/" if uri.endswith("/") or path == "." else ""
    return f"{root.rstrip('/')}/{path if path != '.' else ''}".rstrip("/") + end
