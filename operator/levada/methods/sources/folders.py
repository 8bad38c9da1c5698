"""The files below a local folder, as a source lists them: links are followed, a loop of links is entered once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from levada.methods.sources.globs import deepest, matcher


def files_below(root: Path, pattern: str, refuse: Callable[[OSError], None]) -> Iterator[str]:
    """Paths below `root` that match a glob, in no order; folders in which none can lie are not looked into.

    `refuse` is given the error of each folder that cannot be listed, which is passed over unless it raises. Raises
    re.error where the pattern is no glob.
    """
    matches, levels = matcher(pattern), deepest(pattern)
    none: frozenset[tuple[int, int]] = frozenset()
    waiting = [("", none)]  # folders, and those (device and inode) on the way to them
    while waiting:
        folder, way = waiting.pop()
        whole = str(root / folder)
        try:
            facts = os.stat(whole)
            here = (facts.st_dev, facts.st_ino)
            if here in way:
                continue
            entries = list(os.scandir(whole))
        except OSError as error:
            refuse(error)
            continue
        for entry in entries:
            path = f"{folder}{entry.name}"
            if not _is_folder(entry):
                if matches(path):
                    yield path
            elif levels is None or path.count("/") < levels:
                waiting.append((f"{path}/", way | {here}))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False
