"""What a cluster leaves in the kernel of the machine besides namespaces: cgroups, and settings that kubelet changes."""

from __future__ import annotations

import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
CHANGED_BY_KUBELET = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
REMOVAL_SECONDS = 10.0


def make_cgroup(name: str) -> None:
    """Make the cgroup in every hierarchy there is: one for each controller (v1), or the one for all (v2)."""
    for hierarchy in _hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)


def remove_cgroup(name: str) -> list[Path]:
    """Remove the cgroup and all below it; returns what would not go since processes are still in it."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while True:
        left = [path for hierarchy in _hierarchies() for path in _remove_tree(hierarchy / name)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)  # the kernel lets go of a killed process' cgroup a moment later


def read_settings() -> dict[str, str]:
    """The settings that kubelet changes, as they are now."""
    return {name: (Path("/proc/sys") / name).read_text().strip() for name in CHANGED_BY_KUBELET}


def restore_settings(settings: dict[str, str]) -> None:
    """Set what `read_settings` has returned."""
    for name, value in settings.items():
        path = Path("/proc/sys") / name
        if name in CHANGED_BY_KUBELET and path.read_text().strip() != value:
            path.write_text(value)


def _hierarchies() -> list[Path]:
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    # v1: names such as "cpu,cpuacct" may be links to the same hierarchy.
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _remove_tree(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    left: list[Path] = []
    for child in folder.iterdir():
        if child.is_dir():
            left += _remove_tree(child)
    try:
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        left.append(folder)
    return left
