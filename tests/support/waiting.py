"""Waiting for a condition: never for a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

GIVE_UP = 240.0  # seconds; a guard, not a measurement
SOONEST, LATEST = 0.05, 1.0  # seconds until the next look


def until(look: Callable[[], T | None], process: subprocess.Popen[bytes] | None = None, seconds: float = GIVE_UP) -> T:
    """What `look` sees once it sees something; fails when `process` ends before that."""
    deadline = time.monotonic() + seconds
    while True:
        looked = time.monotonic()
        seen = look()
        if seen:
            return seen
        assert process is None or process.poll() is None, f"the process ended with exit code {process.returncode}"
        assert time.monotonic() < deadline, "it did not come to pass"
        # Who looks all the time keeps what it waits for from its work: kubectl takes as much of a core as it is given.
        time.sleep(min(max(SOONEST, 3 * (time.monotonic() - looked)), LATEST))
