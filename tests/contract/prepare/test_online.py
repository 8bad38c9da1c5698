"""Rows of a version in the online store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from levada.features.lookups import LookupTable, to_cell
from levada.features.types import ColumnType
from levada.stores.open import open_online
from levada.stores.ports import OnlineRow
from tests.contract.prepare.conftest import NAMESPACE, World

T0 = datetime(2013, 1, 1, tzinfo=UTC).replace(tzinfo=None)
HOURS = [T0 + timedelta(hours=n) for n in range(5)]
MICROSECONDS = [to_cell(hour, ColumnType.TIMESTAMP) for hour in HOURS]
WEATHER: dict[str, Any] = {
    "inputs": [{"dataset": "weather"}],
    "entity": {"keys": ["origin"], "timestamp": "time_hour"},
    "online": {"enabled": True},
    "derive": [{"name": "warm", "expression": "temp > 10"}],
}


def add_weather(world: World) -> None:
    columns = {
        "origin": ["EWR", "EWR", "EWR", "JFK", None, "LGA"],
        "time_hour": pa.array([HOURS[1], HOURS[0], HOURS[4], HOURS[0], HOURS[2], None], pa.timestamp("us")),
        "temp": [11.5, None, 30.0, 5.0, 1.0, 2.0],
        "day": pa.array([T0.date()] * 6, pa.date32()),
    }
    world.add_batch("weather", columns)


def online(world: World, *key: Any) -> list[OnlineRow]:
    async def get() -> list[OnlineRow]:
        store = open_online(world.settings)
        try:
            return await store.get(NAMESPACE, "weather", key)
        finally:
            await store.close()

    return asyncio.run(get())


def test_prep6_every_row_with_key_and_time_is_in_the_online_store(world: World) -> None:
    add_weather(world)
    world.prepare("weather", WEATHER)

    day = T0.date()
    assert [(row.timestamp, row.values) for row in online(world, "EWR")] == [
        (MICROSECONDS[0], {"temp": None, "day": day, "warm": None}),
        (MICROSECONDS[1], {"temp": 11.5, "day": day, "warm": True}),
        (MICROSECONDS[4], {"temp": 30.0, "day": day, "warm": True}),
    ]
    assert len(online(world, "JFK")) == 1
    assert online(world, "LGA") == []
    assert online(world, None) == []


def test_prep6_rows_past_their_time_to_live_are_left_out(world: World) -> None:
    add_weather(world)
    world.prepare("weather", WEATHER | {"online": {"enabled": True, "ttl": "3h"}})

    assert [row.timestamp for row in online(world, "EWR")] == [MICROSECONDS[1], MICROSECONDS[4]]
    assert online(world, "JFK") == []


def test_prep6_nothing_goes_online_unless_it_is_wanted(world: World) -> None:
    add_weather(world)
    world.prepare("weather", WEATHER | {"online": {"enabled": False}})

    assert online(world, "EWR") == []


def test_prep7_what_was_stored_and_what_is_online_give_the_same_lookups(world: World) -> None:
    add_weather(world)
    output = world.prepare("weather", WEATHER)
    world.add_batch("flights", {"origin": ["EWR"], "at": pa.array([HOURS[0]], pa.timestamp("us"))})
    lookup = {"featureSet": "weather", "keys": ["origin"], "asOf": "at", "tolerance": "2h"}
    spec = {"inputs": [{"dataset": "flights"}], "entity": {"keys": ["origin"]}, "lookups": [lookup]}
    (complete,) = world.prepare("flights", spec).manifest.lookups
    stored, streamed = LookupTable(complete), LookupTable(complete)
    stored.load([world.rows(output)])
    for key in ("EWR", "JFK"):
        for row in online(world, key):
            streamed.upsert(row.key, row.timestamp, row.values)

    asked = [(key, int(time) + late) for key in ("EWR", "JFK", "LGA") for time in MICROSECONDS for late in (-1, 0, 1)]
    found = [repr(stored.find((key,), time)) for key, time in asked]
    assert found == [repr(streamed.find((key,), time)) for key, time in asked]
    assert len(set(found)) > 3
