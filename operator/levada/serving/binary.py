"""BYTES tensors of the Open Inference Protocol: each element is its length as four bytes, little endian, then UTF-8.

Codes and times of a column are mostly of one length; those are taken apart all at once.
"""

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np

from levada.features.types import MIN_TIME
from levada.serving.errors import bad
from levada.serving.session import Array

_LENGTH = struct.Struct("<I").unpack_from
_TIMES = {len(form): np.frombuffer(form, np.uint8) for form in (b"0000-00-00T00:00:00Z", b"0000-00-00T00:00:00")}
_DATES = {10: np.frombuffer(b"0000-00-00", np.uint8)}


def texts(name: str, raw: bytes, rows: int) -> list[object]:
    """The elements of a column's tensor; raises RequestError."""
    as_text = raw.decode() if raw.isascii() else None
    size = _one_length(raw, rows)
    if as_text is not None and size is not None:
        return [as_text[start : start + size] for start in range(4, len(raw) + 1, size + 4)]
    source: str | bytes = raw if as_text is None else as_text
    parts: list[str | bytes] = []
    position = 0
    with suppress(struct.error):  # no room for another length
        for _ in range(rows):
            start = position + 4
            position = start + _LENGTH(raw, position)[0]
            parts.append(source[start:position])
    if position > len(raw) or len(parts) < rows:
        row = len(parts) - (position > len(raw))
        raise bad(
            f"row {row}: the binary data of column '{name}' end before the text does; each text is its length as four "
            "bytes (little endian) and then so many bytes"
        )
    if position != len(raw):
        raise bad(
            f"column '{name}': its {rows} texts end after {position} bytes, but binary_data_size is {len(raw)}; "
            "make shape and binary_data_size agree"
        )
    try:
        return [part.decode() if isinstance(part, bytes) else part for part in parts]
    except UnicodeDecodeError:
        row = next(row for row, part in enumerate(parts) if isinstance(part, bytes) and not _is_text(part))
        raise bad(f"row {row}: the text of column '{name}' is not UTF-8; encode it so") from None


def times(raw: bytes, rows: int, dates: bool) -> Array | None:
    """The elements as microseconds since 1970, int64 [N], where all are written as `YYYY-MM-DDTHH:MM:SS`, or all with a
    Z behind it (`dates`: all as `YYYY-MM-DD`); None where one is not, or is no time: each of them needs a look."""
    size = _one_length(raw, rows)
    form = None if size is None else (_DATES if dates else _TIMES).get(size)
    if size is None or form is None:
        return None
    characters = np.frombuffer(raw, np.uint8).reshape(rows, size + 4)[:, 4:]
    if not np.where(form == ord("0"), characters - ord("0") < 10, characters == form).all():
        return None
    try:
        without_zone: Array = np.ndarray((rows,), f"S{min(size, 19)}", raw, 4, (size + 4,))
        found: Array = without_zone.astype("datetime64[us]").astype(np.int64)
    except ValueError:
        return None
    return found if found.min() >= MIN_TIME else None


def _one_length(raw: bytes, rows: int) -> int | None:
    """The length of all elements, if it is the same."""
    size = len(raw) // rows - 4
    if size < 0 or len(raw) != rows * (size + 4):
        return None
    lengths: Array = np.ndarray((rows,), "<u4", raw, 0, (size + 4,))
    return size if (lengths == size).all() else None


def _is_text(part: bytes) -> bool:
    try:
        part.decode()
    except UnicodeDecodeError:
        return False
    return True
