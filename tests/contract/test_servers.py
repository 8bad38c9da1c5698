"""The embedded servers: real ones, safe from others, and gone when the engine is gone (X-8)."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
import psutil
import psycopg
import pytest
from minio.error import S3Error

from levada.engines.local import embedded
from levada.engines.local.embedded import free_ports
from levada.engines.local.keeper import ServerFailed, end_leftover, unprivileged_command
from levada.engines.local.servers import Endpoints, HomeInUse, LocalServers, NatsEndpoint, S3Endpoint
from tests.conftest import s3_client

ENGINE = """
import sys, time
from pathlib import Path
from levada.engines.local import keeper
from levada.engines.local.servers import LocalServers

if sys.argv[2] == "without-death-signal":
    keeper._has_death_signal = lambda: False
with LocalServers(Path(sys.argv[1])) as servers:
    servers.start_all()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="levada-home-") as folder:
        yield Path(folder) / "home"


class Engine:
    """A process of its own that runs the servers of a home."""

    def __init__(self, home: Path, mode: str) -> None:
        command = [sys.executable, "-c", ENGINE, str(home), mode]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        self.process.communicate()


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def server_processes(home: Path) -> list[psutil.Process]:
    records = [json.loads(path.read_text()) for path in sorted(home.glob("servers/*/process.json"))]
    return [psutil.Process(record["pid"]) for record in records]


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # gone between the two
        return True


