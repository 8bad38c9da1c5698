"""What goes wrong in a scorer: a caller's fault, or a version that cannot be served."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from levada.errors import LevadaError

_MOST_REPEATED = 80  # characters
_MOST_LISTED = 30


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


def cut(text: str) -> str:
    """What a request says, as a message repeats it: not more than is needed to find it."""
    return text if len(text) <= _MOST_REPEATED else text[: _MOST_REPEATED - 1] + "…"


def listed(names: Sequence[str]) -> str:
    """Names as a message lists them."""
    return ", ".join(names[:_MOST_LISTED]) + (", …" if len(names) > _MOST_LISTED else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something known is close to `name`, else what there is."""
    known = list(known)
    close = difflib.get_close_matches(cut(name), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; there is: {listed(known)}"
