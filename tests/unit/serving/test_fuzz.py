"""Whatever a client sends, it gets an answer that blames the client, and the next request is answered as well."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.serving.app import App
from tests.unit.serving import small
from tests.unit.serving.small import DATATYPES, ROW, v2_request
from tests.unit.serving.test_protocols import INFER, PREDICT, app_of, ask, call

APP: App = app_of(small.served())
GOOD = orjson.dumps(v2_request(ROW))

texts = st.text(max_size=8) | st.sampled_from(["long\n" * 20_000, "ü" * 3000])
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))
rows = st.fixed_dictionaries(
    {
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "n": st.integers(-(2**53), 2**53),
        "flag": st.none() | st.booleans(),
        "text": st.none() | st.text(st.characters(codec="utf-8"), max_size=6),
        "at": st.none() | st.integers(-(10**9), 10**10),
        "day": st.none() | st.dates().map(str),
    }
)


def assert_blamed_or_answered(target: str, body: bytes, **headers: str) -> None:
    response = call(APP, target, body, **headers)
    if response.status != 200:
        assert 400 <= response.status < 500, response.body
        (sentence,) = orjson.loads(response.body).values()
        assert sentence
        assert "\n" not in sentence
        assert len(sentence) < 2000
    assert call(APP, INFER, GOOD).status == 200


def changed(document: Any, path: list[int], value: Any) -> Any:
    """A copy of a document with another value somewhere in it."""
    if not path or not isinstance(document, dict | list) or not document:
        return value
    if isinstance(document, list):
        place = path[0] % len(document)
        return [*document[:place], changed(document[place], path[1:], value), *document[place + 1 :]]
    name = sorted(document)[path[0] % len(document)]
    return document | {name: changed(document[name], path[1:], value)}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from([INFER, PREDICT]), st.binary(max_size=64), st.none() | st.text(max_size=4) | st.integers(0, 80))
def test_score2_any_bytes_get_an_answer(target: str, body: bytes, length: str | int | None) -> None:
    headers = {} if length is None else {"inference_header_content_length": str(length)}
    assert_blamed_or_answered(target, body, **headers)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), documents)
def test_score2_any_change_to_a_v2_request_gets_an_answer(path: list[int], value: Any) -> None:
    document = changed(v2_request(ROW, ROW, id="a", outputs=[{"name": "label"}]), path, value)
    assert_blamed_or_answered(INFER, orjson.dumps(document))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), documents)
def test_score2_any_change_to_a_v1_request_gets_an_answer(path: list[int], value: Any) -> None:
    assert_blamed_or_answered(PREDICT, orjson.dumps(changed({"instances": [ROW, list(ROW.values())]}, path, value)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(DATATYPES)),
    st.sampled_from(["BOOL", "INT8", "UINT64", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16"]),
    st.integers(-1, 3),
    st.binary(max_size=40),
    st.integers(0, 48),
)
def test_score2_any_binary_tensor_gets_an_answer(name: str, datatype: str, count: int, data: bytes, size: int) -> None:
    tensor = {"name": name, "datatype": datatype, "shape": [count], "parameters": {"binary_data_size": size}}
    others = [t for t in v2_request(*[ROW] * max(count, 1))["inputs"] if t["name"] != name]
    head = orjson.dumps({"inputs": [tensor, *others]})
    assert_blamed_or_answered(INFER, head + data, inference_header_content_length=str(len(head)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(rows, min_size=1, max_size=7))
def test_score1_json_binary_and_v1_give_the_same_bits_together_and_one_by_one(sample: list[dict[str, Any]]) -> None:
    together = ask(APP, INFER, v2_request(*sample))["outputs"][1]["data"]
    v1 = [p["probabilities"] for p in ask(APP, PREDICT, {"instances": sample})["predictions"]]
    alone = [ask(APP, PREDICT, {"instances": [row]})["predictions"][0]["probabilities"] for row in sample]
    assert together == np.ravel(v1).tolist() == np.ravel(alone).tolist()
    if all(row[name] is not None for row in sample for name in ("flag", "text", "day")):
        assert together == binary(sample)


def binary(sample: list[dict[str, Any]]) -> list[float]:
    """The probabilities for rows that are sent as binary tensors."""
    formats = {"x": ("FP64", "d"), "n": ("INT64", "q"), "flag": ("BOOL", "?"), "at": ("FP64", "d")}
    inputs, raw = [], b""
    for name in ROW:
        values = [float("nan") if row[name] is None else row[name] for row in sample]
        if name in formats:
            datatype, code = formats[name]
            data = struct.pack(f"<{len(values)}{code}", *values)
        else:
            datatype, texts = "BYTES", [str(value).encode() for value in values]
            data = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        inputs.append(
            {"name": name, "datatype": datatype, "shape": [len(values)], "parameters": {"binary_data_size": len(data)}}
        )
        raw += data
    head = orjson.dumps({"inputs": inputs})
    response = call(APP, INFER, head + raw, inference_header_content_length=str(len(head)))
    assert response.status == 200, response.body
    probabilities: list[float] = orjson.loads(response.body)["outputs"][1]["data"]
    return probabilities


@pytest.mark.parametrize("depth", [10, 2000, 100_000])
def test_score2_deep_nesting_is_refused(depth: int) -> None:
    assert_blamed_or_answered(INFER, b"[" * depth + b"]" * depth)
    assert_blamed_or_answered(INFER, b'{"inputs":' + b"[" * depth + b"NaN")


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (INFER, v2_request(ROW, outputs=[{"name": "LONG"}])),
        (INFER, {"inputs": [{"name": "LONG"}]}),
        (INFER, {"inputs": [v2_request(ROW)["inputs"][0] | {"datatype": "LONG"}]}),
        (INFER, b'{"inputs": [{"name": "LONG", "datatype": "FP64", "shape": [1], "data": [NaN]}]}'),
        (PREDICT, {"instances": [{"LONG": 1}]}),
        (PREDICT, {"instances": ["LONG"]}),
        (PREDICT, {"instances": [ROW | {"text": 1, "x": "LONG"}]}),
        (PREDICT, b'{"instances": [{"LONG": NaN}]}'),
        (PREDICT, {"instances": [ROW | {"at": f"0001-01-01T00:00:00.{'0' * 10_000}+23:00"}]}),
        ("/v2/models/LONG/infer", b""),
        ("/v2/models/small/versions/LONG/infer", b""),
        ("/LONG%0A", b""),
    ],
)
def test_score2_a_long_text_is_repeated_in_part(target: str, body: Any) -> None:
    long = "labels" * 10_000
    whole = body if isinstance(body, bytes) else orjson.dumps(body)
    assert_blamed_or_answered(target.replace("LONG", long), whole.replace(b"LONG", long.encode()))
    assert_blamed_or_answered(INFER, GOOD, content_encoding=long)
