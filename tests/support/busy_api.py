"""An API server under load and contention: an HTTP relay to the real one that lets some requests fail.

What fails is drawn from decks of cards, one deck for each kind of request, shuffled by a seed: so every kind meets
every fault whatever the order in which requests come, and none fails for ever.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from itertools import chain
from typing import NamedTuple

from aiohttp import ClientResponse, ClientSession, TCPConnector, web

from tests.support.apiserver import ApiServer

WATCH_SECONDS = "1"  # how long a watch lives here, so that many are opened
_HOP = {"host", "connection", "keep-alive", "transfer-encoding", "content-length"}


class Card(Enum):
    """What becomes of a request."""

    PASS = "passed on"
    BUSY = "429"
    BUSY_FOR_A_SECOND = "429 with Retry-After"
    CONTENDED = "409, nothing written"  # as a quota answers that others are charging as well
    TWICE = "sent twice, the second answer"  # as after an answer that got lost: 409 wherever a write cannot be repeated


READS = [*(Card.PASS,) * 4, Card.BUSY, Card.BUSY_FOR_A_SECOND]
WRITES = [*READS, Card.CONTENDED, Card.TWICE]


class Kind(NamedTuple):
    """Requests that are of one kind."""

    verb: str  # get, watch, post, put, patch, delete
    what: str  # a plural, `/status` with it; empty for what is not about resources


class Write(NamedTuple):
    """A write that the API server has accepted."""

    kind: Kind
    path: str
    body: bytes


class BusyApi:
    """Passes requests on to an API server, or not, until the block ends.

    `first`: cards that lie on top of decks. `drawn`: how often which card met which kind of request. `accepted`: writes
    that the API server has carried out.
    """

    def __init__(self, api: ApiServer, seed: int, first: dict[Kind, list[Card]]) -> None:
        self._api = api
        self._seed = seed
        self._first = first
        self._decks: dict[Kind, Iterator[Card]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="busy-api")
        self.url = ""
        self.drawn: Counter[tuple[Kind, Card]] = Counter()
        self.accepted: list[Write] = []

    def __enter__(self) -> BusyApi:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        context = ssl.create_default_context(cafile=str(self._api.ca))
        self._session = ClientSession(
            self._api.url, connector=TCPConnector(ssl=context, limit=0), auto_decompress=False
        )
        server = web.Server(self._answer)
        self._runner = web.ServerRunner(server, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        kind = _kind_of(request)
        if kind not in self._decks:
            cards = READS if kind.verb in _READING else WRITES
            self._decks[kind] = chain(self._first.get(kind, ()), _shuffled(cards, f"{self._seed} {kind}"))
        card = next(self._decks[kind])
        self.drawn[kind, card] += 1
        body = await request.read()
        if card is Card.BUSY:
            return _failure(429, "TooManyRequests", "too many requests, try again later")
        if card is Card.BUSY_FOR_A_SECOND:
            return _failure(429, "TooManyRequests", "too many requests, try again later", {"Retry-After": "1"})
        if card is Card.CONTENDED:
            return _failure(409, "Conflict", "the object has been modified; apply your changes to the latest version")
        if card is Card.TWICE:
            async with self._ask(request, kind, body) as lost:
                await lost.read()
        async with self._ask(request, kind, body) as response:
            answer = web.StreamResponse(status=response.status, headers=_end_to_end(response.headers))
            await answer.prepare(request)
            async for chunk in response.content.iter_any():
                await answer.write(chunk)
            await answer.write_eof()
        return answer

    @asynccontextmanager
    async def _ask(self, request: web.BaseRequest, kind: Kind, body: bytes) -> AsyncIterator[ClientResponse]:
        """What the API server says to a request."""
        url = request.rel_url.update_query(timeoutSeconds=WATCH_SECONDS) if kind.verb == "watch" else request.rel_url
        headers = _end_to_end(request.headers)
        async with self._session.request(request.method, url, headers=headers, data=body or None) as response:
            if kind.verb not in _READING and response.status < 300:
                self.accepted.append(Write(kind, request.path, body))
            yield response


_READING = ("get", "watch")


def _kind_of(request: web.BaseRequest) -> Kind:
    _, _, place = request.path.partition("/namespaces/")
    _, what, _, part, *_ = (*place.split("/"), "", "", "", "")
    verb = "watch" if request.rel_url.query.get("watch") else request.method.lower()
    return Kind(verb, f"{what}/{part}" if part else what)


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.lower() not in _HOP}


def _shuffled(cards: list[Card], seed: str) -> Iterator[Card]:
    dice = random.Random(seed)
    while True:
        yield from dice.sample(cards, len(cards))


def _failure(status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status}
    text = json.dumps({**document, "reason": reason, "message": message})
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)
