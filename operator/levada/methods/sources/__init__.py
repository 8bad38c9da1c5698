"""Where raw data comes from: a way to each type of source, behind a registry."""

from __future__ import annotations

from collections.abc import Callable

from levada.errors import Stalled
from levada.methods.registry import Registry
from levada.methods.sources.base import Access, EntrySource, SourceChanged
from levada.methods.sources.objects import open_object_source
from levada.resources.conditions import Reason
from levada.resources.dataset import Source

SOURCES: Registry[Callable[[Source, Access], EntrySource]] = Registry("source", {"object": open_object_source})
"""Ways to a source by the name that stands in spec.source.type."""


def open_source(source: Source, access: Access) -> EntrySource:
    """The way to a source; raises Stalled (NotSupported) for a type that there is none for."""
    if source.type not in SOURCES:
        try:
            SOURCES[source.type]
        except Stalled as error:
            raise Stalled(Reason.NOT_SUPPORTED, error.message) from error
    return SOURCES[source.type](source, access)


__all__ = ["SOURCES", "Access", "EntrySource", "SourceChanged", "open_source"]
