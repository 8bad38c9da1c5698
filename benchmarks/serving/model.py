"""A model as training makes them: mixed columns, derived features, two lookups, transforms and trees in one graph.

Shaped like the flights example: a request of nine columns, eleven more by lookup, nineteen inputs of the graph.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, compose, helper
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from levada import names
from levada.artifacts import FeatureManifest, LookupColumn, LookupSpec, ModelManifest, Output, StoredFile
from levada.features.types import IR_VERSION, ML_OPSET, OPSET, ColumnType
from levada.resources.dataset import Column
from levada.stores.ports import Objects

CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
ORIGINS = ["EWR", "JFK", "LGA"]
DESTINATIONS = [f"{chr(65 + i % 26)}{chr(65 + i // 26)}X" for i in range(100)]
START = int(datetime(2013, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
HOUR = 3_600_000_000
HOURS = 8_760
PLANES = 3_322
WEATHER = ["temp", "dew_gap", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]

_REQUEST = [
    Column(name="carrier", type=ColumnType.STRING, nullable=False),
    Column(name="flight", type=ColumnType.INT64),
    Column(name="origin", type=ColumnType.STRING, nullable=False),
    Column(name="dest", type=ColumnType.STRING),
    Column(name="tailnum", type=ColumnType.STRING),
    Column(name="time_hour", type=ColumnType.TIMESTAMP, nullable=False),
    Column(name="month", type=ColumnType.INT64, nullable=False),
    Column(name="sched_dep_time", type=ColumnType.INT64, nullable=False),
    Column(name="distance", type=ColumnType.FLOAT64),
]
_LOOKED_UP = [
    Column(name="planes_year", type=ColumnType.INT64),
    Column(name="planes_seats", type=ColumnType.INT64),
    *(Column(name=f"weather_{name}", type=ColumnType.FLOAT64) for name in WEATHER),
]
_INPUTS = [c for c in _REQUEST if c.name not in ("flight", "tailnum")] + _LOOKED_UP


@dataclass(frozen=True)
class BuiltModel:
    """A model, what it looks up (by feature set), and rows to ask it for."""

    onnx: bytes
    manifest: ModelManifest
    tables: dict[str, pa.Table]
    rows: list[dict[str, Any]]

    @property
    def digest(self) -> str:
        return names.digest(self.onnx)


def build(candidate: str = "flights-boosted", algorithm: str = "boostedTrees", rows: int = 30_000) -> BuiltModel:
    """Fit boosted trees (or a logistic regression) on made-up flights; the same call gives the same model."""
    rng = np.random.default_rng(7)
    tables = _tables(rng)
    requests = _requests(rng, rows)
    derived = _feature_graph()
    features = _run(derived.SerializeToString(), feeds(requests, tables))
    late = rng.random(rows) < 1 / (1 + np.exp(1.2 - 4 * features[:, 1] - features[:, 7] - features[:, 16]))
    fitted = (
        HistGradientBoostingClassifier(max_iter=80, max_leaf_nodes=15, min_samples_leaf=200, random_state=0)
        if algorithm == "boostedTrees"
        else LogisticRegression(max_iter=300)
    ).fit(features, late.astype(int))
    graph = _merge(derived, fitted, features)
    data = graph.SerializeToString()
    return BuiltModel(data, _manifest(candidate, algorithm, data), tables, requests)


def build_forest(rows: int = 20_000) -> BuiltModel:
    """A random forest of 100 trees over twenty columns of numbers, without lookups; the same call, the same model."""
    rng = np.random.default_rng(7)
    columns = [Column(name=f"c{i:02d}", type=ColumnType.FLOAT64, nullable=False) for i in range(20)]
    values = rng.normal(size=(rows, len(columns))).astype(np.float32)
    positive = values[:, 0] + values[:, 1] * values[:, 2] + rng.normal(size=rows) > 0
    fitted = RandomForestClassifier(100, max_depth=8, random_state=0).fit(values, positive.astype(int))
    inputs = [helper.make_tensor_value_info(c.name, TensorProto.DOUBLE, [None, 1]) for c in columns]
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(columns)])
    nodes = [
        helper.make_node("Concat", [c.name for c in columns], ["wide"], axis=1),
        helper.make_node("Cast", ["wide"], ["features"], to=TensorProto.FLOAT),
    ]
    derived = helper.make_model(
        helper.make_graph(nodes, "features", inputs, [output]), opset_imports=_opsets(), ir_version=IR_VERSION
    )
    data = _merge(derived, fitted, values).SerializeToString()
    like = _manifest("forest", "randomForest", data)
    manifest = like.model_copy(update={"request": columns, "inputs": columns, "lookups": []})
    names_of = [column.name for column in columns]
    return BuiltModel(data, manifest, {}, [dict(zip(names_of, row, strict=True)) for row in values[:2000].tolist()])


def _tables(rng: np.random.Generator) -> dict[str, pa.Table]:
    planes = pa.table(
        {
            "tailnum": [f"N{i:05d}" for i in range(PLANES)],
            "year": pa.array(rng.integers(1956, 2014, PLANES), mask=rng.random(PLANES) < 0.02),
            "seats": rng.integers(2, 451, PLANES),
        }
    )
    count = len(ORIGINS) * HOURS
    weather: dict[str, Any] = {
        "origin": np.tile(ORIGINS, HOURS),
        "time_hour": pa.array(START + np.repeat(np.arange(HOURS), len(ORIGINS)) * HOUR, pa.timestamp("us", tz="UTC")),
    }
    for name in WEATHER:
        weather[name] = pa.array(rng.normal(50, 20, count).round(2), mask=rng.random(count) < 0.03)
    return {"planes": planes, "weather": pa.table(weather)}


def _requests(rng: np.random.Generator, rows: int) -> list[dict[str, Any]]:
    hours = rng.integers(0, HOURS, rows)
    distances = rng.integers(80, 5000, rows)
    return [
        {
            "carrier": CARRIERS[rng.integers(len(CARRIERS))],
            "flight": int(rng.integers(1, 8500)),
            "origin": ORIGINS[rng.integers(3)],
            "dest": DESTINATIONS[rng.integers(100)],
            "tailnum": f"N{rng.integers(PLANES + 100):05d}",
            "time_hour": datetime.fromtimestamp((START + int(hour) * HOUR) / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "month": int(rng.integers(1, 13)),
            "sched_dep_time": int(rng.integers(5, 24) * 100 + rng.integers(60)),
            "distance": float(distance),
        }
        for hour, distance in zip(hours, distances, strict=True)
    ]


def feeds(rows: list[dict[str, Any]], tables: dict[str, pa.Table]) -> dict[str, np.ndarray[Any, Any]]:
    """The graph's inputs of some rows, made the plain way."""
    if not tables:
        return {name: np.array([row[name] for row in rows], np.float64)[:, None] for name in rows[0]}
    planes = {row.pop("tailnum"): row for row in tables["planes"].to_pylist()}
    weather: dict[Any, dict[str, Any]] = {}
    times = tables["weather"]["time_hour"].cast(pa.int64()).to_pylist()
    for row, time in zip(tables["weather"].drop_columns("time_hour").to_pylist(), times, strict=True):
        weather[row["origin"], time] = row
    columns: dict[str, list[Any]] = {column.name: [] for column in _INPUTS}
    for row in rows:
        time = int(datetime.fromisoformat(row["time_hour"]).timestamp()) * 1_000_000
        plane = planes.get(row["tailnum"], {})
        air = weather.get((row["origin"], time), {})
        found = {f"planes_{n}": plane.get(n) for n in ("year", "seats")} | {f"weather_{n}": air.get(n) for n in WEATHER}
        for name, values in columns.items():
            values.append(time if name == "time_hour" else found[name] if name in found else row[name])
    kinds = {ColumnType.STRING: object, ColumnType.TIMESTAMP: np.int64}
    return {
        c.name: np.array([math.nan if v is None else v for v in columns[c.name]], kinds.get(c.type, np.float64))[
            :, None
        ]
        for c in _INPUTS
    }


