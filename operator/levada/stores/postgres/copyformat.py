"""PostgreSQL's binary COPY: a header, tuples (number of fields, then each field's length and bytes), a trailer."""

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: PostgreSQL counts from there."""
