"""Kill this program at its N-th write, so that a test can show that dying anywhere does no harm.

Every adapter and everything else that changes lasting state calls `after_write` after each single write. With
LEVADA_FAILPOINT_FILE and LEVADA_FAILPOINT_AT set, each write of any process appends a byte to that file, and the
process whose byte is the N-th kills itself. The file goes on growing, so it happens once.
"""

from __future__ import annotations

import os
import signal


def after_write(what: str) -> None:
    """Say that lasting state has just changed; `what` names the write for a person, e.g. `put raw/…/manifest.json`."""
    if file := os.environ.get("LEVADA_FAILPOINT_FILE"):
        _count_and_die(file, int(os.environ["LEVADA_FAILPOINT_AT"]), what)


def _count_and_die(file: str, at: int, what: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, b".")
        # After an appending write the position is the end of what was written, so each write has a number of its own.
        number = os.lseek(descriptor, 0, os.SEEK_CUR)
    finally:
        os.close(descriptor)
    if number == at:
        os.write(2, f"failpoint {number}: killed after {what}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
