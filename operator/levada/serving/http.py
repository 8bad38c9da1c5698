"""HTTP/1.1 for the scorer: httptools parses, uvloop moves the bytes, and a handler answers in the same call.

Made for many small requests: no task, no queue and no copy per request. What is large is handled in a thread, so that
it blocks neither other requests nor health checks, and large bodies take turns, so that they do not fill the memory.
docs/adr tells why this and not a ready-made server.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Lock
from typing import cast

import httptools
import orjson

INLINE_BYTES = 16 * 1024  # bodies up to this are handled in the event loop
LARGE_BYTES = 1024 * 1024  # bodies beyond this take turns, and say their length beforehand
MOST_HEADER_BYTES = 64 * 1024
MOST_PIPELINED = 64  # requests of one connection that wait for the one before them
IDLE_SECONDS = 75.0  # how long a connection may lie idle
REQUEST_SECONDS = 60.0  # how long a request may take to arrive, and an answer to be read
WAIT_SECONDS = 30.0  # how long a large body may wait for its turn
# How long the turn of a large body lasts while others wait for theirs: one body of 100 MB is over before they give up.
TURN_SECONDS, TURN_BYTES_A_SECOND = 5.0, 8 * 1024 * 1024
LINGER_SECONDS = 2.0  # how long what is still sent is read and thrown away after a refusal

JSON = b"application/json"


@dataclass(slots=True)
class Request:
    """A request that has arrived whole. Header names are in lower case; only those in `KEPT_HEADERS` are there."""

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool
    reserved: int = 0  # bytes of the memory for large bodies, given back when the request has been handled


@dataclass(slots=True)
class Response:
    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


KEPT_HEADERS = frozenset(
    {b"content-length", b"content-encoding", b"expect", b"inference-header-content-length", b"transfer-encoding"}
)
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}

Handler = Callable[[Request], Response]


def json_bytes(headers: dict[bytes, bytes], size: int) -> int:
    """How much of a body of `size` bytes is JSON: all, unless a header says where binary tensors begin."""
    length = headers.get(b"inference-header-content-length", b"")
    return min(int(length), size) if length.isdigit() and len(length) < 18 else size


def error(status: int, message: str) -> Response:
    """`{"error": message}`."""
    return Response(status, orjson.dumps({"error": message}))


@dataclass
class ServerState:
    """What all connections of a server share."""

    handler: Handler
    most_body_bytes: int
    most_json_bytes: int  # of a body
    pool: ThreadPoolExecutor
    connections: set[Connection] = field(default_factory=set)
    free_bytes: int = 0  # of the memory for large bodies
    waiting: deque[Connection] = field(default_factory=deque)  # for such memory
    closing: bool = False  # every response is the last of its connection
    head: bytes = b"\r\n"  # the headers that every response begins with, after its status
    much_json: Lock = field(default_factory=Lock)

    def handle_much_json(self, request: Request) -> Response:
        """The answer to a request whose JSON is large: it can take forty times its size as objects.

        One at a time, as they would fill the memory together, and as no parser lets another thread run anyway. Garbage
        is not collected meanwhile: each collection would look through all that has been parsed so far.
        """
        with self.much_json:
            gc.disable()
            try:
                return self.handler(request)
            finally:
                gc.enable()

    def give_back(self, reserved: int) -> None:
        """Free memory for large bodies, and let connections read theirs as far as there is room."""
        self.free_bytes += reserved
        while self.waiting and self.waiting[0].reserve():
            self.waiting.popleft().proceed()


class Connection(asyncio.Protocol):
    """A connection: requests are answered in their order, one at a time."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._queue: deque[Request | Response] = deque()
        self._busy = False
        self._writable = True
        self._refused = False  # nothing more is parsed; what still comes is thrown away
        self._reserved = 0
        self._wanted = 0  # bytes that this connection waits for
        self._unread = 0  # bytes of answers that its client had not read when that was last looked at
        self.quiet_since = time.monotonic()
        self.receiving = False
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    # --- asyncio ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._state.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        if self in self._state.waiting:
            self._state.waiting.remove(self)
        given_back = self._reserved + sum(one.reserved for one in self._queue if isinstance(one, Request))
        self._reserved = 0
        self._queue.clear()
        self._state.give_back(given_back)  # what is being handled gives its own back afterwards

    def data_received(self, data: bytes | memoryview) -> None:
        while not self._refused:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._parser.get_method() == b"CONNECT":
                    self._refused = True  # it was answered, with the end of the connection
                    return
                self._stay_with_http1()
                data = memoryview(data)[upgrade.args[0] :]
                continue
            except httptools.HttpParserError as problem:
                if not self._refused:
                    self._refuse(400, f"the request is not valid HTTP/1.1 ({_cause(problem)})")
            return

    def _stay_with_http1(self) -> None:
        """Read the head of a request that asked for another protocol once more, without that."""
        head = b"%b %b HTTP/1.1\r\n" % (self._parser.get_method(), self._target)
        head += b"".join(b"%b: %b\r\n" % header for header in self._headers.items())
        self._parser = httptools.HttpRequestParser(self)
        self._reset()
        self.data_received(head + b"\r\n")

    def _asks_for_another_protocol(self) -> bool:
        return self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT"

    def eof_received(self) -> None:
        return None  # closes the transport

    def pause_writing(self) -> None:
        self._writable = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable = True
        self.quiet_since = time.monotonic()
        self.resume_reading()

    def resume_reading(self) -> None:
        """Read on, unless there is a reason not to."""
        if self._writable and not self._wanted and not self._much_is_queued():
            self._transport.resume_reading()

    def _much_is_queued(self) -> bool:
        """Whether enough waits for its answer: requests, or bodies for which no memory has been reserved."""
        unreserved = sum(len(one.body) for one in self._queue if isinstance(one, Request) and not one.reserved)
        return len(self._queue) >= MOST_PIPELINED or unreserved > LARGE_BYTES

    # --- httptools -------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.receiving = True
        self.quiet_since = time.monotonic()

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        name = name.lower()
        if name in KEPT_HEADERS:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self._refused or self._asks_for_another_protocol():
            return
        length = self._headers.get(b"content-length")
        if length is None:
            return
        size = int(length) if length.isdigit() else 0  # httptools refuses what is not a number
        if size > self._state.most_body_bytes:
            self._too_large()
        elif size > LARGE_BYTES and json_bytes(self._headers, size) > self._state.most_json_bytes:
            self._too_much_json()
        elif size > LARGE_BYTES:
            self._wanted = size
            if self._state.waiting or not self.reserve():
                self._state.waiting.append(self)
                self.quiet_since = time.monotonic()
                self._transport.pause_reading()
                return
        if b"expect" in self._headers and not self._refused:
            self.proceed()

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._state.most_body_bytes:
            self._too_large()
        elif self._body_bytes > LARGE_BYTES and b"content-length" not in self._headers:
            self._refuse(411, f"a body of more than {LARGE_BYTES} bytes needs a Content-Length header")
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._refused or self._asks_for_another_protocol():
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        keep_alive = (
            self._parser.should_keep_alive()
            and self._parser.get_http_version() == "1.1"
            and not self._parser.should_upgrade()
        )
        request = Request(self._parser.get_method(), self._target, self._headers, body, keep_alive)
        if self._reserved and body:  # a CONNECT has none, whatever length it gives
            request.reserved, self._reserved = self._reserved, 0
        self._reset()
        self.receiving = False
        if self._busy:
            self._queue.append(request)
            if self._much_is_queued():
                self._transport.pause_reading()
        else:
            self._handle(request)

    # --- answers ---------------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> None:
        if len(request.body) <= INLINE_BYTES:
            self._answer(self._state.handler(request), request.keep_alive, request.method == b"HEAD")
            return
        self._busy = True
        much_json = json_bytes(request.headers, len(request.body)) > LARGE_BYTES
        handler = self._state.handle_much_json if much_json else self._state.handler
        future = asyncio.get_running_loop().run_in_executor(self._state.pool, handler, request)
        future.add_done_callback(lambda done: self._handled(request, done))

    def _handled(self, request: Request, done: asyncio.Future[Response]) -> None:
        self._busy = False
        self._state.give_back(request.reserved)
        if done.cancelled() or self._transport.is_closing():
            return
        self._answer(done.result(), request.keep_alive, request.method == b"HEAD")
        while self._queue and not self._busy and not self._transport.is_closing():
            waiting = self._queue.popleft()
            if isinstance(waiting, Request):
                self._handle(waiting)
            else:
                self._last_answer(waiting)
        self.resume_reading()

    def _answer(self, response: Response, keep_alive: bool, head: bool) -> None:
        parts = [b"HTTP/1.1 %d %b%b" % (response.status, _REASONS[response.status], self._state.head)]
        parts.append(b"content-type: %b\r\ncontent-length: %d\r\n" % (response.content_type, len(response.body)))
        parts += [b"%b: %b\r\n" % header for header in response.headers]
        last = not keep_alive or self._state.closing
        parts.append(b"connection: close\r\n\r\n" if last else b"\r\n")
        if not head:
            parts.append(response.body)
        self._transport.write(b"".join(parts))
        self.quiet_since = time.monotonic()
        if last:
            self._refused = True
            self._transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answer (after what was asked before) without reading on, and end the connection."""
        self._refused = True
        self._body.clear()
        self._wanted = 0
        given_back, self._reserved = self._reserved, 0
        self._state.give_back(given_back)
        response = error(status, message)
        if self._busy:
            self._queue.append(response)
        else:
            self._last_answer(response)

    def _last_answer(self, response: Response) -> None:
        """Answer, and go on reading for a moment: a connection that is cut at once can lose the answer on its way."""
        self._refused = True
        head = b"HTTP/1.1 %d %b%b" % (response.status, _REASONS[response.status], self._state.head)
        self._transport.write(
            b"%bcontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (head, response.content_type, len(response.body), response.body)
        )
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self.receiving = False
        self.quiet_since = time.monotonic()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.close)

    def _too_large(self) -> None:
        limit = self._state.most_body_bytes
        self._refuse(
            413, f"the body is larger than the {limit} bytes that are taken; send the rows in several requests"
        )

    def _too_much_json(self) -> None:
        limit = self._state.most_json_bytes
        self._refuse(
            413,
            f"the JSON of the body is larger than the {limit} bytes that are taken; send binary tensors over v2, or "
            "the rows in several requests",
        )

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MOST_HEADER_BYTES and not self._refused:
            self._refuse(431, f"the headers are larger than {MOST_HEADER_BYTES} bytes; send smaller ones")

    # --- memory for large bodies -----------------------------------------------------------------------------------

    def reserve(self) -> bool:
        """Take memory for the body that this connection wants to read; False if there is too little now."""
        if self._state.free_bytes < self._wanted:
            return False
        self._state.free_bytes -= self._wanted
        self._reserved, self._wanted = self._wanted, 0
        return True

    def proceed(self) -> None:
        """Read the body whose header has come."""
        self.quiet_since = time.monotonic()
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.resume_reading()

    # --- the server's ----------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not (self._busy or self._queue or self.receiving)

    def close(self) -> None:
        self._transport.close()

    def end_if_late(self, now: float) -> None:
        """End a connection that lies idle, or whose request or answer takes too long."""
        unread = self._transport.get_write_buffer_size()
        if unread < self._unread:  # its client reads, if slowly
            self.quiet_since = now
        self._unread = unread
        quiet = now - self.quiet_since
        if self._transport.is_closing() or not self._writable:
            if quiet > REQUEST_SECONDS:
                self._transport.abort()  # its client does not read: what is left to be sent never will be
        elif self._busy or self._refused:
            return
        elif self._wanted:
            if quiet > WAIT_SECONDS:
                self._state.waiting.remove(self)
                self._refuse(503, "other large requests are under way; send fewer rows at once, or try again later")
        elif self.receiving:
            if quiet > REQUEST_SECONDS:
                self._refuse(408, f"the request did not arrive within {REQUEST_SECONDS:.0f} seconds; send it again")
            elif self._state.waiting and self._reserved and quiet > self._turn_seconds():
                self._refuse(
                    408,
                    f"the body did not arrive within {self._turn_seconds():.0f} seconds while others waited for "
                    "their turn; send fewer rows at once",
                )
        elif quiet > IDLE_SECONDS:
            self._transport.close()

    def _turn_seconds(self) -> float:
        return TURN_SECONDS + self._reserved / TURN_BYTES_A_SECOND


def _cause(problem: Exception) -> str:
    return str(problem).strip().rstrip(".") or type(problem).__name__
