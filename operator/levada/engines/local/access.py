"""The stores of a home for commands other than `run`: those of a running engine, or started for the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from levada import names
from levada.engines import decisions
from levada.engines.local.home import Home, Record
from levada.engines.local.outcome import with_owned
from levada.engines.local.servers import LocalServers
from levada.engines.local.stores import Stores
from levada.errors import LevadaError
from levada.names import Kind
from levada.planners import references_of
from levada.planners.plan import Action, Decision
from levada.resources import Ref
from levada.resources.conditions import Reason
from levada.settings import Settings, from_environment
from levada.stores.open import open_catalogue, open_online
from levada.stores.ports import Catalogue, Objects

ACTOR = "levada delete"


def open_servers(root: Path) -> LocalServers:
    """The servers of a home, for the one process that may have it."""
    return LocalServers(root, durable=Settings().local_durable)


def home_of(root: Path) -> Home:
    """The home at a folder; raises LevadaError if there is none."""
    if not (root / "resources").exists():
        raise LevadaError(f"there is no home at {root}: `levada run` makes one, --home names another")
    return Home(root)


@contextmanager
def settings_of(root: Path) -> Iterator[Settings]:
    """Settings that lead to a home's stores."""
    home_of(root)
    running = LocalServers.ask(root)
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
            catalogue.migrate()  # a home in which nothing has run yet has no schema
            yield catalogue
        finally:
            catalogue.close()


@dataclass(frozen=True)
class Deleted:
    """What was deleted, what was not there, and what refers to what is gone and now waits."""

    refs: list[Ref]
    absent: list[Ref]
    waiting: list[tuple[Ref, Ref]]  # a resource, and the deleted one that it refers to


def delete(root: Path, refs: Iterable[Ref], *, keep_data: bool, may_be_absent: bool) -> Deleted:
    """Delete resources of a home and what they own, with the data that they made.

    All or none: raises LevadaError if one belongs to another that would make it anew or, unless it `may_be_absent`,
    does not exist, and HomeInUse while an engine runs. Killed in between, it can be done again.
    """
    asked = set(refs)
    home_of(root)
    with open_servers(root) as servers:
        home = Home(root)
        records = {record.resource.ref: record for record in home.all()}
        absent = sorted(asked - records.keys())
        if absent and not may_be_absent:
            raise LevadaError(f"there is no {absent[0]} in the home {root}")
        _refuse_owned(asked, records)
        wanted = with_owned(asked & records.keys(), records)
        if wanted and (root / "servers" / "postgres").exists():  # else nothing has run yet, so there is no data
            asyncio.run(_forget(home, servers, [records[ref] for ref in sorted(wanted)], keep_data))
        for ref in sorted(wanted):
            home.remove(ref)
    waiting = [
        (ref, other)
        for ref in sorted(records.keys() - wanted)
        for other in sorted(references_of(records[ref].resource) & wanted)
    ]
    return Deleted(sorted(wanted), absent, waiting)


def _refuse_owned(refs: set[Ref], records: Mapping[Ref, Record]) -> None:
    for ref in sorted(refs & records.keys()):
        owner = records[ref].owner
        if owner in records and owner not in refs:
            raise LevadaError(f"{ref} belongs to {owner}, which would make it again: delete {owner}")


async def _forget(home: Home, servers: LocalServers, records: list[Record], keep_data: bool) -> None:
    """Record that resources are deleted, then delete the data that they made."""
    stores = Stores(servers, home.root)
    try:
        catalogue, (objects, environment) = await stores.catalogue(), await stores.for_steps()
        for record in records:
            resource = record.resource
            what = "the resource" if keep_data else "the resource and the data that it made"
            asked = "" if record.owner is None else f", with {record.owner}, to which it belongs"
            decision = Decision(
                Action.DELETED, Reason.DELETED, f"{what} was deleted{asked}", "deleted", {"keepData": keep_data}
            )
            event = decisions.event_of(resource, decision, datetime.now(UTC))
            decisions.record(catalogue, resource, decision, event, ACTOR)
        if not keep_data:
            await _delete_data(home, [record.resource.ref for record in records], catalogue, objects, environment)
    finally:
        await stores.close()


async def _delete_data(
    home: Home, refs: list[Ref], catalogue: Catalogue, objects: Objects, environment: Mapping[str, str]
) -> None:
    for ref in refs:
        catalogue.forget(ref)
        results = [names.step_prefix(ref.namespace, job.name) for job in home.jobs_of(ref)]
        for prefix in (*names.resource_prefixes(ref.kind, ref.namespace, ref.name), *results):
            objects.delete_prefix(prefix)
    online = open_online(from_environment(environment))
    try:
        for ref in refs:
            if ref.kind is Kind.FEATURE_SET:
                await online.forget(ref.namespace, ref.name)
    finally:
        await online.close()
