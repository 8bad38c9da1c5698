"""Custom resource definitions, generated from the models (`make generate`)."""

from __future__ import annotations

from typing import Any

import yaml

from levada import names
from levada.names import Kind
from levada.resources import RESOURCES
from levada.resources.base import NAME
from levada.resources.schema import Schema, structural_schema

HEADER = "# Generated from operator/levada/resources by 'make generate': do not edit.\n"

NAME_RULE = {
    "rule": f"self.metadata.name.size() <= 50 && self.metadata.name.matches('{NAME}')",
    "message": "metadata.name has at most 50 lower-case letters, digits and hyphens",
}


def _column(name: str, path: str, type: str = "string", *, wide: bool = False) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": type, "jsonPath": path}
    return {**column, "priority": 1} if wide else column


def _ready(part: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{part}'


_FIRST = [_column("Ready", _ready("status")), _column("Reason", _ready("reason"))]
_LAST = [_column("Message", _ready("message"), wide=True), _column("Age", ".metadata.creationTimestamp", "date")]
_COLUMNS: dict[Kind, list[dict[str, Any]]] = {
    Kind.DATASET: [
        _column("Batch", ".status.latestBatch.id"),
        _column("Rows", ".status.latestBatch.rows", "integer"),
        _column("Suspend", ".spec.suspend", "boolean", wide=True),
    ],
    Kind.FEATURE_SET: [
        _column("Version", ".status.latestVersion.id"),
        _column("Rows", ".status.latestVersion.rows", "integer"),
        _column("Suspend", ".spec.suspend", "boolean", wide=True),
    ],
    Kind.TRAINING_RUN: [
        _column("Best", ".status.best.name"),
        _column("Metric", ".status.best.metric"),
        _column("Value", ".status.best.value", "number"),
        _column("Suspend", ".spec.suspend", "boolean", wide=True),
    ],
    Kind.MODEL_CANDIDATE: [
        _column("Task", ".spec.task"),
        _column("Algorithm", ".status.algorithm"),
        _column("Training Run", ".spec.provenance.trainingRun"),
    ],
    Kind.DEPLOYMENT: [
        _column("Version", ".status.servingVersion", "integer"),
        _column("URL", ".status.url"),
        _column("Suspend", ".spec.suspend", "boolean", wide=True),
    ],
    Kind.SCORING_RUN: [
        _column("Candidate", ".status.candidate"),
        _column("Rows", ".status.scores.rows", "integer"),
        _column("Suspend", ".spec.suspend", "boolean", wide=True),
    ],
}


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    plural = names.PLURALS[kind]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.value,
                "listKind": f"{kind.value}List",
                "plural": plural,
                # as kubectl prints it (`-o name`), so that what is printed can be given back
                "singular": kind.value.lower(),
                "shortNames": [names.SHORT_NAMES[kind]],
                "categories": ["levada"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _schema(kind)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [*_FIRST, *_COLUMNS[kind], *_LAST],
                }
            ],
        },
    }


def _schema(kind: Kind) -> Schema:
    model = RESOURCES[kind]
    spec = structural_schema(model.model_fields["spec"].annotation)  # type: ignore[arg-type]
    status = structural_schema(model.model_fields["status"].annotation)  # type: ignore[arg-type]
    return {
        "description": model.__doc__,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            # -1: nothing has looked at it yet, so that nobody takes an empty status for a good one
            "status": {**_without_defaults(status), "default": {"observedGeneration": -1}},
        },
        "x-kubernetes-validations": [NAME_RULE],
    }


def _without_defaults(schema: Schema) -> Schema:
    """A status says what was observed, so the API server must not fill it up."""
    found = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in schema:
        found["properties"] = {name: _without_defaults(each) for name, each in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in schema:
            found[key] = _without_defaults(schema[key])
    return found


def files() -> dict[str, str]:
    """Every definition as YAML, by the name of its file."""
    return {f"{names.PLURALS[kind]}.yaml": HEADER + _yaml(definition(kind)) for kind in Kind}


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice, and indents lists as Kubernetes' own files do."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
