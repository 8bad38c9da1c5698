"""The real servers, started when a test first asks for one: a set for each xdist worker, thrown away with it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import nats
import psycopg
import pytest
from minio import Minio

from levada.engines.local.servers import Endpoints, LocalServers, NatsEndpoint, S3Endpoint

_numbers = count(1)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def servers() -> Iterator[LocalServers]:
    """The servers of this worker. Tests ask for `postgres`, `bus` or `bucket` instead, which are theirs alone."""
    with (
        tempfile.TemporaryDirectory(prefix="levada-tests-") as home,
        LocalServers(Path(home), durable=False) as running,
    ):
        yield running


@pytest.fixture
def postgres(servers: LocalServers) -> Iterator[str]:
    """The DSN of an empty database of the test's own."""
    server = servers.postgres()
    with psycopg.connect(server, autocommit=True) as connection:
        name = f"test{next(_numbers)}"
        connection.execute(f"create database {name}")
        yield f"{server.rpartition('/')[0]}/{name}"
        connection.execute(f"drop database {name} with (force)")


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
def endpoints(postgres: str, bus: NatsEndpoint, bucket: S3Endpoint) -> Endpoints:
    """All three."""
    return Endpoints(postgres, bus, bucket)


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
