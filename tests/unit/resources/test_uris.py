"""Relative URIs."""

from __future__ import annotations

from typing import Any

import pytest

from levada.resources.uris import below, with_absolute_uris

ROOT = "s3://levada/sources/team"


@pytest.mark.parametrize(
    ("uri", "there"),
    [
        ("./data/flights/", f"{ROOT}/data/flights/"),
        ("./data/planes.csv.gz", f"{ROOT}/data/planes.csv.gz"),
        ("./data/../raw//x", f"{ROOT}/raw/x"),
        ("./", f"{ROOT}/"),
        ("./../other/secret.csv", "./../other/secret.csv"),
        ("./..", "./.."),
    ],
)
def test_x8_a_relative_uri_lies_below_the_namespaces_folder_and_never_outside(uri: str, there: str) -> None:
    assert below(ROOT, uri) == there


def test_x8_only_relative_uris_are_changed_and_the_document_stays_as_it_was() -> None:
    document: dict[str, Any] = {"spec": {"source": {"object": {"uri": "./a"}}, "model": {"uri": "s3://b/c"}}}

    assert with_absolute_uris(document, lambda uri: f"x{uri}") == {
        "spec": {"source": {"object": {"uri": "x./a"}}, "model": {"uri": "s3://b/c"}}
    }
    assert document["spec"]["source"]["object"]["uri"] == "./a"


@pytest.mark.parametrize("document", [{}, {"spec": None}, {"spec": {"source": 1}}, {"spec": {"input": {"object": []}}}])
def test_x8_a_document_of_another_shape_stays_as_it_is(document: dict[str, Any]) -> None:
    assert with_absolute_uris(document, str.upper) == document
