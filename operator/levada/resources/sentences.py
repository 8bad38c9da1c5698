"""What is wrong with a manifest, as one clear sentence: the one place that speaks for pydantic."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from levada.resources.base import PATTERNS_IN_WORDS

Path: TypeAlias = tuple[str | int, ...]

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "datetime_type": "a time such as 2026-01-31T00:00:00Z",
    "datetime_parsing": "a time such as 2026-01-31T00:00:00Z",
    "datetime_from_date_parsing": "a time such as 2026-01-31T00:00:00Z",
}


def problems_of(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[Path, str]]:
    """For each thing that is wrong: where (in YAML names) and a sentence that begins with the field's path."""
    details = error.errors(include_url=False)
    # What is missing because its name is misspelt needs no second sentence.
    meant = {
        (*path[:-1], nearest(str(path[-1]), _field_names(_model_at(model, path[:-1]))))
        for path in (detail["loc"] for detail in details if detail["type"] == "extra_forbidden")
    }
    for detail in details:
        path = detail["loc"]
        if detail["type"] != "missing" or path not in meant:
            yield path, _sentence(detail, path, model)


def dotted(path: Path) -> str:
    """`spec.lookups[0].keys`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def nearest(name: str, names: list[str]) -> str | None:
    """The name most like another, whatever the case; None if none is like it."""
    folded = {n.lower().replace("_", "").replace("-", ""): n for n in names}
    found = difflib.get_close_matches(name.lower().replace("_", "").replace("-", ""), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def _sentence(detail: ErrorDetails, path: Path, model: type[BaseModel]) -> str:
    sort, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    field = dotted(path)
    if sort == "extra_forbidden":
        known = _field_names(_model_at(model, path[:-1]))
        near = nearest(str(path[-1]), known)
        return f"{field}: unknown field, " + (f"did you mean {near}?" if near else f"there are {', '.join(known)}")
    if sort == "missing":
        return f"{field} is missing; add it{_what_it_is(model, path)}"
    if sort == "value_error":
        return f"{field}: {context['error']}" if field else str(context["error"])
    if sort in ("literal_error", "enum"):
        allowed = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        near = nearest(str(given), allowed) if isinstance(given, str) else None
        hint = f"did you mean {near}?" if near else f"use one of {', '.join(allowed)}"
        if len(allowed) == 1:
            hint = f"write {allowed[0]}"
        return f"{field}: {_shown(given)} is not allowed; {hint}"
    if sort == "string_pattern_mismatch":
        return f"{field}: {_shown(given)} is not {PATTERNS_IN_WORDS[context['pattern']]}"
    return f"{field}: {_bound(sort, context, given)}"


def _bound(sort: str, context: dict[str, Any], given: Any) -> str:
    match sort:
        case "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"has {len(given):,} characters; at most {context['max_length']:,} are allowed"
        case "too_short" if context["min_length"] == 1:
            return "must not be empty"
        case "too_short":
            return f"has {context['actual_length']:,} entries; at least {context['min_length']:,} are needed"
        case "too_long":
            return f"has {context['actual_length']:,} entries; at most {context['max_length']:,} are allowed"
        case "greater_than":
            return f"is {_shown(given)}; it must be greater than {context['gt']:g}"
        case "greater_than_equal":
            return f"is {_shown(given)}; it must be at least {context['ge']:g}"
        case "less_than":
            return f"is {_shown(given)}; it must be less than {context['lt']:g}"
        case "less_than_equal":
            return f"is {_shown(given)}; it must be at most {context['le']:g}"
    wanted = _WANTED[sort]
    if wanted == "a whole number" and isinstance(given, float) and given.is_integer():
        return f"{_shown(given)} has more than 64 bits; write a smaller number"
    hint = "; put it in quotes" if wanted == "text" and isinstance(given, int | float) else ""
    if wanted == "text" and isinstance(given, bool):
        hint += " (YAML reads y, yes, on, n, no and off without them as true or false)"
    elif wanted in ("a number", "a whole number") and isinstance(given, str):
        hint = _of_number(given)
    elif wanted == "true or false" and given in ("true", "false"):
        hint = "; remove the quotes"
    return f"{_shown(given)} must be {wanted}{hint}"


def _of_number(text: str) -> str:
    """What to do with a text that should be a number."""
    try:
        number = float(text)
    except ValueError:
        return ""
    if math.isfinite(number):
        return "; remove the quotes"
    return "; write a smaller one" if any(c.isdigit() for c in text) else ""  # 1e400 is text to kubectl


def _shown(value: Any) -> str:
    """A value as it stands in YAML, shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    text = text if len(text) <= 80 else text[:79] + "…"
    return f"'{text}'" if isinstance(value, str) else text


def _what_it_is(model: type[BaseModel], path: Path) -> str:
    """The first sentence of a field's description, in brackets."""
    parent = _model_at(model, path[:-1])
    field = _field(parent, str(path[-1])) if parent is not None else None
    if field is None or not field.description:
        return ""
    words = field.description.split(". ")[0].rstrip(".")
    return f" ({words if words[:2].isupper() else words[0].lower() + words[1:]})"


def _field_names(model: type[BaseModel] | None) -> list[str]:
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _field(model: type[BaseModel], alias: str) -> FieldInfo | None:
    return next((f for name, f in model.model_fields.items() if (f.alias or name) == alias), None)


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model of the mapping at a path."""
    here: Any = model
    for part in path:
        here = _bare(here)
        if isinstance(part, str) and isinstance(here, type) and issubclass(here, BaseModel):
            field = _field(here, part)
            if field is None:
                return None
            here = field.annotation
        elif get_origin(here) in (list, dict):
            here = get_args(here)[-1]
        else:
            return None
    here = _bare(here)
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _bare(annotation: Any) -> Any:
    """An annotation without Annotated and None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, UnionType):
            annotation = next(a for a in get_args(annotation) if a is not type(None))
        else:
            return annotation
