"""What tells, without reading it, that a source in a local folder changed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from levada import names
from levada.methods.sources.folders import files_below
from levada.resources.dataset import DatasetSpec

UNREADABLE = "unreadable"


def source_fingerprint(spec: DatasetSpec) -> str | None:
    """A digest of names, sizes and modification times of a file:// source; None for sources that need credentials.

    Where it cannot be looked at, always the same: the step says in a sentence what is wrong.
    """
    source = spec.source.object
    if source is None or not source.uri.startswith("file://"):
        return None
    try:
        root = Path(unquote(urlsplit(source.uri).path))
        if root.is_file():
            return names.short_hash(list(_facts(root, root.name)))
        found = files_below(root, source.pattern, refuse=lambda _: None)
        return names.short_hash(sorted(fact for path in found for fact in _facts(root / path, path)))
    except (OSError, ValueError, re.error):
        return UNREADABLE


def _facts(path: Path, name: str) -> Iterator[list[str | int]]:
    with contextlib.suppress(OSError):  # gone since it was listed, or not ours to see: the step says so
        facts = path.stat()
        yield [os.fsencode(name).decode(errors="backslashreplace"), facts.st_size, facts.st_mtime_ns]
