"""Errors that say what happens next. Whatever is not one of these is retried with back-off."""

from __future__ import annotations

from datetime import timedelta

from levada.resources.conditions import Reason


class LevadaError(Exception):
    """The root of Levada's own errors; `str()` is one clear sentence for a person."""


class Stalled(LevadaError):
    """The user must act: retrying the same inputs cannot help.

    Steps raise it for bad input (exit code 65, never retried); planners for specs that cannot be carried out.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Waiting(LevadaError):
    """Something that is needed is not there yet; `message` says what. Looked at again when it changes, or `after`."""

    def __init__(self, message: str, after: timedelta | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.after = after


class StoreUnavailable(LevadaError):
    """A store does not answer; retried with back-off. The message names the store, never a secret."""
