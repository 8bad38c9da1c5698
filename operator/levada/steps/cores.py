"""How many cores a step may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """`LEVADA_CPUS` if set, else what the container's quota and the process's affinity leave; at least 1."""
    given = os.environ.get("LEVADA_CPUS", "")
    if given:
        return max(1, math.floor(float(given)))
    mine = len(os.sched_getaffinity(0))
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
    except (OSError, ValueError):
        return mine
    return mine if quota == "max" else max(1, min(mine, math.ceil(int(quota) / int(period))))