def _feature_graph() -> Any:
    """Derivations, imputation, scaling and encoding: the inputs to `features` [N, F] float32, as training builds it."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, kind: int, *values: Any) -> str:
        constants.append(helper.make_tensor(name, kind, [1, len(values)], values))
        return name

    def add(op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def one_hot(source: str, categories: list[str]) -> str:
        encoded = [category.encode() for category in categories]
        hot = add("Equal", [source, constant(f"{source}_categories", TensorProto.STRING, *encoded)], f"{source}_hot")
        return add("Cast", [hot], f"{source}_feature", to=TensorProto.FLOAT)

    # dep_hour = sched_dep_time // 100 + (sched_dep_time % 100) / 60
    hundred = constant("hundred", TensorProto.DOUBLE, 100.0)
    hour = add("Floor", [add("Div", ["sched_dep_time", hundred], "hundredth")], "hour")
    minutes = add("Sub", ["sched_dep_time", add("Mul", [hour, hundred], "whole_hours")], "minutes")
    part = add("Div", [minutes, constant("sixty", TensorProto.DOUBLE, 60.0)], "part")
    dep_hour = add("Add", [hour, part], "dep_hour")
    # weekday of time_hour
    days = add("Div", ["time_hour", constant("day", TensorProto.INT64, 24 * HOUR)], "days")
    weekday = add("Mod", [days, constant("seven", TensorProto.INT64, 7)], "weekday_number")
    weekday = add("Cast", [weekday], "weekday", to=TensorProto.DOUBLE)
    # season: how far the month is from July, and from April
    summer = add("Abs", [add("Sub", ["month", constant("july", TensorProto.DOUBLE, 7.0)], "from_july")], "summer")
    turned = add("Add", ["month", constant("eight", TensorProto.DOUBLE, 8.0)], "month_turned")
    turned = add("Mod", [turned, constant("twelve", TensorProto.DOUBLE, 12.0)], "month_of_turned", fmod=1)
    spring = add("Abs", [add("Sub", [turned, constant("six", TensorProto.DOUBLE, 6.0)], "from_april")], "spring")
    numbers = ["distance", dep_hour, weekday, summer, spring, *(c.name for c in _LOOKED_UP)]
    wide = add("Concat", numbers, "numbers", axis=1)
    medians = constant("medians", TensorProto.DOUBLE, 1000.0, 13.0, 3.0, 3.0, 3.0, *[50.0] * len(_LOOKED_UP))
    filled = add("Where", [add("IsNaN", [wide], "gaps"), medians, wide], "filled")
    floats = add("Cast", [filled], "floats", to=TensorProto.FLOAT)
    offset, scale = [1000.0, 13.0, 3.0, 3.0, 3.0, *[50.0] * len(_LOOKED_UP)], [1 / 20] * len(numbers)
    scaled = add("Scaler", [floats], "scaled", "ai.onnx.ml", offset=offset, scale=scale)
    frequencies = [1 / (place + 2) for place in range(len(DESTINATIONS))]
    keys: dict[str, Any] = {"keys_strings": DESTINATIONS, "values_floats": frequencies, "default_float": 0.0}
    dest = add("LabelEncoder", ["dest"], "dest_feature", "ai.onnx.ml", **keys)
    add("Concat", [scaled, dest, one_hot("carrier", CARRIERS), one_hot("origin", ORIGINS)], "features", axis=1)
    kinds = {ColumnType.STRING: TensorProto.STRING, ColumnType.TIMESTAMP: TensorProto.INT64}
    inputs = [helper.make_tensor_value_info(c.name, kinds.get(c.type, TensorProto.DOUBLE), [None, 1]) for c in _INPUTS]
    width = len(numbers) + 1 + len(CARRIERS) + len(ORIGINS)
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])
    graph = helper.make_graph(nodes, "features", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=_opsets(), ir_version=IR_VERSION)


def _merge(derived: Any, fitted: Any, features: np.ndarray[Any, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # skl2onnx hands numpy's numbers to protobuf
        opsets = {"": OPSET, "ai.onnx.ml": ML_OPSET}
        model = to_onnx(fitted, features[:1], target_opset=opsets, options={"zipmap": False})
    model.ir_version = derived.ir_version
    del model.opset_import[:]
    model.opset_import.extend(_opsets())
    names_of = {model.graph.output[0].name: "label", model.graph.output[1].name: "probabilities"}
    for node in model.graph.node:
        node.output[:] = [names_of.get(name, name) for name in node.output]
        node.input[:] = [names_of.get(name, name) for name in node.input]
    for output in model.graph.output:
        output.name = names_of[output.name]
    return compose.merge_models(derived, model, io_map=[("features", model.graph.input[0].name)])


def _opsets() -> list[Any]:
    return [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]


def _run(graph: bytes, feeds: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["features"], feeds)[0])


def _manifest(candidate: str, algorithm: str, data: bytes) -> ModelManifest:
    def spec(feature_set: str, on: list[str], keys: list[str], columns: list[Column], **more: Any) -> LookupSpec:
        return LookupSpec(
            feature_set=feature_set,
            namespace="default",
            version=f"features-{feature_set}",
            prefix=names.features_prefix("default", feature_set, f"features-{feature_set}"),
            on=on,
            keys=keys,
            key_types=[ColumnType.STRING] * len(keys),
            columns=[
                LookupColumn(source=c.name.removeprefix(f"{feature_set}_"), name=c.name, type=c.type) for c in columns
            ],
            **more,
        )

    return ModelManifest(
        candidate=candidate,
        namespace="default",
        task="classification",
        algorithm="boosted",
        type=algorithm,
        onnx=StoredFile(key="model.onnx", bytes=len(data), digest=names.digest(data)),
        request=_REQUEST,
        lookups=[
            spec("planes", ["tailnum"], ["tailnum"], _LOOKED_UP[:2]),
            spec(
                "weather",
                ["origin"],
                ["origin"],
                _LOOKED_UP[2:],
                as_of="time_hour",
                timestamp="time_hour",
                tolerance_seconds=3 * 3600.0,
            ),
        ],
        inputs=_INPUTS,
        outputs=[
            Output(name="label", kind="label", type="int64"),
            Output(name="probabilities", kind="probabilities", type="float", width=2),
        ],
        classes=[0, 1],
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def stage(model: BuiltModel, objects: Objects) -> str:
    """Put a model and what it looks up where a scorer finds them; the model's prefix."""
    for spec in model.manifest.lookups:
        sink = io.BytesIO()
        pq.write_table(model.tables[spec.feature_set], sink)
        data = sink.getvalue()
        objects.put(f"{spec.prefix}rows/part-00000.parquet", data)
        manifest = FeatureManifest(
            version=spec.version,
            namespace=spec.namespace,
            feature_set=spec.feature_set,
            columns=[],
            keys=spec.keys,
            timestamp=spec.timestamp,
            rows=model.tables[spec.feature_set].num_rows,
            files=[StoredFile(key="rows/part-00000.parquet", bytes=len(data), digest=names.digest(data))],
            inputs=[],
            created_at=model.manifest.created_at,
        )
        objects.put(spec.prefix + names.MANIFEST, manifest.to_bytes())
    prefix = names.model_prefix("default", model.manifest.candidate)
    objects.put(f"{prefix}model.onnx", model.onnx)
    objects.put(prefix + names.MANIFEST, model.manifest.to_bytes())
    return prefix
