"""What goes wrong in a scorer: a caller's fault, or a version that cannot be served."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from levada.errors import LevadaError


class RequestError(LevadaError):
    """The caller's fault: an HTTP status from 400 to 499 (503: come back later) and one clear sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ModelError(LevadaError):
    """A version that cannot be served as it is: trying again cannot help."""


def bad(message: str) -> RequestError:
    """A request that makes no sense (HTTP 400)."""
    return RequestError(400, message)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something known is close to `name`, else what there is."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    shown = ", ".join(known[:30]) + (", …" if len(known) > 30 else "")
    return f"; there is: {shown}"
