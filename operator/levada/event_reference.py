"""docs/events.md: every event with its subject and its data, from the models that it is checked against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from levada.events import CATALOGUE
from levada.names import Kind
from levada.resources.base import Model

_INTRODUCTION = """<!-- Generated from operator/levada/events.py by 'make generate': do not edit. -->
# Events

Levada announces what it does as [CloudEvents 1.0](https://cloudevents.io) in JSON (structured mode) on NATS, in the
JetStream stream `levada`, which keeps them for seven days. The subject says what happened to which resource:

```
levada.<namespace>.<kind>.<name>.<event>
```

so `levada.default.*.*.stalled` is everything in a namespace that waits for a person, and
`levada.*.dataset.flights.raw-data-extracted` each new batch of the Datasets called flights. To listen:

```
nats subscribe 'levada.>'
```

Events arrive at least once. The `id` stays the same when one is sent again (it is the `Nats-Msg-Id` too, so the stream
drops what comes twice within two minutes): remember the ids that you acted on. They inform, and a consumer that was
away reads on where it was; but what is true stands in the resources' status.

| CloudEvents attribute | Value |
| --- | --- |
| `id` | the same for the same occurrence |
| `type` | `dev.levada.<kind>.<event>`, the kind in small letters |
| `source` | `/levada/<namespace>/<kind>/<name>` |
| `subject` | name of the resource |
| `time` | when it happened, RFC 3339 |
| `data` | as below |
"""


def page() -> str:
    """docs/events.md as Markdown."""
    lines = [_INTRODUCTION, "| Event | Of | When |", "| --- | --- | --- |"]
    for event, (kinds, schema) in CATALOGUE.items():
        of = "every kind" if len(kinds) == len(Kind) else ", ".join(kinds)
        lines.append(f"| [`{event}`](#{event}) | {of} | {_text(schema)} |")
    for event, (_, schema) in CATALOGUE.items():
        lines += ["", f"## {event}", "", _text(schema), "", "| Field | Type | Meaning |", "| --- | --- | --- |"]
        lines += _rows(schema)
    return "\n".join(lines) + "\n"


def _text(schema: type[Model]) -> str:
    return " ".join((schema.__doc__ or "").split())


def _rows(schema: type[Model]) -> Iterator[str]:
    document = schema.model_json_schema(by_alias=True)
    required = document.get("required", [])
    for name, field in document["properties"].items():
        shown = f"**`{name}`**" if name in required else f"`{name}`"
        yield f"| {shown} | {_type(field, document.get('$defs', {}))} | {field['description']} |"


def _type(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in field:
        return _type(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in field:
        return next(_type(option, definitions) for option in field["anyOf"] if option["type"] != "null")
    if "enum" in field:
        return "one of the [reasons](resources.md)" if field["title"] == "Reason" else "string"
    if field["type"] == "array":
        return f"list of {_type(field['items'], definitions)}"
    if field["type"] == "object" and "properties" in field:
        inner = (f"{name}: {_type(part, definitions)}" for name, part in field["properties"].items())
        return "{" + ", ".join(inner) + "}"
    if field["type"] == "object":
        return f"{{name: {_type(field['additionalProperties'], definitions)}}}"
    return str(field["type"])
