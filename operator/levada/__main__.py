"""`levada`, and `python -m levada`: the command line, which can be ended while it is still being loaded."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def main() -> None:
    """Run the command line. A signal that ends it before there is anything to end leaves no traceback."""
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in usual.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _end)
    from levada.cli import app

    for number, handler in usual.items():
        signal.signal(number, handler)
    app()


def _end(*_: object) -> NoReturn:
    os._exit(130)


if __name__ == "__main__":
    main()
