"""Whether what an operator stands on is there and lets it in: the API server with Levada's kinds, and the stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import stamina
from kubernetes import client, config

from levada.engines.kubernetes.cluster import Cluster, Missing, Refused, Unavailable
from levada.errors import LevadaError, StoreUnavailable
from levada.names import Kind
from levada.settings import Settings
from levada.stores.nats.connection import connection_of
from levada.stores.open import ensure_bucket
from levada.stores.postgres.connection import Database

Check = Callable[[], None]
"""Raises a LevadaError that says what is wrong."""


def checks(settings: Settings, namespaces: tuple[str, ...]) -> dict[str, Check]:
    """Each thing that is looked at, by the name of it. Nothing is written but the bucket, as the operator makes it."""
    return {
        "API server": lambda: _kinds(namespaces),
        "object store": lambda: _objects(settings),
        "catalogue": lambda: _catalogue(settings),
        "bus": lambda: asyncio.run(_bus(settings)),
    }


def problem_of(check: Check, wait: float = 0) -> str | None:
    """What is wrong, in one sentence; None if nothing is. Looks again for `wait` seconds."""
    again = {"attempts": None, "timeout": wait} if wait else {"attempts": 1}
    try:
        stamina.retry(on=(StoreUnavailable, Unavailable, Missing, Refused), wait_max=2.0, **again)(check)()
    except LevadaError as error:
        return str(error)
    return None


def _kinds(namespaces: tuple[str, ...]) -> None:
    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config()
        except config.ConfigException as error:
            raise Refused("there is no kubeconfig, and this is no pod: set KUBECONFIG") from error
    cluster = Cluster(client.ApiClient(), namespaces)
    for kind in Kind:
        next(cluster.resources(kind), None)


def _objects(settings: Settings) -> None:
    ensure_bucket(settings)


def _catalogue(settings: Settings) -> None:
    dsn = settings.postgres_dsn.get_secret_value()
    if not dsn:
        raise StoreUnavailable("LEVADA_POSTGRES_DSN is not set, so there is no catalogue")
    database = Database(dsn, connections=1)
    try:
        with database.connection() as connection:
            connection.execute("select 1")
    finally:
        database.close()


async def _bus(settings: Settings) -> None:
    connection = connection_of(settings)
    try:
        with connection.errors():
            await (await connection.jetstream()).account_info()
    finally:
        await connection.close()
