"""PostgreSQL's binary COPY: a header, tuples (number of fields, then each field's length and bytes), a trailer."""

import struct

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = struct.pack(">i", -1)
"""A field, or an element of an array, that is null."""
FLOAT8, TEXT, TIMESTAMPTZ = 701, 25, 1184
"""Types of elements of arrays."""
EPOCH = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: PostgreSQL counts from there."""

_ARRAY = struct.Struct(">iiiiii")


def array_head(oid: int, elements: int, size: int, *, nulls: bool = False) -> bytes:
    """What goes before the elements of an array field, which have `size` bytes: the length of the field, then
    dimensions, whether there are nulls, type of the elements, their number, and lower bound. Each element is its length
    and its bytes; a null has the length -1."""
    return _ARRAY.pack(20 + size, 1, nulls, oid, elements, 1)
