"""The two protocols through the whole app, without a network."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from levada.features.types import ColumnType
from levada.resources.dataset import Column
from levada.serving import v2
from levada.serving.app import App, Progress, Served, Version
from levada.serving.config import Limits
from levada.serving.http import Request, Response
from levada.serving.metrics import VersionInfo
from levada.serving.model import ServedModel
from levada.serving.recorder import ScoreIds
from levada.serving.session import Session
from tests.unit.serving import small
from tests.unit.serving.small import ROW, v2_request

INFER, PREDICT = "/v2/models/small/infer", "/v1/models/small:predict"


def app_of(*models: ServedModel, weights: tuple[int, ...] = (100,), rows: int = 100) -> App:
    """An app that serves models as versions 1, 2 … without recording."""
    app = App("small", "default", None)
    versions = {}
    for number, (model, weight) in enumerate(zip(models, weights, strict=True), start=1):
        info = VersionInfo(number, f"small-{number}", model.manifest.onnx.digest, weight, 0.0)
        versions[number] = Version(info, model, v2.Writer(model, "small", number), app.metrics.of(number))
    app.serve(Served(versions, recording=False, record_requests=False, limits=Limits(rows=rows)))
    app.progress = Progress(ready=True, failed={}, waiting={})
    return app


@pytest.fixture(scope="module")
def app() -> App:
    return app_of(small.served())


def call(app: App, target: str, body: bytes | None = None, **headers: str) -> Response:
    kept = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return app.handle(Request(b"GET" if body is None else b"POST", target.encode(), kept, body or b"", True))


def ask(app: App, target: str, document: Any) -> Any:
    response = call(app, target, orjson.dumps(document))
    assert response.status == 200, response.body
    return orjson.loads(response.body)


def refusal(app: App, target: str, body: Any, status: int = 400, **headers: str) -> str:
    response = call(app, target, body if isinstance(body, bytes) else orjson.dumps(body), **headers)
    assert response.status == status, response.body
    document = orjson.loads(response.body)
    assert list(document) == ["error"]
    sentence: str = document["error"]
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


def probability(x: float = 1.5, n: int = 3) -> float:
    """Of ROW, by hand."""
    return 1 / (1 + math.exp(-(0.1 * x + 0.01 * n + 0.5 + 0.25 + 0.02 * 5)))


# --- Open Inference Protocol ------------------------------------------------------------------------------------------


def test_score7_v2_answers_with_all_outputs_and_the_id(app: App) -> None:
    answer = ask(app, INFER, v2_request(ROW, id="abc"))
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("small", "1", "abc")
    label, probabilities = answer["outputs"]
    assert label == {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]}
    assert (probabilities["datatype"], probabilities["shape"]) == ("FP32", [1, 2])
    assert probabilities["data"] == pytest.approx([1 - probability(), probability()])


def test_score7_v2_takes_rows_in_either_shape(app: App) -> None:
    rows = [ROW | {"x": float(i)} for i in range(3)]
    flat = v2_request(*rows)
    nested = v2_request(*rows)
    for tensor in nested["inputs"]:
        tensor["shape"] = [3, 1]
        tensor["data"] = [[value] for value in tensor["data"]]
    answer = ask(app, INFER, flat)
    assert answer == ask(app, INFER, nested)
    assert answer["outputs"][1]["data"][1::2] == pytest.approx([probability(i) for i in range(3)])


def test_score7_v2_takes_and_gives_binary_tensors(app: App) -> None:
    data = {
        "x": ("FP64", struct.pack("<2d", 0, 1)),
        "n": ("INT32", struct.pack("<2i", 3, 3)),
        "flag": ("BOOL", b"\1\1"),
        "text": ("BYTES", b"\1\0\0\0a" * 2),
        "at": ("INT64", struct.pack("<2q", 1_357_016_400, 1_357_016_400)),
        "day": ("BYTES", b"\x0a\0\0\x002013-01-01" * 2),
    }
    inputs = [
        {"name": name, "datatype": datatype, "shape": [2], "parameters": {"binary_data_size": len(raw)}}
        for name, (datatype, raw) in data.items()
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    body = head + b"".join(raw for _, raw in data.values())
    response = call(app, INFER, body, inference_header_content_length=str(len(head)))
    assert (response.status, response.content_type) == (200, b"application/octet-stream")
    ((name, length),) = response.headers
    assert name == b"inference-header-content-length"
    document, raw = orjson.loads(response.body[: int(length)]), response.body[int(length) :]
    label, probabilities = document["outputs"]
    assert label["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(raw[:16], "<i8").tolist() == [1, 1]
    as_json = ask(app, INFER, v2_request(ROW | {"x": 0.0}, ROW | {"x": 1.0}))
    assert np.frombuffer(raw[16:], "<f4").tolist() == as_json["outputs"][1]["data"]
    assert probabilities["shape"] == [2, 2]


def test_score7_v2_gives_only_the_outputs_that_are_asked_for(app: App) -> None:
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    body = orjson.dumps(v2_request(ROW, outputs=wanted))
    response = call(app, INFER, body)
    ((_, length),) = response.headers
    (output,) = orjson.loads(response.body[: int(length)])["outputs"]
    assert (output["name"], output["parameters"]) == ("probabilities", {"binary_data_size": 8})
    answer = ask(app, INFER, v2_request(ROW, outputs=[{"name": "label"}]))
    assert [output["name"] for output in answer["outputs"]] == ["label"]


def test_score7_v2_metadata_shows_what_requests_bring(app: App) -> None:
    answer = orjson.loads(call(app, "/v2/models/small").body)
    assert (answer["name"], answer["versions"], answer["platform"]) == ("small", ["1"], "onnxruntime_onnx")
    assert {column["name"]: column["datatype"] for column in answer["inputs"]} == small.DATATYPES
    assert answer["outputs"][1] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}


def test_score2_a_nullable_column_may_be_null_or_left_out(app: App) -> None:
    without = {name: ROW[name] for name in ("n", "text", "at")}
    nulls = without | {"x": None, "flag": None, "day": None}
    first = ask(app, INFER, v2_request(without))
    assert first == ask(app, INFER, v2_request(nulls))
    expected = 1 / (1 + math.exp(-(0.03 + 0.25 + 0.1 + 0.125)))
    assert first["outputs"][1]["data"][1] == pytest.approx(expected)


def broken(change: dict[str, Any], name: str = "x", **more: Any) -> dict[str, Any]:
    """A request whose tensor `name` is changed; None takes a field away."""
    document = v2_request(ROW, **more)
    for tensor in document["inputs"]:
        if tensor["name"] == name:
            tensor |= change
            for field_name in [key for key, value in change.items() if value is None]:
                del tensor[field_name]
    return document


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is empty; send a JSON object"),
        (b"[1]", "the body is not a JSON object; send {…}"),
        (b'{"inputs": [', "the body ends in the middle of its JSON, at character 12"),
        (b'{"inputs": [1,]}', "the body is not JSON: "),
        (b'{"inputs": "\xff"}', "the body is not JSON: "),
        ({}, "the request has no list 'inputs'"),
        ({"inputs": {}}, "the request has no list 'inputs'"),
        ({"inputs": []}, "the request has no inputs; send one for each of: x, n, flag, text, at, day"),
        ({"inputs": [1]}, "an element of 'inputs' is not an object"),
        ({"inputs": [{}]}, "an element of 'inputs' has no name"),
        (broken({"name": "xx"}), "the model has no column 'xx'; did you mean 'x'?"),
        (broken({"name": "zebra"}), "the model has no column 'zebra'; there is: x, n, flag, text, at, day"),
        (broken({"name": "n"}), "column 'n' is in the request twice; send it once"),
        (broken({"shape": None}), "column 'x' has no shape"),
        (broken({"datatype": None}), "column 'x' has no datatype"),
        (broken({"data": None}), "column 'x' has no list 'data'"),
        (broken({"data": 1}), "column 'x' has no list 'data'"),
        (broken({"shape": []}), "column 'x': the shape [] is neither [N] nor [N, 1]"),
        (broken({"shape": [0]}), "column 'x': the shape [0] is neither [N] nor [N, 1]"),
        (broken({"shape": [1, 2]}), "column 'x': the shape [1,2] is neither [N] nor [N, 1]"),
        (broken({"shape": ["1"]}), "column 'x': the shape [\"1\"] is neither [N] nor [N, 1]"),
        (broken({"shape": [True]}), "column 'x': the shape [true] is neither [N] nor [N, 1]"),
        (broken({"shape": [2], "data": [1, 2]}), "column 'n' has 1 rows, but 'x' has 2; send the same number in all"),
        (broken({"data": [1, 2]}), "column 'x': the shape says 1 rows, but data has 2 values"),
        (broken({"data": []}), "column 'x': the shape says 1 rows, but data has 0 values"),
        (broken({"data": [[1, 2]]}), "row 0: column 'x' takes a number, not [1, 2]"),
        (broken({"data": ["1"]}), "row 0: column 'x' takes a number, not '1'"),
        (broken({"data": [None]}, "n"), "row 0: column 'n' needs a value, but it is null or left out"),
        (
            broken({"datatype": "FP8"}),
            "column 'x': the datatype \"FP8\" is not supported here; send FP64 (or FP32, FP16",
        ),
        (broken({"datatype": "BYTES"}), "column 'x': the datatype \"BYTES\" is not supported here; send FP64"),
        (broken({"datatype": ["FP64"]}), "column 'x': the datatype [\"FP64\"] is not supported here"),
        (
            broken({"datatype": "INT64"}, "text"),
            "column 'text': the datatype \"INT64\" is not supported here; send BYTES",
        ),
        (broken({"parameters": {"binary_data_size": 8}}), "column 'x' has both data and binary_data_size"),
        (broken({"data": None, "parameters": {"binary_data_size": 8}}), "column 'x' has binary_data_size, but the"),
        (broken({"data": None, "parameters": {"binary_data_size": "8"}}), "column 'x': binary_data_size is \"8\""),
        (v2_request(ROW, id=7), "the request's id is not a text"),
        (v2_request(ROW, outputs={}), "'outputs' is not a list"),
        (v2_request(ROW, outputs=[{}]), "an element of 'outputs' has no name"),
        (v2_request(ROW, outputs=[{"name": "labels"}]), "the model has no output 'labels'; did you mean 'label'?"),
        (v2_request(ROW, parameters=[]), "'parameters' is not an object"),
        (v2_request(ROW, parameters={"binary_data_output": 1}), "the parameter 'binary_data_output' is 1; send true"),
        (v2_request({"x": 1.0}), "row 0: column 'n' needs a value, but it is null or left out"),
    ],
)
def test_score2_a_bad_v2_request_gets_one_sentence(app: App, body: Any, sentence: str) -> None:
    assert refusal(app, INFER, body).startswith(sentence)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1.0, NaN]}]}', "column 'x', row 1: "),
        (
            b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [[-Infinity]]}]}',
            "column 'x', row 0: ",
        ),
        (b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1e999]}]}', "column 'x', row 0: "),
        (b'{"instances": [{"x": 1}, {"x": Infinity}]}', "column 'x', row 1: "),
        (b'{"instances": [[0, NaN]]}', "row 0, value 1: "),
        (b'{"instances": [{"x": 1}, {"x": 1}, {"x": +Infinity}]}', "column 'x', row 2: "),
        (b'{"instances": [{"c": "\\"nan"}, {"x": nan}, {"x": +Infinity}, {"x": -inf}]}', "column 'x', row 1: "),
        (b'{"instances": [' + b'{"x": 1},' * 250_000 + b'{"x": NaN}]}', "column 'x', row 250000: "),
        (b'{"id": NaN}', "at character 7 (line 1, column 8): "),
        (
            '{"id": "ünï€😀", "inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [NaN]}]}'.encode(),
            "column 'x', row 0: ",
        ),
        ('{"id": "ünï€😀", "a": NaN}'.encode(), "at character 21 (line 1, column 22): "),
    ],
)
def test_score2_nan_and_infinity_in_json_are_refused_with_their_place(app: App, body: bytes, place: str) -> None:
    target = PREDICT if b"instances" in body else INFER
    assert (
        refusal(app, target, body)
        == f"{place}NaN, Infinity and numbers beyond 1.8e308 are no JSON; send null if it is missing"
    )


def test_score2_a_body_that_ends_too_soon_is_told_so_after_any_text(app: App) -> None:
    assert refusal(app, INFER, '{"id": "ünï€😀"'.encode()).startswith("the body ends in the middle of its JSON")
    assert refusal(app, INFER, '{"id": "ünï€😀" "a"}'.encode()).startswith("the body is not JSON: ")
    assert refusal(app, INFER, b'{"id": "\xff\xfe"}').startswith("the body is not JSON: ")


@pytest.mark.parametrize(
    ("size", "tail", "length", "sentence"),
    [
        (8, b"\0" * 4, None, "column 'x': binary_data_size is 8, but only 4 bytes are left behind the JSON"),
        (4, b"\0" * 8, None, "column 'x': 1 rows of FP64 take 8 bytes, but binary_data_size is 4"),
        (8, b"\0" * 9, None, "9 bytes follow the JSON, but the binary_data_size of the inputs add up to 8"),
        (-8, b"\0" * 8, None, "column 'x': binary_data_size is -8; send the number of bytes"),
        (8, b"\0" * 8, "100000", "Inference-Header-Content-Length is 100000, but the body has only"),
        (8, b"\0" * 8, "minus", "Inference-Header-Content-Length is not a number"),
        (8, b"\0" * 8, "3", "the body ends in the middle of its JSON"),
    ],
)
def test_score2_wrong_binary_lengths_are_refused(
    app: App, size: int, tail: bytes, length: str | None, sentence: str
) -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": size}}
    head = orjson.dumps({"inputs": [tensor]})
    header = str(len(head)) if length is None else length
    assert refusal(app, INFER, head + tail, inference_header_content_length=header).startswith(sentence)


# --- KServe's v1 ----------------------------------------------------------------------------------------------------


def test_score7_v1_takes_rows_as_objects_and_as_lists(app: App) -> None:
    rows = [ROW, ROW | {"x": None}]
    answer = ask(app, PREDICT, {"instances": rows})
    assert answer == ask(app, PREDICT, {"instances": [list(row.values()) for row in rows]})
    assert answer["model_version"] == "1"
    assert answer["predictions"][0]["label"] == 1
    assert answer["predictions"][0]["probabilities"][1] == pytest.approx(probability())
    assert answer["predictions"][1]["probabilities"][1] == pytest.approx(probability(0))


def test_score7_v1_and_v2_give_the_same_scores(app: App) -> None:
    rows = [ROW | {"x": i / 7} for i in range(5)]
    together = ask(app, INFER, v2_request(*rows))["outputs"][1]["data"]
    one_by_one = [ask(app, INFER, v2_request(row))["outputs"][1]["data"] for row in rows]
    v1 = [p["probabilities"] for p in ask(app, PREDICT, {"instances": rows})["predictions"]]
    assert np.ravel(one_by_one).tolist() == together == np.ravel(v1).tolist()


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "the request has no list 'instances'"),
        ({"instances": []}, "the request has no instances; send at least one row"),
        ({"instances": [3]}, "row 0 is 3; send an object"),
        ({"instances": [ROW, "a"]}, "row 1 is 'a'; send an object"),
        ({"instances": [[1, 2]]}, "row 0 has 2 values, but the model takes 6: x, n, flag, text, at, day"),
        ({"instances": [ROW, ROW | {"texts": "a"}]}, "row 1: the model has no column 'texts'; did you mean 'text'?"),
        ({"instances": [ROW, {"texts": "a"}]}, "row 1: the model has no column 'texts'; did you mean 'text'?"),
        ({"instances": [ROW, {}]}, "row 1: column 'n' needs a value, but it is null or left out"),
        ({"instances": [ROW | {"flag": 3}]}, "row 0: column 'flag' takes true or false, not 3"),
        ({"instances": [ROW, ROW | {"at": "noon"}]}, "row 1: column 'at' takes a time such as"),
    ],
)
def test_score2_a_bad_v1_request_gets_one_sentence(app: App, document: Any, sentence: str) -> None:
    assert refusal(app, PREDICT, document).startswith(sentence)


# --- paths, versions, limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status", "sentence"),
    [
        ("/v2/models/other/infer", 404, "there is no model 'other'; this scorer serves 'small'"),
        ("/v1/models/other:predict", 404, "there is no model 'other'; this scorer serves 'small'"),
        ("/v2/models/small/versions/9/infer", 404, "'small' has no version '9'; there is: 1"),
        ("/v1/models/small/versions/x:predict", 404, "'small' has no version 'x'; there is: 1"),
        ("/v3", 404, "there is nothing at '/v3'; try GET /v2/models/small or POST /v2/models/small/infer"),
        ("/v2/models/small/explain", 404, "there is nothing at"),
        ("/v2/models/small", 405, "POST is not allowed here; send a GET"),
        ("/\xff%ff?\x00", 404, "there is nothing at"),
        ("/v1/models/small/versions/1", 405, "POST is not allowed here; send a GET"),
    ],
)
def test_score2_unknown_paths_say_what_there_is(app: App, target: str, status: int, sentence: str) -> None:
    assert refusal(app, target, b"{}", status).startswith(sentence)


def test_score2_scoring_needs_a_post(app: App) -> None:
    response = call(app, INFER)
    assert (response.status, orjson.loads(response.body)) == (405, {"error": "GET is not allowed here; send a POST"})


def test_score7_paths_may_be_escaped_and_have_a_query(app: App) -> None:
    assert call(app, "/v1/models/small%3Apredict?trace=1", orjson.dumps({"instances": [ROW]})).status == 200


def test_score7_a_version_has_a_status_as_tensorflow_serving_gives_it() -> None:
    app = app_of(small.served(), small.served(), weights=(100, 0))
    response = call(app, "/v1/models/small/versions/2")
    state = {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert (response.status, orjson.loads(response.body)) == (200, {"model_version_status": [state]})


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/v2/models/small/versions/2/infer", "version 2 cannot be served yet: its graph is odd; try again later"),
        ("/v1/models/small/versions/3:predict", "version 3 cannot be served yet: S3 is away; try again later"),
        ("/v1/models/small/versions/3", "version 3 cannot be served yet: S3 is away; try again later"),
    ],
)
def test_score2_a_version_that_cannot_be_loaded_is_not_unknown(target: str, why: str) -> None:
    app = app_of(small.served())
    app.progress = Progress(ready=True, failed={2: "its graph is odd"}, waiting={3: "S3 is away"})
    assert refusal(app, target, b"{}", 503) == why


def test_score2_v1_refuses_a_header_that_only_v2_honours(app: App) -> None:
    """It would let more JSON through than is taken, too."""
    sentence = "v1 takes no binary tensors; leave out Inference-Header-Content-Length, or send them over v2"
    assert refusal(app, PREDICT, {"instances": [ROW]}, inference_header_content_length="2") == sentence


def test_score2_ids_of_scores_are_refused_while_none_are_recorded(app: App) -> None:
    sentence = "there is no output 'score_id' while scores are not recorded; leave it out of 'outputs'"
    assert refusal(app, INFER, v2_request(ROW, outputs=[{"name": "score_id"}])) == sentence
    assert refusal(app, INFER, v2_request(ROW, outputs=[{"name": "score_ids"}])).endswith(
        "; there is: label, probabilities"
    )


def test_score2_too_many_rows_are_refused() -> None:
    app = app_of(small.served(), rows=2)
    sentence = "the request has 3 rows, but at most 2 are taken at once; send them in parts"
    assert refusal(app, INFER, v2_request(ROW, ROW, ROW), 413) == sentence
    assert refusal(app, PREDICT, {"instances": [ROW] * 3}, 413) == sentence


def test_score2_a_compressed_body_is_refused(app: App) -> None:
    assert "Content-Encoding 'gzip' is not supported" in refusal(app, INFER, b"\x1f", 415, content_encoding="gzip")


def test_score2_a_version_is_chosen_by_path() -> None:
    app = app_of(small.served(0.1), small.served(0.9), weights=(100, 0))
    first, second = (ask(app, f"/v2/models/small/versions/{v}/infer", v2_request(ROW)) for v in (1, 2))
    assert (first["model_version"], second["model_version"]) == ("1", "2")
    assert first["outputs"] != second["outputs"]
    assert ask(app, INFER, v2_request(ROW)) == first
    answer = ask(app, "/v1/models/small/versions/2:predict", {"instances": [ROW]})
    assert answer["predictions"][0]["probabilities"] == second["outputs"][1]["data"]
    assert orjson.loads(call(app, "/v2/models/small/versions/2").body)["versions"] == ["1", "2"]


def test_dep3_requests_are_shared_out_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(small.served(0.1), small.served(0.9), weights=(30, 70))
    drawn = iter([0.0, 0.2999, 0.3, 0.999])
    monkeypatch.setattr("random.random", lambda: next(drawn))
    monkeypatch.setattr("random._inst.random", lambda: next(drawn), raising=True)
    versions = [ask(app, INFER, v2_request(ROW))["model_version"] for _ in range(4)]
    assert versions == ["1", "1", "2", "2"]


def test_dep3_without_a_weight_only_named_versions_serve() -> None:
    app = app_of(small.served(), weights=(0,))
    assert refusal(app, INFER, v2_request(ROW), 503).startswith("no version serves requests that name none yet")
    ask(app, "/v2/models/small/versions/1/infer", v2_request(ROW))


# --- health and figures -----------------------------------------------------------------------------------------------


def test_score7_health_is_answered_before_and_after_models_are_loaded(app: App) -> None:
    empty = App("small", "default", None)
    assert call(empty, "/v2/health/live").status == 200
    for path in ("/v2/health/ready", "/v2/models/small/ready", "/v1/models/small"):
        assert call(empty, path).status == 503
        assert call(app, path).status == 200
    assert refusal(empty, INFER, b"{}", 503).startswith("no version of 'small' is loaded yet")


def test_score7_a_scorer_that_is_told_to_end_is_alive_but_not_ready() -> None:
    app = app_of(small.served())
    app.draining = True
    assert call(app, "/v2/health/live").status == 200
    assert call(app, "/v2/health/ready").status == 503
    assert call(app, INFER, orjson.dumps(v2_request(ROW))).status == 200


def test_mon1_requests_rows_errors_and_times_are_counted_by_version() -> None:
    app = app_of(small.served(), small.served(), weights=(100, 0))
    ask(app, INFER, v2_request(ROW, ROW))
    ask(app, "/v1/models/small/versions/2:predict", {"instances": [ROW]})
    refusal(app, INFER, b"nonsense")
    refusal(app, "/nowhere", b"", 404)
    text = call(app, "/metrics").body.decode()
    labels = 'namespace="default"'
    for line in (
        f'levada_scorer_requests_total{{code="200",deployment="small",{labels},protocol="v2",version="1"}} 1.0',
        f'levada_scorer_requests_total{{code="400",deployment="small",{labels},protocol="v2",version="1"}} 1.0',
        f'levada_scorer_requests_total{{code="200",deployment="small",{labels},protocol="v1",version="2"}} 1.0',
        f'levada_scorer_rows_total{{deployment="small",{labels},version="1"}} 2.0',
        f'levada_scorer_refused_total{{code="404",deployment="small",{labels}}} 1.0',
        f'levada_scorer_request_seconds_count{{deployment="small",{labels},version="1"}} 1.0',
        f'levada_scorer_weight{{deployment="small",{labels},version="1"}} 100.0',
    ):
        assert line in text.splitlines()


def test_score2_a_fault_inside_is_an_answer_without_a_traceback(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(v2, "read", fail)
    assert refusal(app, INFER, b"{}", 500) == "the scorer failed inside; its log tells more"


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("secret")])
def test_mon1_a_fault_inside_a_version_is_not_blamed_on_the_caller_and_is_counted_with_the_version(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise fault

    app = app_of(small.served())
    monkeypatch.setattr(Session, "run_padded", fail)
    assert refusal(app, PREDICT, {"instances": [ROW]}, 500) == "the scorer failed inside; its log tells more"
    assert refusal(app, INFER, v2_request(ROW, ROW), 500) == "the scorer failed inside; its log tells more"
    assert app.metrics.versions[1].requests == {("v1", 500): 1, ("v2", 500): 1}
    assert not app.metrics.refused


def test_score2_values_that_onnxruntime_refuses_are_the_callers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise InvalidArgument("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : indices element out of data bounds")

    app = app_of(small.served())
    monkeypatch.setattr(Session, "run_padded", refuse)
    sentence = "the model cannot score these values: indices element out of data bounds"
    assert refusal(app, PREDICT, {"instances": [ROW]}) == sentence


# --- ids and bits --------------------------------------------------------------------------------------------------


@dataclass
class _Kept:
    """What a recorder was given."""

    source: str = "scorer-1"
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    state: Any = None

    def record(self, model: ServedModel, version: int, rows: int, values: Any, labels: Any, columns: Any) -> ScoreIds:
        del model
        first = len(self.rows)
        self.rows += [(version, value, label, columns) for value, label in zip(values.tolist(), labels, strict=True)]
        return ScoreIds(self.source, first, rows)

    def record_one(self, model: ServedModel, version: int, values: Any, labels: Any, request: Any) -> ScoreIds:
        return self.record(model, version, 1, values, labels, request)


def test_score2_every_score_has_an_id_in_the_answer() -> None:
    app, kept = app_of(small.served()), _Kept()
    served = app._served
    assert served is not None
    app._recorder = kept  # type: ignore[assignment]
    app.serve(Served(served.versions, recording=True, record_requests=True, limits=served.limits))
    answer = ask(app, INFER, v2_request(ROW, ROW))
    assert answer["outputs"][2] == {
        "name": "score_id",
        "datatype": "BYTES",
        "shape": [2],
        "data": ["scorer-1:0", "scorer-1:1"],
    }
    assert ask(app, PREDICT, {"instances": [ROW]})["score_ids"] == ["scorer-1:2"]
    assert kept.rows[0][1] == answer["outputs"][1]["data"][1]
    assert kept.rows[0][2] == "1"
    assert ask(app, INFER, v2_request(ROW, outputs=[{"name": "score_id"}]))["outputs"][0]["data"] == ["scorer-1:3"]


def test_score7_json_of_the_answer_is_exact() -> None:
    """Numbers in JSON give back the float32 bits of the model."""
    model = small.served()
    bits = model.score_one(list(ROW.values())).outputs[1]
    data = ask(app_of(model), INFER, v2_request(ROW))["outputs"][1]["data"]
    assert np.array(json.loads(json.dumps(data)), np.float32).tobytes() == bits.tobytes()


def test_score2_columns_may_be_of_one_type_only() -> None:
    narrow = small.signature(request=[Column(name="a", type=ColumnType.FLOAT64)])
    asked = v2.read(b'{"inputs":[{"name":"a","datatype":"FP64","shape":[1],"data":[1]}]}', None, narrow, 1)
    assert (asked.rows, asked.columns) == (1, [[1]])
