"""Where a scorer listens, and what keeps house over its connections (http.py)."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import structlog

from levada.serving.http import Connection, Handler, ServerState

log = structlog.get_logger()

HOUSEKEEPING_SECONDS = 1.0


class Server:
    """Listens, and keeps house over the connections."""

    def __init__(self, handler: Handler, most_body_bytes: int, most_json_bytes: int) -> None:
        """`most_json_bytes`: of a body; LARGE_BYTES or more."""
        pool = ThreadPoolExecutor(2, thread_name_prefix="scorer")
        self._state = ServerState(handler, most_body_bytes, most_json_bytes, pool, free_bytes=most_body_bytes)
        self._server: asyncio.Server
        self._housekeeping: asyncio.Task[None]

    async def start(self, host: str, port: int) -> int:
        """Listen; the port (one that is free for 0). Raises OSError if it is taken."""
        loop = asyncio.get_running_loop()
        self._housekeeping = asyncio.create_task(self._keep_house())
        self._server = await loop.create_server(lambda: Connection(self._state), host, port, backlog=2048)
        return int(self._server.sockets[0].getsockname()[1])

    def say_goodbye(self) -> None:
        """Go on answering, but ask every client to connect anew (elsewhere)."""
        self._state.closing = True

    async def stop(self, seconds: float) -> None:
        """Stop accepting and let what is under way end, within so many seconds."""
        self.say_goodbye()
        self._server.close()
        until = time.monotonic() + seconds
        while self._state.connections and time.monotonic() < until:
            for connection in list(self._state.connections):
                if connection.idle:
                    connection.close()
            await asyncio.sleep(0.01)
        if self._state.connections:
            log.warning("connections are cut off", connections=len(self._state.connections))
        for connection in list(self._state.connections):
            connection.close()
        self._housekeeping.cancel()
        self._state.pool.shutdown(wait=False, cancel_futures=True)

    async def _keep_house(self) -> None:
        """Renew the Date header, and look for connections that have been quiet for too long."""
        while True:
            self._state.head = b"\r\ndate: %b\r\n" % formatdate(usegmt=True).encode()
            for connection in list(self._state.connections):
                connection.end_if_late(time.monotonic())
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
