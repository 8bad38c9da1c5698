"""How rows of the online store stand in NATS KV: the entity's key (and time) as key, values as JSON.

A key is `<part>.<part>…`, and `.@<microseconds>` behind it where the feature set has a time. A part is a letter for the
type and the value, in which all but letters, digits, '-' and '_' stand as `=XX`, the hex digits of a byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import orjson

from levada.stores.ports import OnlineRow

_LONGEST = 1024
_UNSAFE = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
_TIME = "T"

# By exact type: a bool is an int, and a datetime is a date.
_LETTERS: dict[type, tuple[str, Callable[[Any], str]]] = {
    str: ("s", str),
    int: ("i", str),
    float: ("f", repr),
    bool: ("b", lambda value: "1" if value else "0"),
    datetime: ("t", datetime.isoformat),
    date: ("d", date.isoformat),
    type(None): ("n", lambda _: ""),
}
_READERS: dict[str, Callable[[str], Any]] = {
    "s": str,
    "i": int,
    "f": float,
    "b": lambda text: text == "1",
    "t": datetime.fromisoformat,
    "d": date.fromisoformat,
    "n": lambda _: None,
}


def encode_key(key: tuple[Any, ...]) -> str:
    """The KV key of an entity; raises ValueError for a value that cannot be one."""
    encoded = ".".join(map(_encode_part, key))
    if not encoded:
        raise ValueError("a row of the online store has no key")
    if len(encoded) > _LONGEST:
        raise ValueError(f"the key {key!r:.80} is too long for the online store ({len(encoded)} bytes of {_LONGEST})")
    return encoded


def entry_key(row: OnlineRow) -> str:
    """The KV key of a row."""
    key = encode_key(row.key)
    return key if row.timestamp is None else f"{key}.{_TIME}{row.timestamp}"


def decode_key(text: str) -> tuple[tuple[Any, ...], int | None]:
    """Key and time of a KV key."""
    parts = text.split(".")
    timestamp = int(parts.pop().removeprefix(_TIME)) if parts[-1].startswith(_TIME) else None
    return tuple(map(_decode_part, parts)), timestamp


def encode_values(row: OnlineRow, version: str) -> bytes:
    """The KV value of a row: `v` what JSON can say, `x` the rest with a letter for its type."""
    document: dict[str, Any] = {"version": version, "v": row.values}
    special = {name: _special(value) for name, value in row.values.items() if _is_special(value)}
    if special:
        document |= {"v": {name: value for name, value in row.values.items() if name not in special}, "x": special}
    return orjson.dumps(document)


def decode_values(data: bytes) -> dict[str, Any]:
    """The values of a KV value, equal to what was put."""
    document = orjson.loads(data)
    values: dict[str, Any] = document["v"]
    for name, (letter, text) in document.get("x", {}).items():
        values[name] = _READERS[letter](text)
    return values


def _encode_part(value: Any) -> str:
    if type(value) not in _LETTERS:
        raise ValueError(f"{value!r:.80} is a {type(value).__name__}, which cannot be a key of the online store")
    letter, text = _LETTERS[type(value)]
    return letter + _UNSAFE.sub(lambda m: b"=%02X" % m[0][0], text(value).encode()).decode()


def _decode_part(part: str) -> Any:
    raw = _ESCAPED.sub(lambda m: bytes([int(m[1], 16)]), part[1:].encode())
    return _READERS[part[0]](raw.decode())


def _is_special(value: Any) -> bool:
    """Whether JSON would say it otherwise: dates, and floats that are not finite."""
    return isinstance(value, date) or (value.__class__ is float and value - value != 0.0)


def _special(value: Any) -> tuple[str, str]:
    letter, text = _LETTERS[type(value)]
    return letter, text(value)
