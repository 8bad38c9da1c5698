"""A connection to NATS that says at once why there is none, and that is kept for as long as it is used after that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import structlog
from nats.aio.client import Client
from nats.errors import Error
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from levada.errors import StoreUnavailable
from levada.settings import Settings
from levada.stores.ports import StoreRefused

log = structlog.get_logger()

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 10
_NAME_IN_USE = 10058  # JetStream's error code


class Connection:
    """Connects when first used. Lost connections are made again for ever; meanwhile what is asked fails in time."""

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        self._servers = url.split(",")
        self._user = user
        self._password = password
        self._client: Client | None = None
        self._lock = asyncio.Lock()
        self._watchers: set[asyncio.Event] = set()
        self.reconnections = 0
        shown = ",".join(urlsplit(server).netloc.rpartition("@")[2] for server in self._servers)
        self.place = f"NATS {shown}"

    async def client(self) -> Client:
        """A client that is connected, or was and tries to be again; raises StoreUnavailable if there is none."""
        async with self._lock:
            if self._client is None or self._client.is_closed:
                self._client = await self._connect()
            return self._client

    async def jetstream(self) -> JetStreamContext:
        """JetStream of that client."""
        return (await self.client()).jetstream(timeout=_ANSWER_SECONDS)

    async def check(self) -> None:
        """Raise StoreUnavailable while a connection that was lost is not made again."""
        if not (await self.client()).is_connected:
            raise StoreUnavailable(f"{self.place} does not answer: the connection was lost")

    async def close(self) -> None:
        if self._client is not None and not self._client.is_closed:
            await self._client.close()
        self._client = None

    @contextmanager
    def wakes(self, event: asyncio.Event) -> Iterator[None]:
        """Within the block, sets an event whenever the connection was made anew (and `reconnections` has grown)."""
        self._watchers.add(event)
        try:
            yield
        finally:
            self._watchers.discard(event)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns errors of nats-py into StoreUnavailable."""
        try:
            yield
        except (Error, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error

    async def _connect(self) -> Client:
        client = Client()
        failures: list[Exception] = []
        failed = asyncio.Event()

        async def on_error(error: Exception) -> None:
            log.debug("NATS", error=str(error) or type(error).__name__)
            if len(failures) < len(self._servers):
                failures.append(error)
            if len(failures) == len(self._servers):
                failed.set()

        async def on_reconnected() -> None:
            log.warning("the connection to NATS was lost and made anew", server=self.place)
            self.reconnections += 1
            for event in self._watchers:
                event.set()

        connecting = asyncio.ensure_future(
            client.connect(
                servers=self._servers,
                user=self._user or None,
                password=self._password or None,
                name="levada",
                error_cb=on_error,
                reconnected_cb=on_reconnected,
                connect_timeout=_CONNECT_SECONDS,
                max_reconnect_attempts=-1,
                reconnect_time_wait=1,
                ping_interval=20,
            )
        )
        # Tried for ever once connected, but a first connection that fails at every server is the caller's to know.
        waiting = asyncio.ensure_future(failed.wait())
        try:
            await asyncio.wait({connecting, waiting}, timeout=2 * _CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done() and connecting.exception() is None:
                return client
            error = connecting.exception() if connecting.done() else None
            raise self._unavailable(error or (failures[0] if failures else TimeoutError("no answer")))
        finally:
            waiting.cancel()
            if not connecting.done():
                connecting.cancel()
                await asyncio.gather(connecting, return_exceptions=True)
                await client.close()

    def _unavailable(self, error: BaseException) -> StoreUnavailable:
        text = str(error).strip() or type(error).__name__
        if "authorization" in text.lower() or "permissions violation" in text.lower():
            return StoreRefused(f"{self.place} refuses this user: {text}")
        if isinstance(error, NoStreamResponseError):
            return StoreUnavailable(f"{self.place} answers, but has no stream for this")
        if isinstance(error, ServiceUnavailableError):
            return StoreUnavailable(f"{self.place} answers, but its JetStream does not")
        if isinstance(error, APIError):
            return StoreUnavailable(f"{self.place} refuses: {error.description or text}")
        return StoreUnavailable(f"{self.place} does not answer: {text}")


async def ensure_stream(jetstream: JetStreamContext, config: api.StreamConfig) -> api.StreamConfig:
    """How a stream is set up; it is made as `config` says if it is not there."""
    assert config.name is not None
    with suppress(NotFoundError):
        return (await jetstream.stream_info(config.name)).config
    try:
        return (await jetstream.add_stream(config)).config
    except APIError as error:
        if error.err_code != _NAME_IN_USE:
            raise
        return (await jetstream.stream_info(config.name)).config  # another made it just now, otherwise


def connection_of(settings: Settings) -> Connection:
    """The connection that the settings name."""
    if not settings.nats_url:
        raise StoreUnavailable("LEVADA_NATS_URL is not set, so there is no NATS")
    return Connection(settings.nats_url, settings.nats_user, settings.nats_password.get_secret_value())
