"""What SIGINT and SIGTERM do to a command: end it at once while it is loaded, interrupt it where it has work to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NoReturn


def at_once() -> None:
    """From here on they end the process with exit code 130; for the time of imports, when there is nothing to clean up.

    KeyboardInterrupt could come in a callback of the import system, where it is lost, or in code that a library
    executes from text, after which Python ends by the signal.
    """
    _handle(_end)


def by_interrupt() -> None:
    """From here on both raise KeyboardInterrupt."""
    _handle(signal.default_int_handler)


def _handle(handler: Callable[..., object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of a job in the background of a script
            signal.signal(number, handler)


def _end(*_: object) -> NoReturn:
    os._exit(130)
