"""The generated definitions: what can be told of them without an API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from levada import generate, names
from levada.names import Kind
from levada.resources import RESOURCES, crd
from levada.resources.base import PATTERNS_IN_WORDS
from levada.resources.schema import structural_schema
from tests.support.manifests import GOOD

ROOT = Path(__file__).parents[3]


def schema(kind: Kind) -> dict[str, Any]:
    return crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]  # type: ignore[no-any-return]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, each in schema.get("properties", {}).items():
        yield from nodes(each, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


def parts(kind: Kind) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in ("spec", "status"):
        yield from nodes(schema(kind)["properties"][part], part)


def test_k8s1_generated_files_are_those_that_are_committed() -> None:
    for name, text in generate.outputs().items():
        assert (ROOT / name).read_text() == text, f"{name} differs: run 'make generate'"


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s1_schemas_are_structural_and_described(kind: Kind) -> None:
    for path, node in parts(kind):
        assert not {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const", "nullable"} & set(node), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        if not path.endswith("[]"):
            assert node.get("description"), path


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s1_everything_is_bounded(kind: Kind) -> None:
    for path, node in parts(kind):
        sort = node.get("type")
        if sort == "string":
            assert "maxLength" in node or "enum" in node or node.get("format") == "date-time", path
        if sort == "array":
            assert "maxItems" in node, path
        if sort == "object" and isinstance(node.get("additionalProperties"), dict):
            assert "maxProperties" in node, path


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s1_unknown_fields_are_kept_only_in_free_mappings(kind: Kind) -> None:
    free = {path for path, node in parts(kind) if node.get("x-kubernetes-preserve-unknown-fields")}
    assert {path.rpartition(".")[2] for path in free} <= {"params", "podTemplate"}
    assert all(path.startswith("spec.") for path in free)


@pytest.mark.parametrize("kind", list(Kind))
def test_k8s1_rules_and_defaults_are_those_of_the_models(kind: Kind) -> None:
    # A good spec means the same with the defaults that the API server fills in.
    spec: Any = RESOURCES[kind].model_fields["spec"].annotation
    filled = _filled(schema(kind)["properties"]["spec"], GOOD[kind])
    assert spec.model_validate(filled) == spec.model_validate(GOOD[kind])


def _filled(schema: dict[str, Any], value: Any) -> Any:
    """A value with defaults, as the API server fills them in."""
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        with_defaults = {n: s["default"] for n, s in properties.items() if "default" in s and n not in value}
        inner = schema.get("additionalProperties")
        return {n: _filled(properties.get(n, inner or {}), v) for n, v in {**with_defaults, **value}.items()}
    if isinstance(value, list):
        return [_filled(schema.get("items", {}), v) for v in value]
    return value


def test_k8s1_statuses_have_no_defaults_but_the_observed_generation() -> None:
    for kind in Kind:
        status = schema(kind)["properties"]["status"]
        assert status["default"] == {"observedGeneration": -1}
        assert [p for p, node in nodes(status) if "default" in node] == [""]


def test_k8s1_short_names_differ_and_are_none_of_kubernetes_own() -> None:
    own = {"bs", "cm", "cs", "csr", "deploy", "ds", "ep", "ev", "hpa", "ing", "limits", "netpol", "no", "ns", "pc"}
    own |= {"pdb", "po", "psp", "pv", "pvc", "quota", "rc", "rs", "sa", "sc", "sts", "svc", "cj", "crd", "crds"}
    shorts = list(names.SHORT_NAMES.values())
    assert len(set(shorts)) == len(shorts)
    assert not own & set(shorts)
    assert names.PLURALS[Kind.DEPLOYMENT] == "modeldeployments"


def test_k8s1_every_pattern_has_words() -> None:
    patterns = {node["pattern"] for kind in Kind for _, node in parts(kind) if "pattern" in node}
    assert patterns <= set(PATTERNS_IN_WORDS)


def test_k8s1_definitions_are_plain_yaml() -> None:
    for name, text in crd.files().items():
        assert yaml.safe_load(text)["kind"] == "CustomResourceDefinition", name
        assert "&id" not in text


def test_k8s1_a_choice_of_types_has_no_place_in_a_schema() -> None:
    from pydantic import BaseModel

    class Either(BaseModel):
        value: int | str

    with pytest.raises(TypeError, match="no place for a choice of types"):
        structural_schema(Either)
