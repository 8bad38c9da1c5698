"""A scorer as a process: what clients and engines see of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from benchmarks.serving.model import BuiltModel, build, feeds, stage
from levada import names
from levada.features.model import OnnxModel
from levada.serving.config import Limits, ScorerConfig, ScorerVersion
from levada.stores.ports import Objects
from tests.contract.serving.conftest import Scores
from tests.contract.serving.scorers import WAIT, Scorer, config, ids, proxy, version, write
from tests.support.waiting import until
from tests.unit.serving import small
from tests.unit.serving.small import ROW


def test_score2_scores_are_answered_and_recorded_with_their_requests(
    objects: Objects, environment: dict[str, str], path: Path, scores: Scores
) -> None:
    write(path, config(version(objects, 3)))
    with Scorer(path, environment) as scorer:
        scorer.ready()
        answer = scorer.infer(ROW, ROW | {"x": None, "text": "ü"})
        one = scorer.infer(ROW | {"n": 7})
        given = ids(answer) + ids(one)
        rows = until(lambda: found if len(found := scores.rows()) == 3 else None, scorer.process)
        probabilities = answer["outputs"][1]["data"][1::2] + one["outputs"][1]["data"][1::2]
        assert [row["id"] for row in rows] == given
        assert [row["value"] for row in rows] == probabilities
        assert [row["request"] for row in rows] == [ROW, ROW | {"x": None, "text": "ü"}, ROW | {"n": 7}]
        assert {(row["owner"], row["version"], row["candidate"], row["label"]) for row in rows} == {
            ("small", 3, "small-3", "1")
        }
        until(lambda: scorer.metric("scores_recorded_total") == 3, scorer.process)
        assert scorer.end() == 0


def test_score2_requests_are_not_kept_where_that_is_not_wanted(
    objects: Objects, environment: dict[str, str], path: Path, scores: Scores
) -> None:
    write(path, config(version(objects, 1), record_requests=False))
    with Scorer(path, environment) as scorer:
        scorer.ready().infer(ROW)
        (row,) = until(scores.rows, scorer.process)
        assert row["request"] is None
        write(path, config(version(objects, 1), recording=False))
        answer = until(lambda: found if len((found := scorer.infer(ROW))["outputs"]) == 2 else None, scorer.process)
        assert [output["name"] for output in answer["outputs"]] == ["label", "probabilities"]
        assert scorer.end() == 0


def test_score2_without_recording_a_scorer_needs_no_catalogue(
    objects: Objects, environment: dict[str, str], path: Path
) -> None:
    write(path, config(version(objects, 1), recording=False))
    without = {name: value for name, value in environment.items() if name != "LEVADA_POSTGRES_DSN"}
    with Scorer(path, without) as scorer:
        assert len(scorer.ready().infer(ROW)["outputs"]) == 2


@pytest.fixture(scope="module")
def flights() -> BuiltModel:
    return build(rows=3000)


def test_score1_online_scores_have_the_bits_of_the_model_run_over_all_rows(
    flights: BuiltModel, objects: Objects, environment: dict[str, str], path: Path
) -> None:
    """Lookups, derived features and trees: one by one, in a batch, and the graph over the whole."""
    rows = flights.rows[:400]
    prefix = stage(flights, objects)
    served = ScorerVersion(
        version=1, candidate="flights-boosted", model_prefix=prefix, onnx_digest=flights.digest, weight=100
    )
    write(path, ScorerConfig(name="flights", namespace="default", versions=[served], recording=False))
    whole = OnnxModel(flights.onnx).run(feeds(flights.rows, flights.tables))["probabilities"][:400]
    with Scorer(path, environment) as scorer:
        scorer.ready()
        connection = scorer.connect()

        def ask(*instances: dict[str, Any]) -> list[list[float]]:
            connection.request("POST", "/v1/models/flights:predict", json.dumps({"instances": instances}))
            return [row["probabilities"] for row in json.loads(connection.getresponse().read())["predictions"]]

        together = np.array(ask(*rows), np.float32)
        one_by_one = np.array([ask(row)[0] for row in rows], np.float32)
        connection.close()
    assert together.tobytes() == whole.tobytes()
    assert one_by_one.tobytes() == whole.tobytes()


def test_dep1_a_model_may_lie_in_a_local_folder(environment: dict[str, str], path: Path, tmp_path: Path) -> None:
    onnx = small.graph()
    (tmp_path / "model.onnx").write_bytes(onnx)
    (tmp_path / names.MANIFEST).write_bytes(small.manifest(onnx).to_bytes())
    served = ScorerVersion(version=1, candidate="small", folder=tmp_path, onnx_digest=names.digest(onnx), weight=100)
    write(path, config(served))
    with Scorer(path, environment) as scorer:
        assert scorer.ready().infer(ROW)["model_version"] == "1"


def test_score2_a_scorer_is_alive_and_waits_while_the_object_store_is_away(
    objects: Objects, environment: dict[str, str], path: Path
) -> None:
    write(path, config(version(objects, 1)))
    host, _, port = environment["LEVADA_OBJECTS_ENDPOINT"].removeprefix("http://").partition(":")
    with proxy(host, int(port)) as between:
        between.cut()
        elsewhere = environment | {"LEVADA_OBJECTS_ENDPOINT": f"http://127.0.0.1:{between.port}"}
        with Scorer(path, elsewhere) as scorer:
            waiting = until(lambda: scorer.versions()["waiting"], scorer.process)
            assert "does not answer" in waiting["1"]
            assert scorer.get("/v2/health/live")[0] == 200
            assert scorer.get("/v2/health/ready")[0] == 503
            between.mend()
            assert scorer.ready().versions() == {
                "ready": [1],
                "weights": {"1": 100},
                "failed": {},
                "waiting": {},
                "message": "",
            }


MOST_MEMORY = 1024**3  # what the chart gives a scorer


def test_score2_a_scorer_is_alive_while_bodies_of_100_mb_are_sent_and_refused(
    objects: Objects, environment: dict[str, str], path: Path
) -> None:
    """Binary tensors may take so much; JSON may not, as no other request is answered while it is parsed."""
    write(path, config(version(objects, 1), recording=False))
    most = Limits().body_bytes
    head = b"POST /v2/models/small/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
    binary = head + b"Inference-Header-Content-Length: 2\r\n\r\n"
    with Scorer(path, environment) as scorer, ExitStack() as stack:
        scorer.ready()
        whole, waiting, too_large, all_json = (
            stack.enter_context(socket.create_connection(("127.0.0.1", scorer.port), timeout=WAIT)) for _ in range(4)
        )
        whole.sendall(binary % most + b"{}" + b" " * (most - 3))  # all but the last byte
        sent = Thread(target=lambda: waiting.sendall(binary % most + b"[" * most))  # has to wait until there is memory
        sent.start()
        too_large.sendall(binary % (most + 1) + b" " * 1000)
        assert too_large.recv(12) == b"HTTP/1.1 413"
        all_json.sendall(head % most + b'\r\n{"inputs":[{"name":"x","data":[' + b"[]," * 1000)
        assert all_json.recv(12) == b"HTTP/1.1 413"
        assert scorer.get("/v2/health/live") == (200, {"live": True})
        whole.sendall(b" ")
        assert whole.recv(12) == b"HTTP/1.1 400"
        assert waiting.recv(12) == b"HTTP/1.1 400"
        sent.join(WAIT)
        assert scorer.get("/v2/health/live") == (200, {"live": True})
        assert scorer.infer(ROW)["model_version"] == "1"
        assert scorer.peak_memory() < MOST_MEMORY


@pytest.mark.parametrize("element", [b"[]", b'{"":[]}'])
def test_score2_a_scorer_is_alive_while_it_parses_as_much_json_as_it_takes(
    objects: Objects, environment: dict[str, str], path: Path, element: bytes
) -> None:
    write(path, config(version(objects, 1), recording=False))
    start, end = b'{"inputs":[{"name":"x","data":[', element + b"]}]}"
    most = Limits().json_bytes
    body = start + (element + b",") * ((most - len(start) - len(end)) // (len(element) + 1)) + end
    enough = Event()

    def send_over_and_over(scorer: Scorer) -> set[int]:
        """The statuses of the answers."""
        found = set()
        with closing(scorer.connect()) as connection:
            while not enough.is_set():
                connection.request("POST", "/v2/models/small/infer", body)
                response = connection.getresponse()
                found.add(response.status)
                response.read()
        return found

    with Scorer(path, environment) as scorer, ThreadPoolExecutor(4) as pool:
        scorer.ready()
        senders = [pool.submit(send_over_and_over, scorer) for _ in range(4)]
        try:
            for _ in range(5):
                assert scorer.get("/v2/health/live") == (200, {"live": True})
        finally:
            enough.set()
        assert [sender.result() for sender in senders] == [{400}] * 4
        assert scorer.peak_memory() < MOST_MEMORY


UNBALANCED = (
    b'{"name": "a", "namespace": "b", "versions": [{"version": 1, "candidate": "c", "folder": "/", "weight": 7, '
    b'"onnxDigest": "sha256:%s"}]}' % (b"0" * 64)
)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (b"{", "is not valid"),
        (b"{}", "is not valid: name: Field required"),
        (
            b'{"name": "a", "namespace": "b", "versions": []}',
            "is not valid: versions: List should have at least 1 item",
        ),
        (b'{"name": "a", "namespace": "b", "versions": [], "extra": 1}', "is not valid"),
        (
            UNBALANCED,
            "is not valid: it: the weights of the versions must add up to 100, or all be 0 while none has been",
        ),
    ],
)
def test_score2_a_configuration_that_is_not_valid_ends_the_scorer_with_a_sentence(
    path: Path, environment: dict[str, str], document: bytes, sentence: str
) -> None:
    path.write_bytes(document)
    done = start_and_end(path, environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"levada.serving: the configuration {path} {sentence}")
    assert "Traceback" not in done.stderr


def test_score2_recording_without_a_catalogue_is_refused_at_the_start(objects: Objects, path: Path) -> None:
    write(path, config(version(objects, 1)))
    done = start_and_end(path, {"LEVADA_POSTGRES_DSN": ""})
    assert (done.returncode, done.stderr) == (
        2,
        "levada.serving: recording is wanted, but LEVADA_POSTGRES_DSN is not set: set it, or recording to false\n",
    )


def test_score2_a_port_that_is_taken_ends_the_scorer_with_a_sentence(
    objects: Objects, environment: dict[str, str], path: Path
) -> None:
    write(path, config(version(objects, 1)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = start_and_end(path, environment, "--port", str(port))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"levada.serving: cannot listen at 127.0.0.1:{port}: address already in use"


def start_and_end(path: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "levada.serving", "--config", str(path), *arguments],
        env=os.environ | environment | {"LEVADA_SCRATCH": str(path.parent)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_dep3_a_scorer_ends_with_code_0_when_it_is_told_to(
    objects: Objects, environment: dict[str, str], path: Path, ending: int
) -> None:
    write(path, config(version(objects, 1)))
    with Scorer(path, environment) as scorer:
        assert scorer.ready().end(ending) == 0
        assert "Traceback" not in scorer.log
