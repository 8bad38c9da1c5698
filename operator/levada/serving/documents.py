"""Bodies as JSON documents, and what to say of those that are none."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from levada.serving.errors import RequestError, bad, cut

_NOT_A_NUMBER = re.compile(rb"[-+]?\b(?:NaN|Infinity|nan|inf)\b")
_TEXT_OR_NOT_A_NUMBER = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")|' + _NOT_A_NUMBER.pattern)
# Larger documents are not read a second time to find where a value stands: 16 MiB would take another 1.3 s, in which no
# other request is answered.
_EXPLAINED_BYTES = 4 * 1024 * 1024


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; raises RequestError."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _explain(body, error) from None
    if type(document) is not dict:
        raise bad("the body is not a JSON object; send {…}")
    return document


def _explain(body: bytes, error: orjson.JSONDecodeError) -> RequestError:
    if not body.strip():
        return bad("the body is empty; send a JSON object")
    where = f"at character {error.pos} (line {error.lineno}, column {error.colno})"
    position = len(error.doc[: error.pos].encode())  # in bytes
    if position >= len(body.rstrip()) or "unexpected end" in error.msg.lower():
        return bad(f"the body ends in the middle of its JSON, {where}; send all of it")
    if _NOT_A_NUMBER.match(body, position) or "infinity" in error.msg:
        place = _place(body) if len(body) <= _EXPLAINED_BYTES else ""
        return bad(
            f"{place or where + ': '}NaN, Infinity and numbers beyond 1.8e308 are no JSON; send null if it is missing"
        )
    return bad(f"the body is not JSON: {error.msg.split(': line')[0]} {where}")


class _NotFinite(float):
    """A number that JSON does not have."""


def _place(body: bytes) -> str:
    """`column 'x', row 3: ` of the first value that is not finite, in a request of either protocol."""
    # In the one form that Python's parser knows, with the sign that may stand before it.
    body = _TEXT_OR_NOT_A_NUMBER.sub(lambda found: found[1] or b"NaN", body)
    try:
        document = json.loads(body, parse_constant=_NotFinite, parse_float=_float)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    for tensor in _list(document.get("inputs")):
        if isinstance(tensor, dict):
            for row, value in enumerate(_list(tensor.get("data"))):
                if isinstance(value, _NotFinite) or (isinstance(value, list) and any(map(_is_one, value))):
                    return f"column {cut(str(tensor.get('name')))!r}, row {row}: "
    for row, instance in enumerate(_list(document.get("instances"))):
        named = instance.items() if isinstance(instance, dict) else enumerate(_list(instance))
        for name, value in named:
            if isinstance(value, _NotFinite):
                return f"column {cut(name)!r}, row {row}: " if isinstance(name, str) else f"row {row}, value {name}: "
    return ""


def _float(text: str) -> float:
    value = float(text)
    return _NotFinite(text) if value - value != 0.0 else value


def _is_one(value: object) -> bool:
    return isinstance(value, _NotFinite)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
