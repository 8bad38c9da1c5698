"""Reading a KV bucket whole and then its changes, faster than nats-py's watch: without its flow control, whose answers
wait for a timer. What TCP does not hold back is seen as a gap in the consumer's numbers, and the reading ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from levada.errors import StoreUnavailable
from levada.stores.nats.connection import Connection

_LOOK_SECONDS = 30.0  # how often a reading without news looks whether it still is one


class Reading:
    """The last message of every key of a bucket, and what comes after."""

    def __init__(self, connection: Connection, client: Client) -> None:
        self._connection = connection
        self._client = client
        self._reconnections = connection.reconnections
        self._subscription: JetStreamContext.PushSubscription | None = None
        self._empty = False
        self._arrived: list[Msg] = []
        self._news = asyncio.Event()

    @classmethod
    async def begin(cls, connection: Connection, bucket: str) -> Reading:
        """Begin to read; raises StoreUnavailable."""
        with connection.errors():
            reading = cls(connection, await connection.client())
            jetstream = await connection.jetstream()
            reading._subscription = await jetstream.subscribe(
                f"$KV.{bucket}.>",
                stream=f"KV_{bucket}",
                cb=reading._take,
                config=api.ConsumerConfig(
                    ack_policy=api.AckPolicy.NONE, max_deliver=1, mem_storage=True, num_replicas=1
                ),
                deliver_policy=api.DeliverPolicy.LAST_PER_SUBJECT,
                inactive_threshold=300,
            )
            info = await reading._subscription.consumer_info()
        reading._empty = not info.num_pending and not (info.delivered and info.delivered.consumer_seq)
        return reading

    async def batches(self) -> AsyncGenerator[list[Msg] | None]:
        """Messages as they come, and None whenever all that is there was given.

        Ends where reading must begin anew: the connection was lost (perhaps to a server that lost what it had last),
        or messages were.
        """
        received = 0
        with self._connection.wakes(self._news):
            try:
                if self._empty:
                    yield None
                while self._connection.reconnections == self._reconnections and not self._client.is_closed:
                    self._news.clear()
                    if self._arrived:
                        batch, self._arrived = self._arrived, []
                        received += len(batch)
                        last = batch[-1].metadata
                        if last.sequence.consumer != received:
                            return
                        yield batch
                        if last.num_pending == 0:
                            yield None
                    elif not await self._waited() and not await self._goes_on(received):
                        return
            finally:
                await self.end()

    async def end(self) -> None:
        if self._subscription is not None:
            with suppress(ConnectionClosedError):
                await self._subscription.unsubscribe()
            self._subscription = None

    async def _take(self, message: Msg) -> None:
        self._arrived.append(message)
        self._news.set()

    async def _waited(self) -> bool:
        """Whether there were news within a while."""
        try:
            await asyncio.wait_for(self._news.wait(), _LOOK_SECONDS)
        except TimeoutError:
            return False
        return True

    async def _goes_on(self, received: int) -> bool:
        """Whether the server still has the consumer and has sent no more than was received."""
        assert self._subscription is not None
        try:
            with self._connection.errors():
                info = await self._subscription.consumer_info()
        except StoreUnavailable as error:
            return not isinstance(error.__cause__, NotFoundError)
        return info.delivered is None or info.delivered.consumer_seq <= received
