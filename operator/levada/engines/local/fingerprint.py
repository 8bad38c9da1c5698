"""What tells, without reading it, that a source in a local folder changed."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from levada import names
from levada.resources.dataset import DatasetSpec


def source_fingerprint(spec: DatasetSpec) -> str | None:
    """A digest of names, sizes and modification times of a file:// source; None for sources that need credentials."""
    source = spec.source.object
    if source is None or not source.uri.startswith("file://"):
        return None
    root = Path(unquote(urlsplit(source.uri).path))
    if root.is_file():
        return names.short_hash([_facts(root, root.name)])
    files = []
    for folder, _, file_names in os.walk(root):
        for file_name in file_names:
            path = Path(folder, file_name)
            relative = path.relative_to(root).as_posix()
            if fnmatch.fnmatchcase(relative, source.pattern):
                files.append(_facts(path, relative))
    return names.short_hash(sorted(files))


def _facts(path: Path, name: str) -> list[str | int]:
    facts = path.stat()
    return [name, facts.st_size, facts.st_mtime_ns]
