"""Logs of what runs in a cluster: a line of JSON for each event, to standard error."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog


def as_json(level: str) -> None:
    """Log what is of a level (debug, info, warning, error) or above; an unknown one is info."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping().get(level.upper(), 20)),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Log())),
        cache_logger_on_first_use=True,
    )


class _Log:
    """Standard error; a line that cannot be written there (a full disk) is left out, and nothing stops for it."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()
