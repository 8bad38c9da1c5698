"""docs/resources.md: every field of every kind, from the same schemas as the CRDs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from levada import names
from levada.names import Kind
from levada.resources import RESOURCES
from levada.resources.crd import definition
from levada.resources.schema import Schema

_INTRODUCTION = f"""<!-- Generated from operator/levada/resources by 'make generate': do not edit. -->
# Resources

Every field of the six kinds of `{names.API_VERSION}`, as `kubectl explain` shows them too. A field in **bold** must be
given. `[]` stands for each entry of a list, `<key>` for each key of a mapping.

A field that no part of Levada honours yet is refused by name (`Stalled`, reason `NotSupported`), never ignored.

## What statuses say

- `Ready` is True while the latest spec is carried out and its result can be used, also while it is carried out once
  more for new inputs or a tick of the schedule; Unknown while a new or changed spec is carried out for the first time;
  False when it waits, is suspended before it was carried out, or has failed.
- `Reconciling` is there (True) only while work goes on, `Stalled` only when a person must act.
- `Complete` and `Failed` are there (True) only for what ends (TrainingRun, ModelCandidate, ScoringRun), once the newest
  execution has ended.

## What starts an execution

The first time, a changed spec, new inputs, a tick of `schedule`, a message of `triggers`, or a request by hand:

    kubectl annotate dataset flights {names.ANNOTATION_REQUESTED}="$(date)" --overwrite

(on one machine: a new value of that annotation in the manifest, and `levada run`).

A changed spec ends what runs and starts anew; all else waits for the end of what runs (or as
`schedule.concurrencyPolicy` says). Where a schedule or triggers are given, new inputs alone start nothing. A failed
execution is tried again when the spec is edited, when it is asked for by hand, or with the next occurrence.
"""


def page() -> str:
    """The page as Markdown."""
    return "\n".join([_INTRODUCTION, *(line for kind in Kind for line in _kind(kind))]).rstrip() + "\n"


def _kind(kind: Kind) -> Iterator[str]:
    found = definition(kind)["spec"]
    schema = found["versions"][0]["schema"]["openAPIV3Schema"]
    yield f"## {kind.value}"
    yield ""
    yield (RESOURCES[kind].__doc__ or "").strip()
    yield ""
    yield f"Plural `{names.PLURALS[kind]}`, short name `{names.SHORT_NAMES[kind]}`, category `levada`."
    yield ""
    for part in ("spec", "status"):
        yield f"### {kind.value} {part}"
        yield ""
        yield "| Field | Type | Default | Description |"
        yield "| --- | --- | --- | --- |"
        yield from (_row(*field) for field in _fields(schema["properties"][part], ""))
        yield ""
        rules = list(_rules(schema["properties"][part], part))
        if rules:
            yield "Rules beyond single fields:"
            yield ""
            yield from rules
            yield ""


def _fields(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema, bool]]:
    """Path, schema and whether it must be given, of every field below a mapping."""
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, field, name in required
        inner, suffix = field, ""
        while "items" in inner or "additionalProperties" in inner:
            key = "items" if "items" in inner else "additionalProperties"
            inner, suffix = inner[key], suffix + ("[]" if key == "items" else ".<key>")
        yield from _fields(inner, f"{path}{suffix}.")


def _row(path: str, schema: Schema, required: bool) -> str:
    name = f"**`{path}`**" if required else f"`{path}`"
    default = f"`{_json(schema['default'])}`" if "default" in schema and not _is_mapping(schema) else ""
    return f"| {name} | {_cell(_type(schema))} | {_cell(default)} | {_cell(schema.get('description', ''))} |"


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "items" in schema:
        return f"list of {_type(schema['items'])}{_bounds(schema, 'Items', 'entries')}"
    if "additionalProperties" in schema:
        return f"mapping to {_type(schema['additionalProperties'])}{_bounds(schema, 'Properties', 'keys')}"
    if _is_mapping(schema):
        return "mapping"
    kind = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}[schema["type"]]
    if schema.get("format") == "date-time":
        return "time"
    if kind == "text":
        return kind + _bounds(schema, "Length", "characters")
    return kind + _range(schema)


def _bounds(schema: Schema, of: str, unit: str) -> str:
    low, high = schema.get(f"min{of}"), schema.get(f"max{of}")
    if high is None:
        return ""
    return f" ({low} to {high:,} {unit})" if low else f" (at most {high:,} {unit})"


def _range(schema: Schema) -> str:
    parts = []
    if "minimum" in schema:
        parts.append(f"{'more than' if schema.get('exclusiveMinimum') else 'at least'} {schema['minimum']:,}")
    if "maximum" in schema:
        parts.append(f"{'less than' if schema.get('exclusiveMaximum') else 'at most'} {schema['maximum']:,}")
    return f", {' and '.join(parts)}" if parts else ""


def _rules(schema: Schema, path: str) -> Iterator[str]:
    for validation in schema.get("x-kubernetes-validations", []):
        if "message" in validation:
            yield f"- `{path}`: {validation['message']}."
    for name, field in schema.get("properties", {}).items():
        yield from _rules(field, f"{path}.{name}")
    if "items" in schema:
        yield from _rules(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _rules(schema["additionalProperties"], f"{path}.<key>")


def _is_mapping(schema: Schema) -> bool:
    return schema.get("type") == "object"


def _json(value: Any) -> str:
    return names.canonical(value).decode() if not isinstance(value, str) else value


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
