"""YAML is read as kubectl reads it (what Go's library makes of each text was tried and written down here)."""

from __future__ import annotations

from typing import Any

import pytest

from levada.resources.documents import DocumentError, parse

KUBECTL: dict[str, Any] = {
    "on": True,
    "off": False,
    "y": True,
    "n": False,
    "Yes": True,
    "NO": False,
    "True": True,
    "tRUE": "tRUE",
    "~": None,
    "Null": None,
    "": None,
    ".5": 0.5,
    "-.5": -0.5,
    "0.": 0,
    "1.0": 1,
    "1e-3": 0.001,
    "1e3": 1000,
    "1.e+3": 1000,
    "-1.5E+2": -150,
    "1e400": "1e400",
    "e5": "e5",
    "1.2.3": "1.2.3",
    "+5": 5,
    "-0": 0,
    "08": 8,
    "017": 15,
    "-017": -15,
    "0o17": 15,
    "0x1F": 31,
    "0b11": 3,
    "-0b1": -1,
    "0b2": "0b2",
    "0x": "0x",
    "1_000": 1000,
    "1__0": 10,
    "_1": "_1",
    "1_0.5": 10.5,
    "9007199254740993": 9007199254740993,
    "18446744073709551615": 18446744073709551615,
    "-9223372036854775808": -9223372036854775808,
    "18446744073709551616": 18446744073709551616.0,
    "-9223372036854775809": -9223372036854775809.0,
    "99999999999999999999": 1e20,
    "0x10000000000000000": "0x10000000000000000",
    "9" * 300: 1e300,
    "9" * 5000: "9" * 5000,
    "0x_": "0x_",
    "0b_": "0b_",
    "-0o_": "-0o_",
    "0_": 0,
    "0x_1": 1,
    "12:30": "12:30",
    "190:20:30": "190:20:30",
    "2024-01-01": "2024-01-01",
    "2024-01-01T00:00:00Z": "2024-01-01T00:00:00Z",
    "=": "=",
    "a b": "a b",
    '"5"': "5",
    '"\\ud83d\\ude00"': "\U0001f600",
    "'y'": "y",
    "!!str 5": "5",
    '!!int "5"': 5,
    "!!float 5": 5,
    '!!bool "yes"': True,
    "!foo 5": "5",
    "[1, on]": [1, True],
    "{a: yes}": {"a": True},
    "|\n  text\n": "text\n",
}


@pytest.mark.parametrize("text", KUBECTL)
def test_k8s1_values_are_what_kubectl_takes_them_for(text: str) -> None:
    (document,) = parse(f"a: {text}\n")
    assert document.data == {"a": KUBECTL[text]}
    assert type(document.data["a"]) is type(KUBECTL[text])


@pytest.mark.parametrize(
    ("key", "expected"), [("5", "5"), ("true", "true"), ("'on'", "on"), ("1.50", "1.50"), ("~", "~")]
)
def test_k8s1_keys_are_text(key: str, expected: str) -> None:
    (document,) = parse(f"{key}: 1\n")
    assert document.data == {expected: 1}


@pytest.mark.parametrize("key", ["on", "off", "y", "n", "yes", "No"])
def test_k8s1_keys_that_kubectl_takes_for_booleans_are_refused(key: str) -> None:
    with pytest.raises(DocumentError, match=f"the key {key} means (true|false) to kubectl"):
        list(parse(f"a:\n  {key}: 1\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a:\n  b: ["x\\ud800"]\n', r"a.b\[0\]: \\ud800 is half of a character; write the character itself"),
        ('a:\n  "\\udc00": 1\n', r"a: \\udc00 is half of a character"),
        ('a:\n  b: "\\U00110000"\n', "this is not YAML: found an escape of no character"),
        ('a:\n  b: "\\UFFFFFFFF"\n', "this is not YAML: found an escape of no character"),
    ],
)
def test_k8s1_escapes_of_no_character_are_refused_with_their_line(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as refused:
        list(parse(text))
    assert refused.value.line == 2


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".nan", "!!float .NAN"])
def test_k8s1_a_number_that_is_not_finite_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(DocumentError) as refused:
        list(parse(f"spec:\n  quality:\n  - column: delay\n    max: {text}\n"))
    number = text.rpartition(" ")[2]
    sentence = f"spec.quality[0].max: {number} is not allowed: write a finite number, or leave it out"
    assert (refused.value.line, refused.value.message) == (4, sentence)


def test_k8s1_anchors_and_merge_keys_are_followed() -> None:
    (document,) = parse("base: &base {a: 1, b: 1}\nthis: {<<: *base, b: 2}\nthat: {<<: [{b: 3}, *base]}\n")
    assert document.data["this"] == {"a": 1, "b": 2}
    assert document.data["that"] == {"a": 1, "b": 3}


def test_k8s1_empty_documents_are_left_out_and_lines_are_those_of_the_file() -> None:
    documents = list(parse("---\n# nothing\n---\na:\n  - b: 1\n    c: 2\n---\n"))
    (document,) = documents
    assert document.line_of(("a", 0, "c")) == 6
    assert document.line_of(("a", 0, "missing", "deeper")) == 5
    assert document.line_of(("missing",)) == 4
