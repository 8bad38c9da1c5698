"""The stores of a home for commands other than `run`: those of a running engine, or started for the moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from levada.engines.local.home import Home
from levada.engines.local.servers import LocalServers
from levada.errors import LevadaError
from levada.resources import Ref
from levada.settings import Settings, from_environment
from levada.stores.open import open_catalogue, open_objects
from levada.stores.ports import Catalogue


def open_servers(root: Path) -> LocalServers:
    """The servers of a home, for the one process that may have it."""
    return LocalServers(root, durable=Settings().local_durable)


@contextmanager
def settings_of(root: Path) -> Iterator[Settings]:
    """Settings that lead to a home's stores."""
    if not (root / "resources").exists():
        raise LevadaError(f"there is no home at {root}: `levada run` makes one, --home names another")
    running = LocalServers.running(root)
    if running is not None:
        yield from_environment(running.environment())
        return
    with open_servers(root) as servers:
        yield from_environment(servers.start_all().environment())


@contextmanager
def catalogue_of(root: Path) -> Iterator[Catalogue]:
    """The catalogue of a home."""
    with settings_of(root) as settings:
        catalogue = open_catalogue(settings)
        try:
            yield catalogue
        finally:
            catalogue.close()


def delete(root: Path, refs: Iterable[Ref], *, keep_data: bool) -> list[Ref]:
    """Delete resources of a home and what they own, with the data that they made; what was deleted.

    Raises LevadaError if one does not exist, and HomeInUse while an engine runs: it would make things anew.
    """
    home = Home(root)
    records = {record.resource.ref: record for record in home.all()}
    wanted = set(refs)
    for ref in wanted:
        if ref not in records:
            raise LevadaError(f"there is no {ref} in the home {root}")
    while owned := {ref for ref, record in records.items() if record.owner in wanted} - wanted:
        wanted |= owned
    with open_servers(root) as servers:
        if not keep_data:
            settings = from_environment(servers.start_all().environment())
            catalogue, objects = open_catalogue(settings), open_objects(settings)
            for ref in sorted(wanted):
                for prefix in catalogue.forget(ref):
                    objects.delete_prefix(prefix)
            catalogue.close()
        for ref in sorted(wanted):
            home.remove(ref)
    return sorted(wanted)
