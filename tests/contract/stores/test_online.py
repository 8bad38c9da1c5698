"""The contract of `OnlineFeatures`."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada import names
from levada.engines.local.embedded import Nats
from levada.engines.local.keeper import Keeper
from levada.engines.local.servers import NatsEndpoint
from levada.errors import StoreUnavailable
from levada.stores.nats import NatsOnlineFeatures, entries
from levada.stores.nats.connection import Connection
from levada.stores.ports import OnlineRow, StoreRefused
from tests.contract.stores.conftest import connection

pytestmark = pytest.mark.anyio

VALUES = {
    "int": 2**62,
    "float": 0.1 + 0.2,
    "whole": 3.0,
    "nan": math.nan,
    "inf": -math.inf,
    "text": "ü😀\0\n",
    "empty": "",
    "flag": True,
    "none": None,
    "day": date(1900, 2, 28),
    "time": datetime(2013, 1, 1, 5, 0, 0, 123_456, UTC),
    "local": datetime.fromisoformat("2013-01-01T05:00:00"),
}


def row(key: Any, timestamp: int | None = None, **values: Any) -> OnlineRow:
    return OnlineRow(key if isinstance(key, tuple) else (key,), timestamp, values or {"x": 1})


async def until_complete(rows: AsyncIterator[OnlineRow | None]) -> list[OnlineRow]:
    found = []
    async with asyncio.timeout(60):
        async for each in rows:
            if each is None:
                break
            found.append(each)
    return found


async def following(rows: AsyncIterator[OnlineRow | None]) -> OnlineRow:
    async with asyncio.timeout(60):
        found = await anext(rows)
    assert found is not None
    return found


async def test_prep7_values_come_back_as_they_were_put(online: NatsOnlineFeatures) -> None:
    assert await online.put("default", "planes", "features-1", [OnlineRow(("N1",), None, VALUES)]) == 1
    (found,) = await online.get("default", "planes", ("N1",))
    assert math.isnan(found.values.pop("nan"))
    assert found.values == {name: value for name, value in VALUES.items() if name != "nan"}
    assert {name: type(value) for name, value in found.values.items()} == {
        name: type(value) for name, value in VALUES.items() if name != "nan"
    }
    assert (found.key, found.timestamp, found.deleted) == (("N1",), None, False)


@given(
    key=st.lists(
        st.one_of(
            st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.dates(), st.floats(), st.none()
        ),
        min_size=1,
        max_size=4,
    ),
    timestamp=st.none() | st.integers(-(2**63), 2**63 - 1),
)
def test_keys_and_times_are_encoded_as_subjects_that_nats_takes(key: list[Any], timestamp: int | None) -> None:
    encoded = entries.entry_key(OnlineRow(tuple(key), timestamp, {}))
    assert all(token and set(token) <= entries_alphabet for token in encoded.split("."))
    decoded, decoded_time = entries.decode_key(encoded)
    assert repr(decoded) == repr(tuple(key))
    assert decoded_time == timestamp


entries_alphabet = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=")


async def test_keys_of_other_types_and_lengths_do_not_meet(online: NatsOnlineFeatures) -> None:
    keys: list[tuple[Any, ...]] = [
        ("1",),
        (1,),
        (1.0,),
        (True,),
        (1, 2),
        ("",),
        (None,),
        ("*",),
        (">",),
        ("a.b",),
        ("T5",),
    ]
    await online.put("default", "odd", "features-1", [row(key, n=n) for n, key in enumerate(keys)])
    for number, key in enumerate(keys):
        (found,) = await online.get("default", "odd", key)
        assert repr(found.key) == repr(key)
        assert found.values == {"n": number}


async def test_prep6_a_key_has_a_row_for_each_time_oldest_first(online: NatsOnlineFeatures) -> None:
    rows = [row("JFK", time, t=time) for time in (30, -10, 0, 20)]
    await online.put("default", "weather", "features-1", [*rows, row("LGA", 10, t=10), row(("JFK", 10), t=0)])
    assert [found.timestamp for found in await online.get("default", "weather", ("JFK",))] == [-10, 0, 20, 30]
    await online.put("default", "weather", "features-1", [row("JFK", 20, t=99)])
    assert [found.values["t"] for found in await online.get("default", "weather", ("JFK",))] == [-10, 0, 99, 30]


async def test_a_row_that_is_not_there(online: NatsOnlineFeatures) -> None:
    assert await online.get("default", "nothing", ("N1",)) == []
    await online.put("default", "planes", "features-1", [row("N1"), OnlineRow(("N2",), None, {}, deleted=True)])
    assert await online.get("default", "planes", ("N2",)) == []
    assert await online.get("default", "planes", ("N3",)) == []


async def test_prep6_a_watch_begins_with_everything_then_says_so_then_follows(
    online: NatsOnlineFeatures, bus: NatsEndpoint
) -> None:
    rows = [row(f"N{number}", n=number) for number in range(5000)]
    await online.put("default", "planes", "features-1", rows)
    watcher = NatsOnlineFeatures(connection(bus))
    watching = watcher.watch("default", "planes")
    assert sorted(await until_complete(watching), key=lambda found: found.values["n"]) == rows
    await online.put("default", "planes", "features-2", [row("N7", n=-7), row("new", n=1)])
    assert [await following(watching), await following(watching)] == [row("N7", n=-7), row("new", n=1)]
    await online.put("default", "planes", "features-2", [OnlineRow(("N8",), None, {}, deleted=True)])
    assert await following(watching) == OnlineRow(("N8",), None, {}, deleted=True)
    await watcher.close()


async def test_prep6_a_watch_of_what_is_not_there_yet_begins_empty(online: NatsOnlineFeatures) -> None:
    watching = online.watch("default", "later")
    assert await until_complete(watching) == []
    await online.put("default", "later", "features-1", [row("N1")], ttl=timedelta(hours=1))
    assert await following(watching) == row("N1")


async def test_a_slow_watcher_misses_nothing(online: NatsOnlineFeatures, bus: NatsEndpoint) -> None:
    watcher = NatsOnlineFeatures(connection(bus))
    watching = watcher.watch("default", "planes")
    await until_complete(watching)
    for part in range(20):
        await online.put("default", "planes", "v", [row(number, n=part * 500 + number) for number in range(500)])
    last: dict[int, int] = {}
    while last.get(499) != 19 * 500 + 499:
        found = await following(watching)
        last[found.key[0]] = found.values["n"]
    assert last == {number: 19 * 500 + number for number in range(500)}
    await watcher.close()


async def test_prep6_a_row_whose_time_is_over_is_gone_and_watchers_are_told(online: NatsOnlineFeatures) -> None:
    watching = online.watch("default", "short")
    await until_complete(watching)
    await online.put("default", "short", "features-1", [row("N1")], ttl=timedelta(seconds=1))
    assert await following(watching) == row("N1")
    assert await following(watching) == OnlineRow(("N1",), None, {}, deleted=True)
    assert await online.get("default", "short", ("N1",)) == []


async def test_the_time_that_rows_are_kept_is_that_of_the_last_put(
    online: NatsOnlineFeatures, bus: NatsEndpoint
) -> None:
    client = await nats.connect(bus.url, user=bus.user, password=bus.password)
    for ttl in (None, timedelta(hours=2), timedelta(days=30), timedelta(minutes=1), None):
        await online.put("default", "planes", "features-1", [row("N1")], ttl=ttl)
        info = await client.jetstream().stream_info(f"KV_{names.kv_bucket('default', 'planes')}")
        assert info.config.max_age == (ttl.total_seconds() if ttl else 0)
    await client.close()


async def test_feature_sets_do_not_meet_and_are_forgotten_alone(online: NatsOnlineFeatures) -> None:
    for namespace, feature_set in (("default", "a"), ("default", "b"), ("other", "a")):
        await online.put(namespace, feature_set, "features-1", [row("N1", at=f"{namespace}/{feature_set}")])
    await online.forget("default", "a")
    await online.forget("default", "nothing")
    assert await online.get("default", "a", ("N1",)) == []
    assert [found.values["at"] for found in await online.get("default", "b", ("N1",))] == ["default/b"]
    assert [found.values["at"] for found in await online.get("other", "a", ("N1",))] == ["other/a"]


async def test_rows_that_cannot_be_kept_are_told(online: NatsOnlineFeatures) -> None:
    for key, message in [
        ((b"bytes",), "is a bytes, which cannot be a key of the online store"),
        (("x" * 2000,), "is too long for the online store"),
        ((), "has no key"),
    ]:
        with pytest.raises(ValueError, match=message):
            await online.put("default", "planes", "features-1", [OnlineRow(key, None, {})])


async def test_x5_a_dead_server_is_named(closed_port: int) -> None:
    online = NatsOnlineFeatures(Connection(f"nats://127.0.0.1:{closed_port}", "levada", "a-secret"))
    with pytest.raises(StoreUnavailable, match=f"NATS 127.0.0.1:{closed_port} does not answer"):
        await online.put("default", "planes", "features-1", [row("N1")])
    with pytest.raises(StoreUnavailable, match=f"NATS 127.0.0.1:{closed_port} does not answer"):
        await anext(online.watch("default", "planes"))


async def test_wrong_credentials_are_refused(bus: NatsEndpoint) -> None:
    online = NatsOnlineFeatures(Connection(bus.url, bus.user, "a-wrong-one"))
    with pytest.raises(StoreRefused, match="refuses this user"):
        await online.get("default", "planes", ("N1",))


# --- a server that comes back ---------------------------------------------------------------------------------------


class Restartable(Nats):
    """A server that has the same address again."""

    def _prepare(self) -> None:
        super()._prepare()
        path = self._folder / "nats.conf"
        if self.port:
            path.write_text(json.dumps(json.loads(path.read_text()) | {"port": self.port}))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Restartable, Keeper]]:
    keeper = Keeper()
    server = Restartable(tmp_path / "nats", "secret", durable=False)
    server.start(keeper)
    yield server, keeper
    server.stop()
    keeper.close()


@pytest.mark.parametrize("keeps_its_data", [True, False])
async def test_x5_a_watch_goes_on_after_the_server_was_away(
    server: tuple[Restartable, Keeper], tmp_path: Path, keeps_its_data: bool
) -> None:
    """Also where the server lost what it had: sequence numbers begin anew then, and old ones must not hide new rows."""
    nats_server, keeper = server
    writer, watcher = (
        NatsOnlineFeatures(Connection(f"nats://127.0.0.1:{nats_server.port}", Nats.USER, "secret")) for _ in range(2)
    )
    await writer.put("default", "planes", "features-1", [row(number, n=number) for number in range(10)])
    watching = watcher.watch("default", "planes")
    assert len(await until_complete(watching)) == 10

    following_row = asyncio.create_task(following(watching))
    await asyncio.to_thread(nats_server.stop)
    if not keeps_its_data:
        for path in sorted((tmp_path / "nats" / "data").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    await asyncio.to_thread(nats_server.start, keeper)

    found = {}
    await writer.put("default", "planes", "features-1", [row("new", n=1)])
    while "new" not in found:
        each = await following_row
        found[each.key[0]] = each
        following_row = asyncio.create_task(following(watching))
    following_row.cancel()
    assert set(found) == {*(range(10) if keeps_its_data else ()), "new"}
    await writer.close()
    await watcher.close()
