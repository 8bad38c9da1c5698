"""YAML as kubectl reads it, with the line of everything in it.

kubectl reads YAML 1.1 with Go's library, which differs from Python's: `1e-3` is a number, `12:30` and dates are text,
`y`, `n`, `on` and `off` are booleans, also as keys. A key that is given twice is an error here; kubectl takes the last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from levada.resources.sentences import dotted

Path: TypeAlias = tuple[str | int, ...]

MAX_NODES = 100_000  # of one document, aliases expanded
_TAG = "tag:yaml.org,2002:"
_TRUE = {"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"}
_FALSE = {"n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"}
_NULL = {"", "~", "null", "Null", "NULL"}
_INTEGER = re.compile(r"[-+]?(0b_*[01][01_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0o_*[0-7][0-7_]*|0[0-7_]*|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?")
_ODD_FLOATS = {f"{sign}.{word}" for sign in ("", "+", "-") for word in ("inf", "Inf", "INF", "nan", "NaN", "NAN")}


class DocumentError(Exception):
    """A text is not the YAML of a manifest; `line` counts from 1, the sentence is for a person."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass
class Document:
    """One document: plain data, and the line (from 1) on which each of its parts begins, by path."""

    data: Any
    lines: dict[Path, int] = field(default_factory=dict)

    def line_of(self, path: Path) -> int:
        """The line of the deepest part that is there on the way to `path`."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def parse(text: str | bytes) -> Iterator[Document]:
    """The documents of a file, empty ones left out; raises DocumentError."""
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            document = Document(None)
            document.data = _Reader(document).value(node, ())
            if document.data is not None:
                yield document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise DocumentError(mark.line + 1 if mark is not None else None, f"this is not YAML: {what}") from error
    except yaml.reader.ReaderError as error:
        raise DocumentError(None, f"this is not YAML: {error.reason} at character {error.position}") from error
    except RecursionError as error:
        raise DocumentError(None, "the document is nested too deeply") from error


class _Loader(yaml.SafeLoader):
    """Composes nodes; leaves plain scalars without a tag, for `_resolved` to say what they are."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        node = super().compose_scalar_node(anchor)
        if event.implicit[0]:
            node.tag = ""
        return node

    def scan_flow_scalar_non_spaces(self, double: bool, start_mark: yaml.Mark) -> list[str]:
        try:
            return super().scan_flow_scalar_non_spaces(double, start_mark)
        except (OverflowError, ValueError) as error:  # of an escape such as "\UFFFFFFFF"
            raise yaml.scanner.ScannerError(None, None, "found an escape of no character", self.get_mark()) from error


class _Reader:
    """Turns the nodes of one document into data."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0
        self._above: list[yaml.Node] = []

    def value(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > MAX_NODES:
            raise DocumentError(line, f"the document has more than {MAX_NODES:,} parts: divide it")
        if any(node is other for other in self._above):
            raise DocumentError(line, "the document contains itself (an alias within its own anchor)")
        self._document.lines.setdefault(path, line)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, path)
        self._above.append(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode)
            return self._mapping(node, path)
        finally:
            self._above.pop()

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.value == "<<" and key_node.style is None:
                merged = {**self._merged(value_node, path), **merged}
                continue
            key = _key(key_node, path)
            if key in found:
                raise DocumentError(line, f"the key '{key}' is given twice; remove one")
            self._document.lines[*path, key] = line
            found[key] = self.value(value_node, (*path, key))
        return {**merged, **found}

    def _merged(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        """What a merge key (`<<`) brings: of several mappings the first that has a key wins."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for each in nodes:
            if not isinstance(each, yaml.MappingNode):
                raise DocumentError(each.start_mark.line + 1, "a merge key (<<) needs a mapping")
            found = {**self._mapping(each, path), **found}
        return found


def _key(node: yaml.Node, path: Path) -> str:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        raise DocumentError(line, "a key must be text")
    value = _scalar(node, path)
    if isinstance(value, bool) and node.value.lower() not in ("true", "false"):
        word = "true" if value else "false"
        raise DocumentError(
            line, f"the key {node.value} means {word} to kubectl (YAML 1.1): write '{node.value}' in quotes"
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(node, path)


def _scalar(node: yaml.ScalarNode, path: Path) -> Any:
    """Plain scalars are resolved; quoted ones and those with a tag of their own are text."""
    text = _text(node, path)
    numeric = (_TAG + sort for sort in ("bool", "int", "float", "null"))
    if node.tag != "" and node.tag not in numeric:
        return text
    if text in _ODD_FLOATS:
        raise _refused(node, path, f"{text} is not allowed: write a finite number, or leave it out")
    return _resolved(text)


def _text(node: yaml.ScalarNode, path: Path) -> str:
    """The text of a scalar; two escapes that make one character together, as JSON has them, become that character."""
    text: str = node.value
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        half = text.encode("utf-16-le", "surrogatepass")[error.start : error.start + 2]
        message = f"\\u{int.from_bytes(half, 'little'):04x} is half of a character; write the character itself"
        raise _refused(node, path, message) from error


def _refused(node: yaml.ScalarNode, path: Path, message: str) -> DocumentError:
    """Why a scalar is refused; the sentence names its field, unless it is the whole document."""
    return DocumentError(node.start_mark.line + 1, f"{dotted(path)}: {message}" if path else message)


def _resolved(text: str) -> Any:
    """A plain scalar as Go's YAML library resolves it."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text) and (number := _integer(text)) is not None:
        return number
    if _FLOAT.fullmatch(text):
        real = float(text.replace("_", ""))
        if math.isinf(real):
            return text
        # JSON has one sort of number: 1.0 is 1
        return int(real) if real.is_integer() and abs(real) < 2**53 else real
    return text


def _integer(text: str) -> int | None:
    """A whole number of 64 bits; None if it has more: Go's library reads it as a float then, or as text."""
    digits = text.replace("_", "").lower()
    sign, digits = (-1, digits[1:]) if digits[0] == "-" else (1, digits.lstrip("+"))
    bases = {"0b": 2, "0x": 16, "0o": 8}
    base = bases.get(digits[:2], 8 if digits[0] == "0" else 10)
    significant = (digits[2:] if digits[:2] in bases else digits).lstrip("0")
    if len(significant) > 64:  # more than 64 bits in any base; Python refuses to read very long ones
        return None
    number = sign * int(significant or "0", base)
    return number if -(2**63) <= number < 2**64 else None
