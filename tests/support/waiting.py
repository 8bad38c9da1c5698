"""Waiting for a condition: never for a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

GIVE_UP = 240.0  # seconds; a guard, not a measurement


def until(look: Callable[[], T | None], process: subprocess.Popen[bytes] | None = None, seconds: float = GIVE_UP) -> T:
    """What `look` sees once it sees something; fails when `process` ends before that."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        assert process is None or process.poll() is None, f"the process ended with exit code {process.returncode}"
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
