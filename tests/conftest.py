"""The real servers, started when a test first asks for one: a set for each xdist worker, thrown away with it."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import nats
import psycopg
import pytest
from minio import Minio
from pydantic import SecretStr

from levada.engines.local.servers import Endpoints, LocalServers, NatsEndpoint, S3Endpoint
from levada.settings import Settings
from levada.stores.open import open_catalogue

LONGEST_NAME = 120  # of a parameter, in a test's name

_numbers = count(1)


def pytest_configure() -> None:
    """What runs in the background of a shell ignores Ctrl-C, and so would every command that a test starts and ends."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long values are no names: workers must agree on those, and compressed bytes hold the time."""
    return argname if isinstance(val, str | bytes) and len(val) > LONGEST_NAME else None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def servers() -> Iterator[LocalServers]:
    """The servers of this worker. Tests ask for what is theirs alone: `settings`, or `postgres`, `bus`, `bucket`."""
    with (
        tempfile.TemporaryDirectory(prefix="levada-tests-") as home,
        LocalServers(Path(home), durable=False) as running,
    ):
        yield running


@pytest.fixture
def postgres(servers: LocalServers) -> Iterator[str]:
    """The DSN of an empty database of the test's own."""
    with _fresh_database(servers.postgres(), "template1") as dsn:
        yield dsn


@pytest.fixture(scope="session")
def _catalogue_template(servers: LocalServers) -> str:
    """The name of a database with the catalogue's schema, to copy."""
    server = servers.postgres()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("create database catalogue")
    catalogue = open_catalogue(Settings(postgres_dsn=SecretStr(f"{server.rpartition('/')[0]}/catalogue")))
    catalogue.migrate()
    catalogue.close()
    return "catalogue"


@pytest.fixture
def catalogue_dsn(servers: LocalServers, _catalogue_template: str) -> Iterator[str]:
    """The DSN of a database of the test's own, with the catalogue's schema and no rows."""
    with _fresh_database(servers.postgres(), _catalogue_template) as dsn:
        yield dsn


@pytest.fixture
def bus(servers: LocalServers) -> Iterator[NatsEndpoint]:
    """NATS without any stream or bucket."""
    endpoint = servers.nats()
    yield endpoint
    asyncio.run(_delete_streams(endpoint))


@pytest.fixture
def bucket(servers: LocalServers) -> S3Endpoint:
    """An empty bucket of the test's own."""
    endpoint = replace(servers.objects(), bucket=f"test{next(_numbers)}")
    s3_client(endpoint).make_bucket(endpoint.bucket)
    return endpoint


@pytest.fixture
def endpoints(catalogue_dsn: str, bus: NatsEndpoint, bucket: S3Endpoint) -> Endpoints:
    """All three, the catalogue with its schema."""
    return Endpoints(catalogue_dsn, bus, bucket)


@pytest.fixture
def settings(endpoints: Endpoints) -> Settings:
    """Settings that name `endpoints`."""
    fields = {name.removeprefix("LEVADA_").lower(): value for name, value in endpoints.environment().items()}
    return Settings.model_validate(fields)


@contextmanager
def _fresh_database(server: str, template: str) -> Iterator[str]:
    name = f"test{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}")
        yield f"{server.rpartition('/')[0]}/{name}"
        connection.execute(f"drop database {name} with (force)")


def s3_client(endpoint: S3Endpoint) -> Minio:
    """A plain client, for what Levada's own adapter does not do."""
    return Minio(
        endpoint.endpoint.removeprefix("http://"),
        access_key=endpoint.access_key,
        secret_key=endpoint.secret_key,
        secure=False,
        region=endpoint.region,
    )


async def _delete_streams(endpoint: NatsEndpoint) -> None:
    connection = await nats.connect(endpoint.url, user=endpoint.user, password=endpoint.password)
    jetstream = connection.jetstream()
    for stream in await jetstream.streams_info():
        await jetstream.delete_stream(stream.config.name or "")
    await connection.close()
