"""The adapters over the real servers."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from levada.engines.local.servers import NatsEndpoint, S3Endpoint
from levada.stores.nats import NatsBus, NatsOnlineFeatures
from levada.stores.nats.connection import Connection
from levada.stores.objects import S3Objects
from levada.stores.postgres import PostgresCatalogue


@pytest.fixture
def objects(bucket: S3Endpoint) -> S3Objects:
    return s3_objects(bucket)


@pytest.fixture
def empty_catalogue(postgres: str) -> Iterator[PostgresCatalogue]:
    """Without any table."""
    catalogue = PostgresCatalogue(postgres)
    yield catalogue
    catalogue.close()


@pytest.fixture
def catalogue(empty_catalogue: PostgresCatalogue) -> PostgresCatalogue:
    empty_catalogue.migrate()
    return empty_catalogue


@pytest.fixture
async def event_bus(bus: NatsEndpoint) -> AsyncIterator[NatsBus]:
    adapter = NatsBus(connection(bus))
    yield adapter
    await adapter.close()


@pytest.fixture
async def online(bus: NatsEndpoint) -> AsyncIterator[NatsOnlineFeatures]:
    adapter = NatsOnlineFeatures(connection(bus))
    yield adapter
    await adapter.close()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of loopback that refuses connections for as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def s3_objects(endpoint: S3Endpoint, *, secret_key: str = "", retries: int = 0) -> S3Objects:
    return S3Objects(
        endpoint.bucket,
        endpoint=endpoint.endpoint,
        access_key=endpoint.access_key,
        secret_key=secret_key or endpoint.secret_key,
        retries=retries,
    )


def connection(endpoint: NatsEndpoint) -> Connection:
    return Connection(endpoint.url, endpoint.user, endpoint.password)
