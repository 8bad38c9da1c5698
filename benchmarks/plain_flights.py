"""The flights pipeline as a data scientist would write it by hand: the twin of `levada run -f examples/flights`.

DuckDB joins, scikit-learn fits, skl2onnx converts, onnxruntime measures and scores. It does the same work on the same
files: raw CSV to Parquet, features with both look-ups, the same two models with the same settings, ONNX checked against
the fitted model on all rows, the metrics of the example's evaluators, scores of the test part as Parquet. It keeps no
history, serves nothing and starts no server.

`python -m benchmarks.plain_flights DATA OUTPUT`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.calibration import calibration_curve
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

TEXTS = ["carrier", "origin", "dest"]
NUMBERS = [
    "distance",
    "dep_hour",
    "weekday",
    "summer",
    "spring",
    "planes_year",
    "planes_seats",
    "temp",
    "dew_gap",
    "humid",
    "wind_dir",
    "wind_speed",
    "precip",
    "pressure",
    "visib",
]
FEATURES_SQL = """
WITH f AS (
    SELECT carrier, flight, origin, dest, tailnum, time_hour, month, sched_dep_time, distance,
           arr_delay > 15 AS late,
           sched_dep_time // 100 + (sched_dep_time % 100) / 60.0 AS dep_hour, isodow(time_hour) AS weekday,
           abs(month - 7) AS summer, abs((month + 8) % 12 - 6) AS spring
    FROM flights WHERE arr_delay IS NOT NULL
), w AS (
    SELECT origin, time_hour, temp, temp - dewp AS dew_gap, humid, wind_dir, wind_speed, wind_gust, precip, pressure,
           visib
    FROM weather
)
SELECT f.*, p.year AS planes_year, p.seats AS planes_seats,
       CASE WHEN w.time_hour >= f.time_hour - INTERVAL 3 HOUR THEN w.temp END AS temp,
       CASE WHEN w.time_hour >= f.time_hour - INTERVAL 3 HOUR THEN w.dew_gap END AS dew_gap,
       CASE WHEN w.time_hour >= f.time_hour - INTERVAL 3 HOUR THEN w.humid END AS humid,
       CASE WHEN w.time_hour >= f.time_hour - INTERVAL 3 HOUR THEN w.wind_dir END AS wind_dir,
       CASE WHEN w.time_hour >= f.time_hour - INTERVAL 3 HOUR THEN w.wind_speed END AS wind_speed,
       CASE WHEN w.time_hour >= f.time_hour - INTERVAL 3 HOUR THEN w.wind_gust END AS wind_gust,
       CASE WHEN w.time_hour >= f.time_hour - INTERVAL 3 HOUR THEN w.precip END AS precip,
       CASE WHEN w.time_hour >= f.time_hour - INTERVAL 3 HOUR THEN w.pressure END AS pressure,
       CASE WHEN w.time_hour >= f.time_hour - INTERVAL 3 HOUR THEN w.visib END AS visib
FROM f
LEFT JOIN planes p USING (tailnum)
ASOF LEFT JOIN w ON f.origin = w.origin AND f.time_hour >= w.time_hour
ORDER BY f.time_hour, f.carrier, f.flight, f.origin
"""


def ingest(data: Path, output: Path) -> duckdb.DuckDBPyConnection:
    """Raw files to Parquet."""
    connection = duckdb.connect()
    for name, pattern in (("flights", "flights/*.csv.gz"), ("weather", "weather.csv.gz"), ("planes", "planes.csv.gz")):
        connection.execute(
            f"COPY (SELECT * FROM read_csv('{data}/{pattern}', nullstr=['', 'NA'], sample_size=-1)) "
            f"TO '{output}/{name}.parquet' (COMPRESSION zstd)"
        )
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM '{output}/{name}.parquet'")
    return connection


def pipeline(model: HistGradientBoostingClassifier | LogisticRegression) -> Pipeline:
    """The example's transforms before a model; destinations by number, as scikit-learn has no frequency encoder."""
    gust = make_pipeline(SimpleImputer(strategy="constant", fill_value=0.0), StandardScaler())
    return make_pipeline(
        ColumnTransformer(
            [
                ("few", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["carrier", "origin"]),
                ("many", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["dest"]),
                ("gust", gust, ["wind_gust"]),
                ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
            ],
        ),
        model,
    )


def main(data: Path, output: Path) -> None:
    """Run it all; models, scores and metrics.json lie in `output` afterwards."""
    output.mkdir(parents=True, exist_ok=True)
    connection = ingest(data, output)
    rows = connection.sql(FEATURES_SQL).to_arrow_table()
    pq.write_table(rows, output / "features.parquet", compression="zstd")
    label = rows["late"].to_numpy().astype(np.int64)
    features = rows.select([*TEXTS, "wind_gust", *NUMBERS]).to_pandas()
    features = features.astype(dict.fromkeys(("wind_gust", *NUMBERS), np.float32))
    feed = {name: features[[name]].to_numpy() for name in features.columns}
    types = {name: StringTensorType if name in TEXTS else FloatTensorType for name in features.columns}
    inputs = [(name, type([None, 1])) for name, type in types.items()]
    cut = int(len(label) * 0.8)
    metrics: dict[str, dict[str, float]] = {}
    scores: dict[str, np.ndarray] = {}
    models = {
        "boosted": HistGradientBoostingClassifier(
            max_iter=80,
            learning_rate=0.1,
            max_leaf_nodes=15,
            min_samples_leaf=500,
            early_stopping=False,
            random_state=7,
        ),
        "logistic": LogisticRegression(max_iter=100, tol=0.001),
    }
    for name, model in models.items():
        fitted = pipeline(model).fit(features[:cut], label[:cut])
        onnx = to_onnx(fitted, initial_types=inputs, options={"zipmap": False}, target_opset={"": 18, "ai.onnx.ml": 3})
        (output / f"{name}.onnx").write_bytes(onnx.SerializeToString())
        session = ort.InferenceSession(output / f"{name}.onnx", providers=["CPUExecutionProvider"])
        scores[name] = session.run(None, feed)[1][:, 1]
        expected = fitted.predict_proba(features)[:, 1]
        test, truth = scores[name][cut:], label[cut:]
        precision_recall_curve(truth, test)
        roc_curve(truth, test)
        calibration_curve(truth, test, n_bins=10)
        confusion_matrix(truth, test > 0.5)
        metrics[name] = {
            "rocAuc": float(roc_auc_score(truth, test)),
            "prAuc": float(average_precision_score(truth, test)),
            "logLoss": float(log_loss(truth, test)),
            "brier": float(brier_score_loss(truth, test)),
            "parity": float(np.abs(scores[name] - expected).max()),
        }
    best = max(metrics, key=lambda name: metrics[name]["rocAuc"])
    keys = rows.select(["carrier", "flight", "origin", "time_hour"]).slice(cut)
    pq.write_table(keys.append_column("value", pa.array(scores[best][cut:])), output / "scores.parquet")
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