@contextmanager
def stranger_of_postgres_user() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours; of the user of Postgres, which knows those of other users for strangers."""
    process = subprocess.Popen(unprivileged_command(["sleep", "1000"]))
    try:
        eventually(lambda: psutil.Process(process.pid).name() == "sleep")
        yield process
    finally:
        process.kill()
        process.wait()


async def publish(endpoint: NatsEndpoint, subject: str, data: bytes) -> None:
    connection = await nats.connect(endpoint.url, user=endpoint.user, password=endpoint.password)
    jetstream = connection.jetstream()
    await jetstream.add_stream(name="kept", subjects=["kept.>"])
    await jetstream.publish(subject, data)
    await connection.close()


async def published(endpoint: NatsEndpoint, subject: str) -> bytes | None:
    connection = await nats.connect(endpoint.url, user=endpoint.user, password=endpoint.password)
    message = await connection.jetstream().get_last_msg("kept", subject)
    await connection.close()
    return message.data


def nats_answer(url: str, user: str, password: str) -> bytes:
    """What the server says to these credentials, on the wire: the client leaks its socket when it is refused."""
    host, _, port = url.removeprefix("nats://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection, connection.makefile("rwb") as stream:
        stream.readline()  # INFO
        stream.write(b"CONNECT " + json.dumps({"user": user, "pass": password}).encode() + b"\r\nPING\r\n")
        stream.flush()
        return stream.readline()


def fill(endpoints: Endpoints) -> None:
    with psycopg.connect(endpoints.postgres) as connection:
        connection.execute("create table kept as select 42 as answer")
    asyncio.run(publish(endpoints.nats, "kept.answer", b"42"))
    s3_client(endpoints.objects).put_object(endpoints.objects.bucket, "kept/answer", io.BytesIO(b"42"), 2)


def assert_filled(endpoints: Endpoints) -> None:
    with psycopg.connect(endpoints.postgres) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)
    assert asyncio.run(published(endpoints.nats, "kept.answer")) == b"42"
    assert read(endpoints.objects, "kept/answer") == b"42"


def read(endpoint: S3Endpoint, key: str) -> bytes:
    response = s3_client(endpoint).get_object(endpoint.bucket, key)
    try:
        return response.read()
    finally:
        response.close()
        response.release_conn()


def test_x8_servers_keep_their_data_over_a_restart_and_leave_nothing_running(home: Path) -> None:
    with LocalServers(home) as servers:
        endpoints = servers.start_all()
        fill(endpoints)
        processes = server_processes(home)
        assert len(processes) == 3
    assert all(map(is_gone, processes))
    assert not list(home.glob("servers/*/process.json"))
    ports = json.loads((home / "servers/objects/ports.json").read_text()).values()
    assert not [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]
    with LocalServers(home) as servers:
        assert_filled(servers.start_all())


def test_x8_a_server_starts_only_when_asked_for(home: Path) -> None:
    with LocalServers(home) as servers:
        assert server_processes(home) == []
        first = servers.nats()
        assert [process.name() for process in server_processes(home)] == ["nats-server"]
        assert servers.nats() == first


def test_x3_the_servers_listen_on_loopback_only_and_refuse_other_passwords(servers: LocalServers) -> None:
    endpoints = servers.start_all()
    listening = [
        connection.laddr.ip
        for process in server_processes(servers.home)
        for connection in process.connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3
    assert set(listening) == {"127.0.0.1"}
    host = endpoints.postgres.rpartition("@")[2]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://levada:wrong@{host}")
    assert nats_answer(endpoints.nats.url, "levada", endpoints.nats.password) == b"+OK\r\n"
    assert b"Authorization Violation" in nats_answer(endpoints.nats.url, "levada", "wrong")
    stranger = S3Endpoint(endpoints.objects.endpoint, endpoints.objects.bucket, "wrong", "wrong-secret")
    with pytest.raises(S3Error, match="InvalidAccessKeyId"):
        read(stranger, "x")


def test_x3_only_the_owner_can_read_the_passwords(servers: LocalServers) -> None:
    endpoints = servers.start_all()
    secrets = [endpoints.nats.password, endpoints.objects.secret_key, endpoints.postgres.split("@")[0].split(":")[2]]
    folder = servers.home / "servers"
    assert folder.stat().st_mode & 0o077 == 0
    small = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < 100_000]
    holding = [path for path in small if any(secret.encode() in path.read_bytes() for secret in secrets)]
    assert {path.name for path in holding} == {"credentials.json", "endpoints.json", "nats.conf", "s3.json"}
    assert {path.stat().st_mode & 0o777 for path in holding} == {0o600}
    assert not any(secret in repr(endpoints) for secret in secrets)


def test_x8_a_second_engine_on_the_same_home_is_refused_in_one_sentence(home: Path) -> None:
    with LocalServers(home), pytest.raises(HomeInUse) as refusal, LocalServers(home):
        pytest.fail("two engines had the same home")
    assert str(refusal.value) == (
        f"the home {home} is in use by another levada, process {os.getpid()}: end it, or name another home"
    )
    with LocalServers(home):
        pass


def test_x8_another_process_finds_the_servers_of_a_running_engine(home: Path) -> None:
    assert LocalServers.running(home) is None
    with LocalServers(home, durable=False) as servers:
        assert LocalServers.running(home) is None
        endpoints = servers.start_all()
        assert LocalServers.running(home) == endpoints
    assert LocalServers.running(home) is None


def test_x5_no_server_outlives_a_killed_engine_and_the_next_one_goes_on(home: Path) -> None:
    engine = Engine(home, "with-death-signal")
    endpoints = LocalServers.running(home)
    assert endpoints is not None
    fill(endpoints)
    processes = server_processes(home)
    engine.kill()
    if sys.platform == "linux":
        eventually(lambda: all(map(is_gone, processes)))
    with LocalServers(home) as servers:
        assert_filled(servers.start_all())


def test_x5_servers_left_running_are_ended_by_the_next_engine(home: Path) -> None:
    engine = Engine(home, "without-death-signal")
    endpoints = LocalServers.running(home)
    assert endpoints is not None
    fill(endpoints)
    left = server_processes(home)
    engine.kill()
    assert not any(map(is_gone, left))
    with LocalServers(home) as servers:
        assert_filled(servers.start_all())
        assert all(map(is_gone, left))


def test_x5_killed_servers_and_engine_lose_nothing(home: Path) -> None:
    engine = Engine(home, "with-death-signal")
    endpoints = LocalServers.running(home)
    assert endpoints is not None
    fill(endpoints)
    for process in server_processes(home):
        process.kill()
    engine.kill()
    with LocalServers(home) as servers:
        assert_filled(servers.start_all())


def test_x5_a_process_that_got_the_id_of_a_dead_server_is_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "process.json"
    with stranger_of_postgres_user() as stranger:
        started = psutil.Process(stranger.pid).create_time()
        for known in ({"started": started - 60, "name": "sleep"}, {"started": started, "name": "postgres"}):
            record.write_text(json.dumps({"pid": stranger.pid, **known}))
            assert not end_leftover(record, signal.SIGTERM)
            assert stranger.poll() is None
        record.write_text(json.dumps({"pid": stranger.pid, "started": started, "name": "sleep"}))
        assert end_leftover(record, signal.SIGTERM)
        assert stranger.poll() is not None


def test_x5_postgres_starts_though_its_old_id_belongs_to_another_program(home: Path) -> None:
    with LocalServers(home, durable=False) as servers:
        servers.postgres()
    with stranger_of_postgres_user() as stranger:
        left = [str(stranger.pid), "data", "0", "5432", "", "127.0.0.1", "  1234567     999999", "ready", ""]
        (home / "servers/postgres/data/postmaster.pid").write_text("\n".join(left))
        with LocalServers(home, durable=False) as servers, psycopg.connect(servers.postgres()) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert stranger.poll() is None


def test_x5_an_interrupted_first_start_of_postgres_is_begun_anew(home: Path) -> None:
    unfinished = home / "servers/postgres/data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18")
    with LocalServers(home, durable=False) as servers, psycopg.connect(servers.postgres()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert not unfinished.exists()


def test_x8_a_home_that_was_copied_without_its_owners_starts(home: Path, tmp_path: Path) -> None:
    with LocalServers(home, durable=False) as servers:
        servers.postgres()
    subprocess.run(["cp", "-r", home, tmp_path / "copy"], check=True)
    stranger = tmp_path / "stranger"
    stranger.touch()
    data = tmp_path / "copy" / "servers" / "postgres" / "data"
    (data / "link").symlink_to(stranger)
    (data / "leads nowhere").symlink_to(tmp_path / "none")
    if os.geteuid() == 0:  # one whose change of owners was interrupted
        os.chown(data / "base", pwd.getpwnam("nobody").pw_uid, -1)
    copy = LocalServers(tmp_path / "copy", durable=False)
    with copy as servers, psycopg.connect(servers.postgres()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert stranger.stat().st_uid == os.geteuid()


def test_x8_a_catalogue_of_another_postgres_is_told_from_a_broken_one(home: Path) -> None:
    with LocalServers(home, durable=False) as servers:
        servers.postgres()
    version = home / "servers" / "postgres" / "data" / "PG_VERSION"
    version.write_text("17\n")
    with LocalServers(home, durable=False) as servers, pytest.raises(ServerFailed) as failed:
        servers.postgres()
    assert f"the catalogue in {version.parent} was made by PostgreSQL 17" in str(failed.value)


def test_x5_a_server_that_cannot_start_says_why_in_one_sentence(home: Path) -> None:
    with LocalServers(home, durable=False) as servers:
        servers.nats()
    data = home / "servers/nats/data"
    data.rename(data.with_name("elsewhere"))
    data.write_text("not a folder")
    with LocalServers(home) as servers, pytest.raises(ServerFailed, match=r"^NATS ended while it started: .*\(log: "):
        servers.nats()


def test_x8_root_is_given_up_for_postgres(servers: LocalServers) -> None:
    servers.postgres()
    (process,) = [found for found in server_processes(servers.home) if found.name() == "postgres"]
    assert process.uids().effective != 0


def test_x8_another_port_is_chosen_when_one_was_taken_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        choices = iter([[port], free_ports(1)])
        monkeypatch.setattr(embedded, "free_ports", lambda count: next(choices))
        with LocalServers(tmp_path / "home", durable=False) as servers:
            assert f":{port}/" not in servers.postgres()


def test_x8_a_home_that_once_had_the_ports_of_a_running_one_leaves_it_alone(home: Path, tmp_path: Path) -> None:
    with LocalServers(home, durable=False) as servers, LocalServers(tmp_path / "other", durable=False) as others:
        servers.objects()
        ports = (home / "servers/objects/ports.json").read_text()
        sockets = [
            path for port in json.loads(ports).values() for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")
        ]
        assert sockets
        (others.home / "servers/objects").mkdir()
        (others.home / "servers/objects/ports.json").write_text(ports)

        others.objects()

        assert (others.home / "servers/objects/ports.json").read_text() != ports
        assert all(map(Path.exists, sockets))
