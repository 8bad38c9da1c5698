"""Registries of interchangeable strategies: built-in ones in an explicit dict, third parties' by entry point."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from levada.errors import Stalled
from levada.resources.conditions import Reason

T = TypeVar("T")


class Registry(Generic[T]):
    """Strategies of one sort by name.

    Plug-ins register under the entry point group `levada.<sort>`; a name that is taken, or a plug-in that cannot be
    loaded, is an error when the registry is first read, not when a model happens to need it.
    """

    def __init__(self, sort: str, builtin: Mapping[str, T]) -> None:
        self.sort = sort
        self._builtin = dict(builtin)
        self._all: dict[str, T] | None = None

    def _load(self) -> dict[str, T]:
        if self._all is None:
            found = dict(self._builtin)
            for point in entry_points(group=f"levada.{self.sort}"):
                if point.name in found:
                    raise Stalled(
                        Reason.INVALID_SPEC,
                        f"the plug-in '{point.value}' registers the {self.sort} '{point.name}', which exists already",
                    )
                try:
                    found[point.name] = point.load()
                except Exception as error:
                    raise Stalled(
                        Reason.INVALID_SPEC,
                        f"the {self.sort} plug-in '{point.value}' cannot be loaded: {error}",
                    ) from error
            self._all = found
        return self._all

    def __getitem__(self, name: str) -> T:
        """The strategy of a name; raises Stalled with what there is."""
        strategies = self._load()
        if name not in strategies:
            near = difflib.get_close_matches(name, strategies, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise Stalled(
                Reason.INVALID_SPEC,
                f"there is no {self.sort} '{name}'{hint} (there are: {', '.join(sorted(strategies))})",
            )
        return strategies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __contains__(self, name: object) -> bool:
        return name in self._load()
