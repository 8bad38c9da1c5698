"""Connections to PostgreSQL: a pool, and database errors as Levada's own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout

from levada.errors import StoreUnavailable
from levada.stores.failpoints import after_write
from levada.stores.ports import StoreRefused

# The pool logs each attempt that fails; the errors raised here say it once.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

_CONNECT_SECONDS = 5
_WAIT_SECONDS = 10
_REFUSED = errors.InsufficientPrivilege | errors.InvalidAuthorizationSpecification | errors.InvalidCatalogName
# What the server says while a connection is made carries no SQLSTATE, only these words.
_REFUSED_WORDS = ("authentication failed", "no pg_hba.conf entry", "does not exist", "no password supplied")

Connection = psycopg.Connection[tuple[Any, ...]]


class Database:
    """A pool of connections that opens when first used; threads may share it.

    Errors that are the server's or the network's become StoreUnavailable; others are left as they are.
    """

    def __init__(self, dsn: str, connections: int = 4) -> None:
        self._dsn = dsn
        self._connections = connections
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Connection] | None = None
        try:
            parts = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            # No cause: its text may hold the password.
            raise StoreRefused("LEVADA_POSTGRES_DSN is not a connection string or URL of PostgreSQL") from None
        host, port = parts.get("host", "localhost"), parts.get("port", 5432)
        self.place = f"the catalogue {host}:{port}/{parts.get('dbname', '')}"

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection that commits each statement by itself."""
        try:
            with self._open().connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise self._no_connection() from error
        except psycopg.Error as error:
            if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
                raise StoreUnavailable(f"{self.place} has not been migrated to this version of Levada") from error
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | _REFUSED):
                raise self._translated(error) from error
            raise

    @contextmanager
    def transaction(self, wrote: str) -> Iterator[Connection]:
        """A connection in a transaction that commits when the block ends; `wrote` is what the write is called."""
        with self.connection() as connection, connection.transaction():
            yield connection
        after_write(wrote)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _open(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None:
                # The pool goes on trying in the background; a first connection says at once why it would fail.
                self._try()
                self._pool = ConnectionPool(
                    self._dsn,
                    connection_class=psycopg.Connection[tuple[Any, ...]],
                    min_size=0,
                    max_size=self._connections,
                    timeout=_WAIT_SECONDS,
                    max_idle=60,
                    kwargs={"autocommit": True, "connect_timeout": _CONNECT_SECONDS, "application_name": "levada"},
                    check=ConnectionPool.check_connection,
                    open=True,
                )
            return self._pool

    def _try(self) -> None:
        psycopg.connect(self._dsn, connect_timeout=_CONNECT_SECONDS).close()

    def _no_connection(self) -> StoreUnavailable:
        try:
            self._try()
        except psycopg.Error as error:
            return self._translated(error)
        return StoreUnavailable(f"{self.place} is busy: no connection came free within {_WAIT_SECONDS} seconds")

    def _translated(self, error: psycopg.Error) -> StoreUnavailable:
        text = _sentence(error)
        if isinstance(error, _REFUSED) or any(word in text for word in _REFUSED_WORDS):
            return StoreRefused(f"{self.place} refuses this user: {text}")
        # With a state, the server itself said it: full, shutting down, deadlocked.
        return StoreUnavailable(f"{self.place} {'cannot go on' if error.sqlstate else 'does not answer'}: {text}")


def _sentence(error: BaseException) -> str:
    """The first line of a database error, without the address in front of it."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.rpartition(" failed: ")[2].removeprefix("FATAL:").strip()
