"""HTTP/1.1 as clients speak it, well and badly, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock

import pytest
import uvloop

from levada.serving import http
from levada.serving import server as server_module
from levada.serving.http import Connection, Request, Response
from levada.serving.server import Server
from tests.support.waiting import until

LIMIT = 8 * 1024 * 1024
WAIT = 30.0  # seconds; a guard, not a measurement


@dataclass
class Running:
    """A server whose handler answers with what it was asked; bodies that begin with `wait` wait for `release`.

    `/much` is answered with more than fits between server and client.
    """

    port: int
    server: Server
    loop: asyncio.AbstractEventLoop
    release: threading.Event
    handling: threading.Semaphore

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), WAIT)

    @property
    def free(self) -> int:
        """Memory for large bodies that nobody holds."""
        return self.server._state.free_bytes

    @property
    def connections(self) -> int:
        return len(self.server._state.connections)

    def stop(self) -> Any:
        return asyncio.run_coroutine_threadsafe(self.server.stop(WAIT), self.loop)


@contextmanager
def running(limit: int = LIMIT, most_json: int = LIMIT) -> Iterator[Running]:
    release, handling, started, ended = threading.Event(), threading.Semaphore(0), threading.Event(), threading.Event()
    found: list[Running] = []

    def handle(request: Request) -> Response:
        if request.body.startswith(b"wait"):
            handling.release()
            assert release.wait(WAIT)
        if request.target == b"/much":
            return Response(200, b"x" * 64 * 1024 * 1024)
        shown = {
            "method": request.method.decode(),
            "target": request.target.decode(),
            "bytes": len(request.body),
            "start": request.body[:8].decode(),
            "collecting": gc.isenabled(),
            "headers": {k.decode(): v.decode() for k, v in request.headers.items()},
        }
        return Response(200, json.dumps(shown).encode())

    async def serve() -> None:
        server = Server(handle, limit, most_json)
        port = await server.start("127.0.0.1", 0)
        found.append(Running(port, server, asyncio.get_running_loop(), release, handling))
        started.set()
        await asyncio.to_thread(ended.wait)
        await server.stop(1)

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    assert started.wait(WAIT)
    try:
        yield found[0]
    finally:
        release.set()
        ended.set()
        thread.join(WAIT)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as one:
        yield one


def answers(connection: socket.socket, count: int) -> list[tuple[int, dict[str, str], Any]]:
    """Status, headers and document of the next answers."""
    found: list[tuple[int, dict[str, str], Any]] = []
    with connection.makefile("rb") as stream:
        while len(found) < count:
            line = stream.readline()
            assert line, f"the connection ended after {len(found)} answers"
            status = int(line.split()[1])
            headers = {}
            while (header := stream.readline().strip()) != b"":
                name, _, value = header.partition(b": ")
                headers[name.decode()] = value.decode()
            body = stream.read(int(headers.get("content-length", "0")))
            found.append((status, headers, json.loads(body) if body else None))
    return found


def exchange(server: Running, *data: bytes, count: int = 1) -> list[tuple[int, dict[str, str], Any]]:
    with server.connect() as connection:
        for part in data:
            connection.sendall(part)
        return answers(connection, count)


def post(body: bytes, target: str = "/a", extra: str = "") -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def test_score7_requests_on_one_connection_are_answered_in_order(server: Running) -> None:
    found = exchange(
        server, post(b"1", "/first") + b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n" + post(b"3", "/third"), count=3
    )
    assert [document["target"] for _, _, document in found] == ["/first", "/second", "/third"]
    assert [document["method"] for _, _, document in found] == ["POST", "GET", "POST"]
    assert all(headers["content-type"] == "application/json" and headers["date"] for _, headers, _ in found)
    assert all("connection" not in headers for _, headers, _ in found)


def test_score7_order_is_kept_behind_a_request_in_a_thread(server: Running) -> None:
    large = b"x" * (http.INLINE_BYTES + 1)
    found = exchange(server, post(large, "/large") + post(b"2", "/small") + post(large, "/large2"), count=3)
    assert [document["target"] for _, _, document in found] == ["/large", "/small", "/large2"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_score7_a_request_may_arrive_in_pieces(server: Running, size: int) -> None:
    data = post(b"y" * 2500, "/pieces?a=b", "Inference-Header-Content-Length: 12\r\nX-Other: 1\r\n")
    ((status, _, document),) = exchange(server, *[data[i : i + size] for i in range(0, len(data), size)])
    assert (status, document["bytes"], document["target"]) == (200, 2500, "/pieces?a=b")
    assert document["headers"] == {"content-length": "2500", "inference-header-content-length": "12"}


def test_score7_a_chunked_body_is_taken(server: Running) -> None:
    head = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    ((status, _, document),) = exchange(server, head, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert (status, document["start"]) == (200, "abcde")


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_score7_a_connection_is_closed_where_the_client_wants_it(server: Running, request_line: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(request_line)
        ((status, headers, _),) = answers(connection, 1)
        assert (status, headers["connection"]) == (200, "close")
        assert connection.recv(1) == b""


@pytest.mark.parametrize("size", [0, 5, 2_000_000])
def test_score7_a_client_that_would_speak_another_protocol_is_answered_in_this_one(server: Running, size: int) -> None:
    asking = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    found = exchange(server, post(b"y" * size, "/up?a=b", asking) + post(b"z", "/next"), count=2)
    assert [(status, document["target"], document["bytes"]) for status, _, document in found] == [
        (200, "/up?a=b", size),
        (200, "/next", 1),
    ]


def test_score7_many_such_wishes_at_once_are_answered(server: Running) -> None:
    wish = b"GET /u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert {status for status, _, _ in exchange(server, wish * 2000, count=2000)} == {200}


def test_score7_a_chunked_body_behind_such_a_wish_is_taken(server: Running) -> None:
    head = b"POST /c HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n"
    ((status, _, document),) = exchange(server, head, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert (status, document["start"]) == (200, "abcde")


def test_score7_head_has_no_body(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data = b""
        while part := connection.recv(65536):
            data += part
        assert data.endswith(b"\r\n\r\n")
        assert b"content-length: " in data


def test_score7_a_client_that_asks_first_is_told_to_go_on(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        ((status, _, document),) = answers(connection, 1)
        assert (status, document["bytes"]) == (200, 3)


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        (b"nonsense\r\n\r\n", 400, "the request is not valid HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "the request is not valid HTTP/1.1"),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "the request is not valid",
        ),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "the request is not valid HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * http.MOST_HEADER_BYTES + b"\r\n\r\n", 431, "the headers are larger than"),
        (b"GET /" + b"y" * http.MOST_HEADER_BYTES, 431, "the headers are larger than"),
        (f"POST / HTTP/1.1\r\nContent-Length: {LIMIT + 1}\r\n\r\n".encode(), 413, "the body is larger than"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400, "the request is not valid HTTP/1.1"),
    ],
)
def test_score2_bad_http_gets_one_sentence_and_the_end(
    server: Running, data: bytes, status: int, sentence: str
) -> None:
    with server.connect() as connection:
        connection.sendall(data)
        ((found, headers, document),) = answers(connection, 1)
        assert (found, headers["connection"]) == (status, "close")
        assert document["error"].startswith(sentence)
        assert connection.recv(1) == b""
    assert exchange(server, post(b"next"))[0][0] == 200


def test_score2_a_body_that_is_too_large_is_refused_before_it_has_come(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {100 * LIMIT}\r\n\r\n".encode())
        ((status, _, document),) = answers(connection, 1)
        assert (status, document["error"]) == (
            413,
            f"the body is larger than the {LIMIT} bytes that are taken; send the rows in several requests",
        )


def test_score2_a_client_that_sends_all_of_a_large_body_first_still_reads_the_refusal(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LIMIT + 1}\r\n\r\n".encode())
        connection.sendall(b"x" * (LIMIT + 1))
        assert answers(connection, 1)[0][0] == 413


def test_score2_a_large_body_of_unknown_length_is_refused(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        connection.sendall(chunk * (http.LARGE_BYTES // 65536 + 1))
        ((status, _, document),) = answers(connection, 1)
        assert (status, document["error"]) == (411, "a body of more than 1048576 bytes needs a Content-Length header")


def test_score2_large_bodies_take_turns_and_small_ones_do_not_wait_for_them() -> None:
    with running() as server, server.connect() as first, server.connect() as second, server.connect() as third:
        body = b"wait" + b"x" * (LIMIT - 4)
        first.sendall(post(body))
        assert server.handling.acquire(timeout=WAIT)
        sent = threading.Thread(target=lambda: second.sendall(post(body, "/b")))
        sent.start()
        third.sendall(post(b"small"))
        assert answers(third, 1)[0][2]["bytes"] == 5
        assert not server.handling.acquire(blocking=False)
        server.release.set()
        assert answers(first, 1)[0][2]["bytes"] == LIMIT
        assert answers(second, 1)[0][2]["target"] == "/b"
        sent.join(WAIT)


def test_score2_memory_for_a_large_body_is_given_back_when_its_client_goes_away() -> None:
    with running() as server:
        for _ in range(3):
            with server.connect() as gone:
                gone.sendall(post(b"x" * LIMIT)[:-1000])
        ((status, _, document),) = exchange(server, post(b"x" * LIMIT))
        assert (status, document["bytes"]) == (200, LIMIT)


def test_score2_memory_for_large_bodies_is_given_back_by_each_request_for_itself() -> None:
    """A request behind another one on the same connection keeps what it has reserved."""
    first, second = LIMIT // 2, LIMIT // 4
    with running() as server, server.connect() as connection:
        connection.sendall(post(b"wait" + b"x" * (first - 4)) + post(b"y" * second)[:-1])
        until(lambda: server.free == LIMIT - first - second, seconds=WAIT)
        server.release.set()
        assert answers(connection, 1)[0][2]["bytes"] == first
        assert server.free == LIMIT - second
        connection.sendall(b"y")
        assert answers(connection, 1)[0][2]["bytes"] == second
        assert server.free == LIMIT


def test_score2_memory_of_large_requests_that_wait_is_given_back_when_their_client_goes_away() -> None:
    part = LIMIT // 4
    with running() as server:
        with server.connect() as gone:
            gone.sendall(post(b"wait" + b"x" * (part - 4)) + post(b"y" * part) + post(b"z" * part)[:-1])
            until(lambda: server.free == LIMIT - 3 * part, seconds=WAIT)
            assert server.handling.acquire(timeout=WAIT)
        until(lambda: server.free == LIMIT - part, seconds=WAIT)
        server.release.set()
        until(lambda: server.free == LIMIT, seconds=WAIT)


def test_score2_a_method_that_has_no_body_holds_no_memory_for_one(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(f"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: {LIMIT}\r\n\r\n".encode())
        ((status, headers, _),) = answers(connection, 1)
        assert (status, headers["connection"]) == (200, "close")
        assert connection.recv(1) == b""
    until(lambda: server.free == LIMIT, seconds=WAIT)


def test_score2_a_refused_request_does_not_wait_for_a_turn() -> None:
    refused = f"Content-Length: {LIMIT}\r\nExpect: 100-continue\r\nX: {'y' * http.MOST_HEADER_BYTES}"
    with running() as server, server.connect() as first:
        first.sendall(post(b"wait" + b"x" * (LIMIT - 4)))
        assert server.handling.acquire(timeout=WAIT)
        assert exchange(server, f"POST / HTTP/1.1\r\nHost: a\r\n{refused}\r\n\r\n".encode())[0][0] == 431
        server.release.set()
        assert answers(first, 1)[0][0] == 200


def test_score2_what_is_queued_behind_a_request_stays_small() -> None:
    body = b"z" * (http.LARGE_BYTES // 2)
    with running() as server, server.connect() as connection:
        sender = threading.Thread(target=connection.sendall, args=[post(b"wait") + post(body) * 40], daemon=True)
        connection.sendall(post(b"wait" + b"x" * http.INLINE_BYTES))
        assert server.handling.acquire(timeout=WAIT)
        sender.start()
        (one,) = server.server._state.connections
        until(lambda: one._much_is_queued(), seconds=WAIT)
        assert len(one._queue) < 8  # what had come when reading stopped
        server.release.set()
        assert len(answers(connection, 42)) == 42
        sender.join(WAIT)


def test_score7_a_client_that_reads_its_answer_slowly_is_not_cut_off() -> None:
    transport = Mock(is_closing=lambda: False)
    connection = Connection(Mock())
    connection.connection_made(transport)
    connection.pause_writing()
    connection.resume_writing()
    connection.quiet_since -= 10 * http.REQUEST_SECONDS
    connection.resume_writing()  # what has just been read counts, however long ago the answer began
    began = connection.quiet_since
    assert began > time.monotonic() - http.REQUEST_SECONDS
    connection.pause_writing()
    for second, left in enumerate((9, 8, 7, 7)):
        transport.get_write_buffer_size.return_value = left
        connection.end_if_late(began + (second + 1) * http.REQUEST_SECONDS / 2)
    assert not transport.abort.called
    connection.end_if_late(began + 10 * http.REQUEST_SECONDS)
    assert transport.abort.called


def test_score2_a_large_body_that_comes_slowly_loses_its_turn_when_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HOUSEKEEPING_SECONDS", 0.05)
    monkeypatch.setattr(http, "TURN_SECONDS", -1.0)
    monkeypatch.setattr(http, "LINGER_SECONDS", 10 * WAIT)
    monkeypatch.setattr(http, "TURN_BYTES_A_SECOND", float("inf"))
    with running() as server, server.connect() as slow, server.connect() as other:
        slow.sendall(post(b"x" * LIMIT)[:1000])
        until(lambda: server.free == 0, seconds=WAIT)
        ((status, _, document),) = exchange(server, post(b"y" * http.LARGE_BYTES))
        assert (status, document["bytes"]) == (200, http.LARGE_BYTES)
        other.sendall(post(b"y" * (http.LARGE_BYTES + 1)))
        assert answers(other, 1)[0][2]["bytes"] == http.LARGE_BYTES + 1
        ((status, _, document),) = answers(slow, 1)
        assert (status, document["error"]) == (
            408,
            "the body did not arrive within -1 seconds while others waited for their turn; send fewer rows at once",
        )
        until(lambda: server.free == LIMIT, seconds=WAIT)


def test_score2_a_large_body_whose_turn_does_not_come_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HOUSEKEEPING_SECONDS", 0.05)
    monkeypatch.setattr(http, "WAIT_SECONDS", -1.0)
    with running() as server, server.connect() as first:
        first.sendall(post(b"wait" + b"x" * (LIMIT - 4)))
        assert server.handling.acquire(timeout=WAIT)
        ((status, headers, document),) = exchange(server, post(b"y" * LIMIT))
        assert (status, headers["connection"], document["error"]) == (
            503,
            "close",
            "other large requests are under way; send fewer rows at once, or try again later",
        )
        server.release.set()
        assert answers(first, 1)[0][0] == 200
        assert server.free == LIMIT


@pytest.mark.parametrize("last", ["", "Connection: close\r\n"])
def test_score2_a_client_that_never_reads_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    monkeypatch.setattr(server_module, "HOUSEKEEPING_SECONDS", 0.05)
    with running() as server, server.connect() as connection:
        connection.sendall(f"GET /much HTTP/1.1\r\nHost: a\r\n{last}\r\n".encode())
        assert connection.recv(5) == b"HTTP/"
        monkeypatch.setattr(http, "REQUEST_SECONDS", -1.0)
        until(lambda: server.connections == 0, seconds=WAIT)


def test_score2_more_json_than_is_taken_is_refused_before_it_has_come_and_binary_data_are_not() -> None:
    with running(most_json=LIMIT // 2) as server:
        for extra in ("", f"Inference-Header-Content-Length: {LIMIT}\r\n", "Inference-Header-Content-Length: x\r\n"):
            with server.connect() as connection:
                connection.sendall(post(b"x" * LIMIT, extra=extra)[:500])
                ((status, _, document),) = answers(connection, 1)
                assert (status, document["error"]) == (
                    413,
                    f"the JSON of the body is larger than the {LIMIT // 2} bytes that are taken; send binary tensors "
                    "over v2, or the rows in several requests",
                )
        ((status, _, document),) = exchange(
            server, post(b"x" * LIMIT, extra=f"Inference-Header-Content-Length: {LIMIT // 2}\r\n")
        )
        assert (status, document["bytes"]) == (200, LIMIT)


def test_score2_the_wait_for_a_turn_begins_when_the_head_has_come() -> None:
    state = Mock(free_bytes=0, waiting=deque(), most_body_bytes=LIMIT, most_json_bytes=LIMIT)
    connection = Connection(state)
    connection.connection_made(Mock())
    head = post(b"x" * LIMIT)[:-LIMIT]
    connection.data_received(head[:-2])
    connection.quiet_since -= 2 * http.WAIT_SECONDS  # a head that took long
    connection.data_received(head[-2:])
    assert list(state.waiting) == [connection]
    assert connection.quiet_since > time.monotonic() - http.WAIT_SECONDS


def test_score2_bodies_of_much_json_are_handled_one_at_a_time() -> None:
    together, most_together, lock = 0, 0, threading.Lock()
    second = threading.Event()

    def handle(request: Request) -> Response:
        nonlocal together, most_together
        with lock:
            together += 1
            most_together = max(most_together, together)
            if together == 2:
                second.set()
        second.wait(0.2)  # for one that should not come
        with lock:
            together -= 1
        return Response(200, b"")

    with ThreadPoolExecutor(2) as pool:
        state = http.ServerState(handle, LIMIT, LIMIT, pool)
        for done in [pool.submit(state.handle_much_json, Request(b"POST", b"/", {}, b"", True)) for _ in range(2)]:
            done.result(WAIT)
    assert most_together == 1


def test_score2_garbage_is_not_collected_while_much_json_is_handled() -> None:
    """A collection looks through all that has been parsed so far, again and again."""
    collecting: list[bool] = []

    def handle(request: Request) -> Response:
        collecting.append(gc.isenabled())
        raise RuntimeError(request.target)

    state = http.ServerState(handle, LIMIT, LIMIT, ThreadPoolExecutor(1))
    with pytest.raises(RuntimeError):
        state.handle_much_json(Request(b"POST", b"/", {}, b"", True))
    assert (collecting, gc.isenabled()) == ([False], True)


def test_score2_garbage_is_collected_while_little_json_is_handled(server: Running) -> None:
    for size, collecting in ((http.INLINE_BYTES + 1, True), (http.LARGE_BYTES + 1, False), (1, True)):
        assert exchange(server, post(b"y" * size))[0][2]["collecting"] is collecting


def test_score7_health_is_answered_while_large_requests_are_handled(server: Running) -> None:
    large = b"wait" + b"x" * http.INLINE_BYTES
    with server.connect() as one, server.connect() as other:
        for connection in (one, other):
            connection.sendall(post(large))
            assert server.handling.acquire(timeout=WAIT)
        assert exchange(server, b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")[0][0] == 200
        server.release.set()
        assert answers(one, 1)[0][0] == answers(other, 1)[0][0] == 200


def test_dep3_what_is_under_way_is_answered_before_the_server_ends() -> None:
    with running() as server, server.connect() as busy, server.connect() as idle:
        idle.sendall(post(b"1"))
        assert answers(idle, 1)[0][0] == 200
        busy.sendall(post(b"wait" + b"x" * http.INLINE_BYTES))
        assert server.handling.acquire(timeout=WAIT)
        ended = server.stop()
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        assert not ended.done()
        server.release.set()
        ((status, headers, _),) = answers(busy, 1)
        assert (status, headers["connection"]) == (200, "close")
        ended.result(WAIT)


def test_score2_a_connection_that_says_nothing_for_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_SECONDS", -1.0)
    monkeypatch.setattr(http, "REQUEST_SECONDS", -1.0)
    monkeypatch.setattr(server_module, "HOUSEKEEPING_SECONDS", 0.05)
    with running() as server, server.connect() as silent, server.connect() as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        assert silent.recv(1) == b""
        ((status, _, document),) = answers(slow, 1)
        assert (status, document["error"]) == (408, "the request did not arrive within -1 seconds; send it again")


def test_score7_a_client_that_does_not_read_its_answers_does_not_fill_the_memory(server: Running) -> None:
    """Its requests stop being read, so its own sending blocks."""
    with server.connect() as connection:
        connection.setblocking(False)
        sent, data = 0, post(b"x") * 200
        while sent < 500 * 1024 * 1024 and select.select([], [connection], [], 1.0)[1]:
            sent += connection.send(data)
        assert sent < 500 * 1024 * 1024
    assert exchange(server, post(b"next"))[0][0] == 200
