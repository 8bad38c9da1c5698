"""Errors that say what happens next. Whatever is not one of these is retried with back-off."""

from __future__ import annotations

import re

from levada.resources.conditions import Reason

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """A text that may quote data, with control characters as they would be written in Python: a terminal would obey
    them, and Postgres takes no NUL."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LevadaError(Exception):
    """The root of Levada's own errors; `str()` is one clear sentence for a person."""


class Stalled(LevadaError):
    """The user must act: retrying the same inputs cannot help.

    Steps raise it for bad input (exit code 65, never retried); planners for specs that cannot be carried out.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(printable(message))
        self.reason = reason
        self.message = printable(message)


class Waiting(LevadaError):
    """Something that is needed is not there yet; `message` says what. Looked at again when it changes."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class StoreUnavailable(LevadaError):
    """A store does not answer; retried with back-off. The message names the store, never a secret."""
