"""A memory that does not grow for ever."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

REMEMBERED = 10_000


class Recent(Generic[T]):
    """The newest of what was added, so many of them. What is forgotten is done once more, which must do no harm."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._entries: OrderedDict[T, None] = OrderedDict()

    def add(self, entry: T) -> None:
        """Remember it, and forget the oldest where there are too many."""
        self._entries[entry] = None
        if len(self._entries) > self._remembered:
            self._entries.popitem(last=False)

    def __contains__(self, entry: T) -> bool:
        return entry in self._entries
