"""The stores that the settings name. Clients are imported when a store is opened: a step without work never is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from levada.settings import Settings

if TYPE_CHECKING:
    from levada.stores.ports import Bus, Catalogue, Objects, OnlineFeatures, Triggers


def open_objects(settings: Settings) -> Objects:
    """The bucket; nothing is asked of the server yet."""
    from levada.stores.objects import open_objects

    return open_objects(settings)


def ensure_bucket(settings: Settings) -> bool:
    """Create the bucket unless it exists; whether it was created."""
    from levada.stores.objects import ensure_bucket

    return ensure_bucket(settings)


def open_catalogue(settings: Settings) -> Catalogue:
    """The catalogue; connects when first used."""
    from levada.stores.postgres import open_catalogue

    return open_catalogue(settings)


def open_bus(settings: Settings) -> Bus:
    """The bus; connects when first used, in the event loop that uses it."""
    from levada.stores.nats import open_bus

    return open_bus(settings)


def open_triggers(settings: Settings) -> Triggers:
    """Messages that start executions; connects when first used, in the event loop that uses it."""
    from levada.stores.nats import open_triggers

    return open_triggers(settings)


def open_online(settings: Settings) -> OnlineFeatures:
    """The online features; connects when first used, in the event loop that uses it."""
    from levada.stores.nats import open_online

    return open_online(settings)
