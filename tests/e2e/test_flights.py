"""The flights example: real data from raw files to a served score, and the same bits however a row is scored."""

from __future__ import annotations

import http.client
import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from levada.artifacts import ModelManifest, ScoresManifest, SplitManifest
from levada.engines.local.access import settings_of
from levada.engines.local.home import Home
from levada.names import Kind
from levada.resources import Ref
from levada.stores.open import open_objects
from levada.stores.ports import Objects
from tests.e2e.conftest import EXAMPLES, Demo
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("flights")  # one run serves all of its tests

ROWS_AT_ONCE = 5000
TEST_ROWS = 65_469  # 20 % of the 327,346 flights that arrived


@dataclass(frozen=True)
class Served:
    """The example, run and serving."""

    home: Path
    url: str
    rows: pa.Table  # the request's columns of the test part
    scores: np.ndarray[Any, Any]  # what the ScoringRun gave them


@pytest.fixture(scope="module")
def served(demo: Demo) -> Iterator[Served]:
    folder, home = demo.folder, demo.home
    command: list[str | Path] = [sys.executable, "-m", "levada.cli"]
    command += ["run", "-f", EXAMPLES / "flights", "--serve", "--home", home]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until(lambda: status(home, Kind.SCORING_RUN, "flights-test").get("scores"), process)
        url = until(lambda: status(home, Kind.DEPLOYMENT, "flights-late").get("url"), process)
        with settings_of(home) as settings:
            yield Served(home, url, *batch_scores(open_objects(settings), home))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


def status(home: Path, kind: Kind, name: str) -> dict[str, Any]:
    """The status of a resource; empty as long as there is none."""
    record = Home(home).get(Ref(kind, "default", name))
    return record.resource.status.document() if record is not None else {}


def read(objects: Objects, key: str) -> pa.Table:
    return pq.read_table(io.BytesIO(objects.get(key)))


def batch_scores(objects: Objects, home: Path) -> tuple[pa.Table, np.ndarray[Any, Any]]:
    """The test part's rows as a caller would send them, and their scores from the ScoringRun."""
    scores_prefix = objects.key(status(home, Kind.SCORING_RUN, "flights-test")["scores"]["uri"])
    scores = ScoresManifest.from_bytes(objects.get(f"{scores_prefix}manifest.json"))
    values = pa.concat_tables([read(objects, scores_prefix + file.key) for file in scores.files])["value"]
    best = status(home, Kind.TRAINING_RUN, "flights-late")["best"]["name"]
    model = ModelManifest.from_bytes(objects.get(f"models/default/{best}/manifest.json"))
    assert model.split_prefix is not None
    assert model.features_prefix is not None
    split = SplitManifest.from_bytes(objects.get(f"{model.split_prefix}manifest.json"))
    test = next(part for part in split.parts if part.name == "test")
    assert test.ranges is not None
    prefix = f"{model.features_prefix}rows/"
    version = pa.concat_tables([read(objects, info.key) for info in objects.list(prefix)])
    rows = pa.concat_tables([version.slice(start, stop - start) for start, stop in test.ranges])
    return rows.select([column.name for column in model.request]), values.to_numpy()


def ask(connection: http.client.HTTPConnection, path: str, rows: list[dict[str, Any]]) -> list[float]:
    """The probability of the last class for each row."""
    connection.request("POST", path, json.dumps({"instances": rows}, default=lambda time: time.isoformat()))
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    return [prediction["probabilities"][-1] for prediction in json.loads(body)["predictions"]]


@pytest.fixture
def endpoint(served: Served) -> Iterator[tuple[http.client.HTTPConnection, str]]:
    parts = urlsplit(served.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    yield connection, parts.path.replace("/v2/", "/v1/") + ":predict"
    connection.close()


def test_eval1_the_model_reaches_its_goal_on_the_last_fifth_of_the_year(served: Served) -> None:
    best = status(served.home, Kind.TRAINING_RUN, "flights-late")["best"]

    assert best["metric"] == "rocAuc"
    assert best["value"] >= 0.68
    assert len(served.scores) == TEST_ROWS


@pytest.mark.timeout(1200)  # one by one these are 65,469 requests, beside what the other workers do
@pytest.mark.parametrize("at_once", [1, ROWS_AT_ONCE])
def test_score1_every_test_row_scores_the_same_bits_online_as_in_the_batch(
    served: Served, endpoint: tuple[http.client.HTTPConnection, str], at_once: int
) -> None:
    connection, path = endpoint
    rows = served.rows.to_pylist()

    online = [
        value
        for start in range(0, len(rows), at_once)
        for value in ask(connection, path, rows[start : start + at_once])
    ]

    assert np.array_equal(np.array(online), served.scores)
