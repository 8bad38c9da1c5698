"""The structural OpenAPI schema of a model, as custom resource definitions need it: no references, no unions with null.

Unions and rules become CEL (`x-kubernetes-validations`) with the messages that Levada's own checks give.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from levada.resources.base import Model

Schema: TypeAlias = dict[str, Any]

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_VALIDATIONS = "x-kubernetes-validations"


def structural_schema(model: type[BaseModel]) -> Schema:
    """The schema of a model with the names that stand in YAML."""
    document = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    definitions = document.pop("$defs", {})
    return _structural(document, definitions)


class _Generator(GenerateJsonSchema):
    """JSON schema with CEL for each model's union and rules, and defaults that a factory makes."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        model = schema["cls"]
        if issubclass(model, Model):
            own = {field.alias or to_camel(name) for name, field in model.model_fields.items() if _is_own(model, name)}
            # What a kind shares with others (how it is run, conditions) is read last.
            found["properties"] = dict(sorted(found.get("properties", {}).items(), key=lambda item: item[0] not in own))
            if validations := _validations(model):
                found[_VALIDATIONS] = validations
        return found

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        factory = schema.get("default_factory")
        if factory is None or "default" in found:
            return found
        default = factory()  # type: ignore[call-arg]
        if isinstance(default, Model):
            # Whole, with the defaults below it: the API server checks rules on defaults before it fills them in.
            default = {key: value for key, value in default.document().items() if value not in ([], {})}
        return {**found, "default": default} if default else found


def _is_own(model: type[BaseModel], field: str) -> bool:
    return field in model.__annotations__


def _validations(model: type[Model]) -> list[Schema]:
    found = [{"rule": rule.cel, "message": rule.message} for rule in model.rules]
    if model.union is None:
        return found
    name = to_camel(model.union.discriminator)
    blocks: dict[str, list[str]] = {}
    for value, field in model.union.members.items():
        if field is not None:
            blocks.setdefault(model.model_fields[field].alias or to_camel(field), []).append(value)
    for block, values in blocks.items():
        chosen = " || ".join(f"self.{name} == '{value}'" for value in values)
        needed = f"\"{name} is '\" + self.{name} + \"', so the block '{block}' is needed\""
        superfluous = f"\"{name} is '\" + self.{name} + \"', so the block '{block}' must not be given\""
        found.append({"rule": f"!({chosen}) || has(self.{block})", "messageExpression": needed})
        found.append({"rule": f"({chosen}) || !has(self.{block})", "messageExpression": superfluous})
    return found


def _structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """A schema without references and nulls; what stands beside a reference wins over what it points to."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rpartition("/")[2]]
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _structural({**target, **beside}, definitions)
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        if len(options) != 1:
            raise TypeError(f"a structural schema has no place for a choice of types: {schema['anyOf']}")
        # A None is a field that is not given.
        beside = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
        return _structural({**options[0], **beside}, definitions)
    return _node(schema, definitions)


def _node(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    found: Schema = {}
    for key, value in schema.items():
        match key:
            case "title":
                pass
            case "properties":
                found[key] = {name: _structural(each, definitions) for name, each in value.items()}
            case "items":
                found[key] = _structural(value, definitions)
            case "additionalProperties":
                if isinstance(value, dict) and not schema.get(_PRESERVE):
                    found[key] = _structural(value, definitions)
            case "const":
                found["enum"] = [value]
            case "exclusiveMinimum" | "exclusiveMaximum":
                bound = "minimum" if key == "exclusiveMinimum" else "maximum"
                found[bound], found[key] = value, True
            case "immutable":
                rule = {"rule": "self == oldSelf", "message": "may not change; make another resource instead"}
                found[_VALIDATIONS] = [*found.get(_VALIDATIONS, []), rule]
            case _ if key == _VALIDATIONS:
                found[key] = [*value, *found.get(key, [])]
            case _:
                found[key] = value
    if found.get("type") == "integer":
        found["format"] = "int64"
    return found
