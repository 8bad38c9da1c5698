"""Where the records of CSV begin and end: fast where quoting is regular, exact where it is not."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

csv.field_size_limit(sys.maxsize)  # blocks.LONGEST limits whole records
_QUOTE, _NEWLINE, _RETURN = b'"\n\r'
_UNCLOSED = "unexpected end of data"  # csv's words, with strict=True


@dataclass(frozen=True)
class Record:
    """A record: lines [start, stop) of some lines. Without fields it can't be read, and `reason` says why; an empty
    line has an empty list of fields."""

    start: int
    stop: int
    fields: list[str] | None
    reason: str = ""


def records(lines: Sequence[str], delimiter: str) -> Iterator[Record]:
    """The records of some lines.

    A quoted value that is never closed, or closed in the middle of a later line, costs its first line only: reading
    starts anew on the next one.
    """
    start = 0
    while start < len(lines):
        reader = csv.reader((lines[i] for i in range(start, len(lines))), delimiter=delimiter)
        begin = start
        try:
            for fields in reader:
                stop = begin + reader.line_num
                if (stop - start > 1 or stop == len(lines)) and (reason := _fault(lines[start:stop], delimiter)):
                    yield Record(start, start + 1, None, reason)
                    start += 1
                    break
                yield Record(start, stop, fields)
                start = stop
        except csv.Error:
            yield Record(start, start + 1, None, "a carriage return stands inside a value")
            start += 1


def _fault(lines: Sequence[str], delimiter: str) -> str:
    """What is wrong with the quotes of a record, if that is why it has the lines that it has."""
    try:
        list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        if len(lines) > 1 or _UNCLOSED in str(error):
            return "a quoted value is not closed"
    return ""


def _quotes(data: bytes) -> npt.NDArray[np.intp]:
    return np.flatnonzero(np.frombuffer(data, np.uint8) == _QUOTE)


def is_well_quoted(data: bytes, delimiter: str) -> bool:
    """Whether each quote opens, closes or escapes where RFC 4180 has it, up to a value left open at the end."""
    return _regular(data, _quotes(data), delimiter) and data.count(b'"') % 2 == 0


def _regular(data: bytes, quotes: npt.NDArray[np.intp], delimiter: str) -> bool:
    text = np.frombuffer(data, np.uint8)
    around = np.array([ord(delimiter), _NEWLINE, _RETURN], np.uint8)
    opening, closing = quotes[::2], quotes[1::2]
    before = text[np.maximum(opening - 1, 0)]
    reopened = np.zeros(len(opening), bool)  # right after the closing one before it: an escaped quote
    reopened[1:] = opening[1:] == closing[: len(opening) - 1] + 1
    after = text[np.minimum(closing + 1, len(text) - 1)]
    escaped = np.zeros(len(closing), bool)
    escaped[: len(opening) - 1] = reopened[1:][: len(closing)]
    opens = reopened | (opening == 0) | np.isin(before, around)
    closes = escaped | (closing == len(text) - 1) | np.isin(after, around)
    return bool(opens.all() and closes.all())


def last_record(data: bytes, delimiter: str) -> int:
    """Where the last whole record ends; 0 if none does."""
    end = data.rfind(b"\n") + 1
    if b'"' not in data:
        return end
    quotes = _quotes(data)
    if _regular(data, quotes, delimiter):
        newlines = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
        outside = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
        return int(outside[-1]) + 1 if len(outside) else 0
    lines = data[:end].decode(errors="surrogateescape").split("\n")[:-1]
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter)
    previous = start = 0
    while True:
        try:
            for _ in reader:
                previous, start = start, reader.line_num
            break
        except csv.Error:
            previous, start = start, reader.line_num
    if start == len(lines) and _fault([line + "\n" for line in lines[previous:]], delimiter):
        start = previous
    return len("\n".join(lines[:start]).encode(errors="surrogateescape")) + 1 if start else 0
