"""Versions change while requests are served."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from levada import names
from levada.artifacts import FeatureManifest, LookupColumn, LookupSpec, StoredFile
from levada.features.types import ColumnType
from levada.serving import lookups
from levada.serving.config import GivenUp, ScorerVersion
from levada.settings import Settings
from levada.stores.open import open_online
from levada.stores.ports import Objects, OnlineFeatures, OnlineRow
from tests.contract.serving.scorers import Scorer, config, stage, version, write
from tests.support.waiting import until
from tests.unit.serving import small
from tests.unit.serving.small import ROW


@contextmanager
def asking(scorer: Scorer, count: int = 3) -> Iterator[list[str]]:
    """Clients that go on asking while the block runs; the versions that answered. A failed request fails the block."""
    answered: list[str] = []
    failed: list[BaseException] = []
    ended = threading.Event()

    def ask() -> None:
        connection = scorer.connect()
        try:
            while not ended.is_set():
                answered.append(scorer.infer(ROW, connection=connection)["model_version"])
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failed


def test_dep3_versions_are_switched_under_load_without_a_failed_request(
    objects: Objects, environment: dict[str, str], path: Path
) -> None:
    first, second = version(objects, 1), version(objects, 2, 0.9)
    write(path, config(first))
    with Scorer(path, environment) as scorer, asking(scorer.ready()) as answered:
        until(lambda: len(answered) > 50, scorer.process)
        assert set(answered) == {"1"}
        write(path, config(first.model_copy(update={"weight": 0}), second))
        until(lambda: "2" in answered[-20:], scorer.process)
        switched = answered.index("2")
        assert scorer.infer(ROW, path="/versions/1")["model_version"] == "1"
        until(lambda: len(answered) > switched + 100, scorer.process)
        assert set(answered[switched + 10 :]) == {"2"}
        write(path, config(second))
        until(lambda: scorer.versions()["ready"] == [2], scorer.process)


def test_dep3_weights_share_out_requests_and_change_without_loading(
    objects: Objects, environment: dict[str, str], path: Path
) -> None:
    first, second = version(objects, 1, weight=50), version(objects, 2, 0.9, weight=50)
    write(path, config(first, second))
    with Scorer(path, environment) as scorer:
        with asking(scorer.ready()) as answered:
            until(lambda: {"1", "2"} <= set(answered), scorer.process)
        loaded = scorer.metric("loaded_timestamp_seconds")
        write(path, config(*(v.model_copy(update={"weight": w}) for v, w in ((first, 0), (second, 100)))))
        until(lambda: scorer.versions()["weights"] == {"1": 0, "2": 100}, scorer.process)
        assert {scorer.infer(ROW)["model_version"] for _ in range(10)} == {"2"}
        assert scorer.metric("loaded_timestamp_seconds") == loaded


def broken(objects: Objects, how: str) -> ScorerVersion:
    """Version 2, which cannot be served."""
    good = version(objects, 2)
    prefix = good.model_prefix or ""
    if how == "digest":
        return good.model_copy(update={"onnx_digest": names.digest(b"other")})
    if how == "missing":
        objects.delete_prefix(prefix)
        return good
    if how == "manifest":
        objects.put(prefix + names.MANIFEST, b'{"candidate": "small"}')
        return good
    onnx = {"corrupt": small.graph()[:-50], "inputs": small.graph(extra=["unheard_of"])}.get(how, small.graph())
    label, probabilities = small.OUTPUTS
    outputs = {
        "outputs": [label.model_copy(update={"name": "z"})],
        "types": [label.model_copy(update={"type": "string"})],
    }
    more: dict[str, Any] = {"outputs": [*outputs[how], probabilities]} if how in outputs else {}
    stage(objects, onnx, small.manifest(onnx, "small-2", **more))
    return good.model_copy(update={"onnx_digest": names.digest(onnx)})


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("digest", "model.onnx has the digest sha256:"),
        ("missing", "there is no object s3://"),
        ("manifest", "its manifest is not valid: namespace: Field required"),
        ("corrupt", "the file is not an ONNX model"),
        ("inputs", "the graph's input 'unheard_of' is in neither the request nor a lookup of the manifest"),
        ("outputs", "the manifest's output 'z' is not in the graph, which has ['label', 'probabilities']"),
        ("types", "the output 'label' is of type int64, but the manifest says string"),
    ],
)
def test_dep3_a_version_that_cannot_be_served_leaves_the_old_one_serving_and_is_reported(
    objects: Objects, environment: dict[str, str], path: Path, how: str, sentence: str
) -> None:
    first = version(objects, 1)
    write(path, config(first))
    with Scorer(path, environment) as scorer, asking(scorer.ready()) as answered:
        write(path, config(first.model_copy(update={"weight": 0}), broken(objects, how)))
        failed = until(lambda: scorer.versions()["failed"], scorer.process)
        assert failed["2"].startswith(sentence)
        assert scorer.versions()["weights"] == {"1": 100}
        assert scorer.get("/v2/health/ready")[0] == 200
        assert scorer.metric("reloads_failed_total") > 0
        write(path, config(first.model_copy(update={"weight": 0}), version(objects, 3)))
        until(lambda: "3" in answered, scorer.process)
        assert set(answered) == {"1", "3"}
        until(lambda: scorer.versions()["failed"] == {}, scorer.process)


def test_dep3_a_spare_version_that_cannot_be_loaded_keeps_no_other_from_serving(
    objects: Objects, environment: dict[str, str], path: Path
) -> None:
    write(path, config(version(objects, 1), broken(objects, "missing").model_copy(update={"weight": 0})))
    with Scorer(path, environment) as scorer:
        assert scorer.ready().versions()["ready"] == [1]
        assert list(scorer.versions()["failed"]) == ["2"]
        version(objects, 2)
        until(lambda: scorer.versions()["ready"] == [1, 2], scorer.process)
        until(lambda: scorer.versions()["failed"] == {}, scorer.process)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (b'{"name": ', "is not valid"),
        (b"", "is not valid"),
        (None, "cannot be read: No such file or directory"),
        ("renamed", "name changed to 'other'; a scorer serves one Deployment, start another one"),
    ],
)
def test_dep3_a_configuration_that_is_not_valid_leaves_the_old_one_serving(
    objects: Objects, environment: dict[str, str], path: Path, document: bytes | str | None, sentence: str
) -> None:
    first = config(version(objects, 1))
    write(path, first)
    with Scorer(path, environment) as scorer:
        scorer.ready()
        if document is None:
            path.unlink()
        else:
            write(path, document if isinstance(document, bytes) else first.model_copy(update={"name": "other"}))
        message = until(lambda: scorer.versions()["message"], scorer.process)
        assert sentence in message
        assert scorer.infer(ROW)["model_version"] == "1"
        write(path, config(version(objects, 2)))
        until(lambda: scorer.versions()["ready"] == [2], scorer.process)
        until(lambda: scorer.versions()["message"] == "", scorer.process)


def test_dep3_the_signal_to_look_again_is_heard(objects: Objects, environment: dict[str, str], path: Path) -> None:
    write(path, config(version(objects, 1), broken(objects, "missing").model_copy(update={"weight": 0})))
    with Scorer(path, environment) as scorer:
        scorer.ready()
        version(objects, 2)
        scorer.process.send_signal(signal.SIGHUP)
        until(lambda: scorer.versions()["ready"] == [1, 2], scorer.process)


def lookup(objects: Objects, online: bool) -> LookupSpec:
    """A lookup of `bonus` by text, with one row in its stored version."""
    prefix = names.features_prefix("default", "bonuses", "features-1")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"word": ["a"], "bonus": [1.0]}), sink)
    data = sink.getvalue().to_pybytes()
    objects.put(f"{prefix}rows/part-00000.parquet", data)
    manifest = FeatureManifest(
        version="features-1",
        namespace="default",
        feature_set="bonuses",
        columns=[],
        keys=["word"],
        rows=1,
        files=[StoredFile(key="rows/part-00000.parquet", bytes=len(data), digest=names.digest(data))],
        inputs=[],
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    objects.put(prefix + names.MANIFEST, manifest.to_bytes())
    return LookupSpec(
        feature_set="bonuses",
        namespace="default",
        version="features-1",
        prefix=prefix,
        on=["text"],
        keys=["word"],
        key_types=[ColumnType.STRING],
        columns=[LookupColumn(source="bonus", name="bonus", type=ColumnType.FLOAT64)],
        online=online,
    )


@pytest.mark.anyio
async def test_prep6_a_row_of_the_online_store_changes_the_next_score(
    objects: Objects, settings: Settings, environment: dict[str, str], path: Path
) -> None:
    onnx = small.graph(extra=["bonus"])
    prefix = stage(objects, onnx, small.manifest(onnx, lookups=[lookup(objects, online=True)]))
    served = ScorerVersion(
        version=1, candidate="small", model_prefix=prefix, onnx_digest=names.digest(onnx), weight=100
    )
    online = open_online(settings)
    await online.put("default", "bonuses", "features-1", [OnlineRow(("b",), None, {"bonus": 2.0})])
    write(path, config(served))
    with Scorer(path, environment) as scorer:
        scorer.ready()

        def score(text: str) -> float:
            answer: float = scorer.infer(ROW | {"text": text})["outputs"][1]["data"][1]
            return answer

        stored, before, unknown = score("a"), score("b"), score("zz")
        assert stored > unknown
        assert before > unknown
        await online.put("default", "bonuses", "features-1", [OnlineRow(("b",), None, {"bonus": -2.0})])
        until(lambda: score("b") < unknown, scorer.process)
        assert score("a") == stored
    await online.close()


@pytest.mark.anyio
async def test_prep6_rows_of_the_online_store_that_do_not_fit_keep_no_other_from_being_found(
    objects: Objects, settings: Settings, environment: dict[str, str], path: Path
) -> None:
    """As they are there after a feature set was edited: other keys, other types."""
    onnx = small.graph(extra=["bonus"])
    prefix = stage(objects, onnx, small.manifest(onnx, lookups=[lookup(objects, online=True)]))
    served = ScorerVersion(
        version=1, candidate="small", model_prefix=prefix, onnx_digest=names.digest(onnx), weight=100
    )
    online = open_online(settings)
    odd = [OnlineRow(("a", "b"), None, {"bonus": -5.0}), OnlineRow(("b",), None, {"bonus": "many"})]
    await online.put("default", "bonuses", "features-1", [*odd, OnlineRow(("c",), None, {"bonus": 2.0})])
    await online.close()
    write(path, config(served))
    with Scorer(path, environment) as scorer:
        scorer.ready()
        stored, unknown, fitting = (
            scorer.infer(ROW | {"text": text})["outputs"][1]["data"][1] for text in ("a", "b", "c")
        )
        assert stored > unknown
        assert fitting > unknown
        assert scorer.metric("online_rows_left_out_total") == 2
        assert scorer.log.count("does not fit the lookup and is left out") == 1
        assert "Traceback" not in scorer.log


@pytest.mark.anyio
async def test_prep6_an_online_lookup_goes_on_after_a_fault_inside(
    objects: Objects, settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "RETRY_SECONDS", 0.0)
    faults = [RuntimeError("a fault")]

    def open_later() -> OnlineFeatures:
        if faults:
            raise faults.pop()
        return open_online(settings)

    online = open_online(settings)
    await online.put("default", "bonuses", "features-1", [OnlineRow(("b",), None, {"bonus": 2.0})])
    await online.close()
    tables = lookups.Tables(lambda: objects, open_later, Counter())
    table = tables.get(lookup(objects, online=True))
    assert not faults
    assert (table.find(("a",)), table.find(("b",))) == ((1.0,), (2.0,))
    tables.retain([])


def test_dep3_while_draining_a_scorer_says_that_it_is_not_ready_and_goes_on_answering(
    objects: Objects, environment: dict[str, str], path: Path
) -> None:
    write(path, config(version(objects, 1), drain_seconds=600))
    with Scorer(path, environment) as scorer:
        scorer.ready().process.send_signal(signal.SIGTERM)
        until(lambda: scorer.get("/v2/health/ready")[0] == 503, scorer.process)
        assert scorer.get("/v2/health/live")[0] == 200
        connection = scorer.connect()
        connection.request("GET", "/v2/models/small")
        response = connection.getresponse()
        assert (response.status, response.headers["Connection"]) == (200, "close")
        response.read()
        connection.close()
        assert scorer.infer(ROW)["model_version"] == "1"


def test_dep1_a_scorer_in_a_pod_is_told_by_its_environment_and_reads_a_folder(
    objects: Objects, environment: dict[str, str], path: Path, tmp_path: Path
) -> None:
    told = in_folder(version(objects, 1), objects, tmp_path / "models")
    with in_pod(path, environment, told) as scorer:
        scorer.ready()
        assert scorer.infer(ROW)["model_version"] == "1"


def test_dep3_a_scorer_that_can_serve_nothing_gives_up_and_leaves_the_reason(
    objects: Objects, environment: dict[str, str], path: Path, tmp_path: Path
) -> None:
    told = in_folder(version(objects, 1), objects, tmp_path / "models")
    (tmp_path / "models" / "model.onnx").write_bytes(b"else")
    left = tmp_path / "termination-log"
    with in_pod(path, environment | {"LEVADA_TERMINATION_LOG": str(left)}, told) as scorer:
        assert scorer.process.wait(60) == 3
    why = GivenUp.from_bytes(left.read_bytes())
    assert list(why.failed) == [1]
    assert "has the digest" in why.failed[1]


def test_dep3_a_spare_version_that_cannot_be_loaded_is_no_reason_to_give_up(
    objects: Objects, environment: dict[str, str], path: Path, tmp_path: Path
) -> None:
    first = in_folder(version(objects, 1), objects, tmp_path / "models")
    spare = first.model_copy(update={"version": 2, "folder": tmp_path / "nowhere", "weight": 0})
    with in_pod(path, environment, first, spare) as scorer:
        scorer.ready()
        assert scorer.versions()["ready"] == [1]


def in_pod(path: Path, environment: dict[str, str], *versions: ScorerVersion) -> Scorer:
    """A scorer as its pod runs it: told by its environment, and giving up where it can serve nothing."""
    told = {"LEVADA_SCORER_CONFIG": config(*versions).to_bytes().decode()}
    return Scorer(path, environment | told, options=["--give-up"])


def in_folder(version: ScorerVersion, objects: Objects, folder: Path) -> ScorerVersion:
    """The version as KServe brings it: its files in a folder."""
    folder.mkdir()
    for name in ("model.onnx", names.MANIFEST):
        (folder / name).write_bytes(objects.get(f"{version.model_prefix}{name}"))
    return version.model_copy(update={"folder": folder, "model_prefix": None})
