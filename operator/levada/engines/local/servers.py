"""The real stores on one machine: Postgres, NATS with JetStream and an S3 server (SeaweedFS), each from its wheel.

Everything lies below `<home>/servers/`: data, logs, random credentials that only the owner can read. Servers listen on
loopback at free ports, start when first asked for, and end with the engine, however the engine ends. A home belongs to
one engine at a time; another process finds the servers of a running engine through `running`, or has them started.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Self

from levada.engines.local.embedded import Nats, Postgres, SeaweedFS
from levada.engines.local.keeper import Keeper
from levada.engines.local.managed import Server
from levada.errors import LevadaError

ASK_SECONDS = 30.0  # that another engine has to start its servers
_ASKED = "asked"  # a file that is there while another process asks for the servers


class HomeInUse(LevadaError):
    """Another engine runs on the same home."""


@dataclass(frozen=True)
class NatsEndpoint:
    """Where the bus is: `nats://127.0.0.1:<port>`, and who may use it."""

    url: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class S3Endpoint:
    """Where the objects are: `http://127.0.0.1:<port>`, an existing bucket, and who may use it."""

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str = "us-east-1"


@dataclass(frozen=True)
class Endpoints:
    """All three servers of a home."""

    postgres: str = field(repr=False)
    nats: NatsEndpoint
    objects: S3Endpoint

    def environment(self) -> dict[str, str]:
        """The same as the environment variables that `levada.settings.Settings` reads."""
        return {
            "LEVADA_POSTGRES_DSN": self.postgres,
            "LEVADA_NATS_URL": self.nats.url,
            "LEVADA_NATS_USER": self.nats.user,
            "LEVADA_NATS_PASSWORD": self.nats.password,
            "LEVADA_OBJECTS_ENDPOINT": self.objects.endpoint,
            "LEVADA_OBJECTS_BUCKET": self.objects.bucket,
            "LEVADA_OBJECTS_ACCESS_KEY": self.objects.access_key,
            "LEVADA_OBJECTS_SECRET_KEY": self.objects.secret_key,
            "LEVADA_OBJECTS_REGION": self.objects.region,
        }


class LocalServers:
    """The servers of one home, for the engine that owns it.

        with LocalServers(home) as servers:
            dsn = servers.postgres()

    Raises HomeInUse on entering when another engine has the home, and ServerFailed when a server does not start.
    Safe to call from several threads. With `durable` False, data may be lost when the machine (not merely a process)
    stops at once: for tests, which wait for no disk then.
    """

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self._durable = durable
        self.home = home
        self._root = home.absolute() / "servers"
        self._lock: IO[str] | None = None
        self._keeper = Keeper()
        self._running: dict[str, Server] = {}
        self._starting = {kind: threading.Lock() for kind in ("postgres", "nats", "objects")}

    def __enter__(self) -> Self:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (self._root / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise HomeInUse(
                f"the home {self.home} is in use by another levada, process {owner}: end it, or name another home"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
        for left in (self._endpoints_file, self._root / _ASKED):
            left.unlink(missing_ok=True)
        self._credentials = _credentials(self._root / "credentials.json")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def postgres(self) -> str:
        """`postgresql://user:password@127.0.0.1:<port>/levada`; the server is started if it is not running yet."""
        password = self._credentials["postgres"]
        server = self._server("postgres", lambda: Postgres(self._root / "postgres", password, durable=self._durable))
        return f"postgresql://{Postgres.USER}:{password}@127.0.0.1:{server.port}/{Postgres.DATABASE}"

    def nats(self) -> NatsEndpoint:
        """The bus, with JetStream; the server is started if it is not running yet."""
        password = self._credentials["nats"]
        server = self._server("nats", lambda: Nats(self._root / "nats", password, durable=self._durable))
        return NatsEndpoint(f"nats://127.0.0.1:{server.port}", Nats.USER, password)

    def objects(self) -> S3Endpoint:
        """The object store with its bucket; the server is started if it is not running yet."""
        access, secret = self._credentials["s3_access"], self._credentials["s3_secret"]
        server = self._server("objects", lambda: SeaweedFS(self._root / "objects", access, secret))
        return S3Endpoint(f"http://127.0.0.1:{server.port}", SeaweedFS.BUCKET, access, secret)

    def start_all(self) -> Endpoints:
        """Start what does not run yet, all at the same time."""
        with ThreadPoolExecutor(3) as pool:
            postgres, nats, objects = pool.submit(self.postgres), pool.submit(self.nats), pool.submit(self.objects)
            endpoints = Endpoints(postgres.result(), nats.result(), objects.result())
        _write_private(self._endpoints_file, json.dumps(asdict(endpoints)))
        (self._root / _ASKED).unlink(missing_ok=True)
        return endpoints

    @property
    def asked(self) -> bool:
        """Whether another process asks for the servers."""
        return (self._root / _ASKED).exists()

    def revive(self) -> None:
        """Start servers anew that have ended by themselves, at their addresses; raises ServerFailed where one can't be,
        or ends again."""
        for kind, server in list(self._running.items()):
            with self._starting[kind]:
                server.revive(self._keeper)

    def stop(self) -> None:
        """End all servers in good order, at the same time, and give the home free. May be called twice."""
        if self._lock is None:
            return
        self._endpoints_file.unlink(missing_ok=True)
        with ThreadPoolExecutor(3) as pool:
            for ended in [pool.submit(server.stop) for server in self._running.values()]:
                ended.result()
        self._running.clear()
        self._keeper.close()
        self._lock.close()
        self._lock = None

    @staticmethod
    def running(home: Path) -> Endpoints | None:
        """The servers of the engine that has this home now, for other processes; None if there is none.

        An engine that is still starting counts as none.
        """
        if not _is_in_use(home):
            return None
        try:
            known = json.loads((home / "servers" / "endpoints.json").read_text())
        except FileNotFoundError:
            return None
        return Endpoints(known["postgres"], NatsEndpoint(**known["nats"]), S3Endpoint(**known["objects"]))

    @classmethod
    def ask(cls, home: Path, patience: float = ASK_SECONDS) -> Endpoints | None:
        """As `running`; an engine that has not started its servers, for which it may see no need, is asked to."""
        deadline = time.monotonic() + patience
        while (found := cls.running(home)) is None and _is_in_use(home) and time.monotonic() < deadline:
            (home / "servers" / _ASKED).touch()
            time.sleep(0.1)
        return found

    @property
    def _endpoints_file(self) -> Path:
        return self._root / "endpoints.json"

    def _server(self, kind: str, make: Callable[[], Server]) -> Server:
        if self._lock is None:
            raise RuntimeError("LocalServers is used outside its with block")
        with self._starting[kind]:
            if kind not in self._running:
                server = make()
                server.start(self._keeper)
                self._running[kind] = server
            return self._running[kind]


def _is_in_use(home: Path) -> bool:
    try:
        with (home / "servers" / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _credentials(path: Path) -> dict[str, str]:
    """Random passwords, made at a home's first use and kept there."""
    if not path.exists():
        names = ("postgres", "nats", "s3_access", "s3_secret")
        _write_private(path, json.dumps({name: secrets.token_urlsafe(24) for name in names}))
    known: dict[str, str] = json.loads(path.read_text())
    return known


def _write_private(path: Path, text: str) -> None:
    """Write a whole file that only its owner can read."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    new.replace(path)
