"""What tells, without reading it, that a source in a local folder changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from levada import names
from levada.methods.sources.globs import matcher
from levada.resources.dataset import DatasetSpec


def source_fingerprint(spec: DatasetSpec) -> str | None:
    """A digest of names, sizes and modification times of a file:// source; None for sources that need credentials."""
    source = spec.source.object
    if source is None or not source.uri.startswith("file://"):
        return None
    root = Path(unquote(urlsplit(source.uri).path))
    if root.is_file():
        return names.short_hash(list(_facts(root, root.name)))
    matches = matcher(source.pattern)
    files: list[list[str | int]] = []
    for folder, _, file_names in os.walk(root, followlinks=True):
        for file_name in file_names:
            path = Path(folder, file_name)
            relative = path.relative_to(root).as_posix()
            if matches(relative):
                files += _facts(path, relative)
    return names.short_hash(sorted(files))


def _facts(path: Path, name: str) -> Iterator[list[str | int]]:
    with contextlib.suppress(OSError):  # gone since it was listed, or not ours to see: the step says so
        facts = path.stat()
        yield [name, facts.st_size, facts.st_mtime_ns]
