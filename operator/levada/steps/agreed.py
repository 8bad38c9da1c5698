"""What all indexes of a step agree on before they begin, what they leave behind, and whether all are done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from levada.artifacts import Artifact, Listing
from levada.errors import Stalled
from levada.methods.sources import EntrySource, SourceChanged
from levada.steps.context import StepContext
from levada.stores.ports import ObjectNotFound, Objects

# Below an output's prefix.
SOURCE = "source/"
LISTING = f"{SOURCE}listing.json"

A = TypeVar("A", bound=Artifact)
T = TypeVar("T")


def agreed(objects: Objects, key: str, kind: type[A], make: Callable[[], A]) -> A:
    """The document that stands at a key; the first to come writes it."""
    try:
        return kind.from_bytes(objects.get(key))
    except ObjectNotFound:
        made = make()
        if objects.put_if_absent(key, made.to_bytes()):
            return made
        return kind.from_bytes(objects.get(key))


def agreed_listing(objects: Objects, prefix: str, source: EntrySource, now: datetime) -> Listing:
    """The listing that stands in an output's folder; the first to come writes it."""
    return agreed(objects, prefix + LISTING, Listing, lambda: Listing(entries=source.list(), listed_at=now))


def from_source(context: StepContext, prefix: str, make: Callable[[], T]) -> T:
    """What is made of the files that were agreed on.

    If it cannot be made, the listing is given up, so that the next attempt sees the source as it is then. A listing
    that is older than a change of the source is taken anew at once, if no other index may be at work with it.
    """
    try:
        return make()
    except Stalled as stalled:
        context.objects.delete_prefix(prefix + SOURCE)
        if not isinstance(stalled, SourceChanged) or not others_ended(context):
            raise
    try:
        return make()
    except Stalled:
        context.objects.delete_prefix(prefix + SOURCE)
        raise


def others_ended(context: StepContext) -> bool:
    """Whether no other index may be at work."""
    return set(range(context.input.completions)) - {context.index} <= _ended(context)


def do_shares(context: StepContext, place: str, share: Callable[[int], Artifact]) -> None:
    """Do what `share` does for this index, and leave its receipt; nothing if that lies there.

    An index that ended well while the source was another is not run again: its share is done here too.
    """
    _do_share(context.objects, f"{place}{context.index}.json", share, context.index)
    for index in sorted(_ended(context)):
        _do_share(context.objects, f"{place}{index}.json", share, index)


def receipts(context: StepContext, place: str) -> list[bytes] | None:
    """The receipts of all indexes in their order; None while one is missing."""
    there = {info.key for info in context.objects.list(place)}
    keys = [f"{place}{index}.json" for index in range(context.input.completions)]
    return [context.objects.get(key) for key in keys] if there >= set(keys) else None


def _do_share(objects: Objects, key: str, share: Callable[[int], Artifact], index: int) -> None:
    if objects.info(key) is None:
        objects.put(key, share(index).to_bytes())


def _ended(context: StepContext) -> set[int]:
    """The indexes that have left their results."""
    prefix = context.input.result_prefix
    results = {info.key for info in context.objects.list(prefix)}
    return {index for index in range(context.input.completions) if f"{prefix}{index}.json" in results}
