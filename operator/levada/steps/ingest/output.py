"""Files of a batch: the bytes as they came, typed Parquet, and rows that were set aside.

Where a typed row came from: `typed/00003.parquet` holds the rows of entry 3 of the listing in their order, without
those set aside. Its metadata has, under `levada.origin`, a JSON list of {file, row, line}: from that row on (counted
from 0) the rows are those of that file, at or after that line, until the next mark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from levada.artifacts import StoredFile
from levada.methods.formats import BadRow
from levada.steps.parquet import GROUP_ROWS, ParquetFile
from levada.stores.ports import Objects

ORIGIN = "levada.origin"  # key of a typed file's metadata
MARK_ROWS = 65_536  # at most one mark of origin for so many rows of a file
QUARANTINE_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("text", pa.string()),
    ]
)
_BAD_ROWS, _BAD_BYTES = 16_384, 16 << 20  # set aside rows that are held in memory


def store_original(objects: Objects, prefix: str, key: str, chunks: Iterator[bytes]) -> StoredFile:
    """Write a file's bytes as they came."""
    sha, size = hashlib.sha256(), 0
    with objects.writer(prefix + key) as file:
        for chunk in chunks:
            sha.update(chunk)
            file.write(chunk)
            size += len(chunk)
    return StoredFile(key=key, bytes=size, digest=f"sha256:{sha.hexdigest()}")


class TypedFile:
    """The typed rows of one entry, in row groups of equal size."""

    def __init__(self, file: ParquetFile) -> None:
        self._file = file
        self._waiting: list[pa.Table] = []
        self._held = 0
        self._taken = 0
        self._marks: list[dict[str, Any]] = []

    def add(self, table: pa.Table, file: str, line: int) -> Iterator[pa.Table]:
        """Take rows that begin at or after a line of a file; yields each row group, to be given to `write`."""
        last = self._marks[-1] if self._marks else None
        if table.num_rows and (last is None or last["file"] != file or self._taken - last["row"] >= MARK_ROWS):
            self._marks.append({"file": file, "row": self._taken, "line": line})
        self._taken += table.num_rows
        self._waiting.append(table)
        self._held += table.num_rows
        if self._held >= GROUP_ROWS:
            together = pa.concat_tables(self._waiting)
            whole = self._held - self._held % GROUP_ROWS
            for start in range(0, whole, GROUP_ROWS):
                yield together.slice(start, GROUP_ROWS)
            self._waiting, self._held = [together.slice(whole)], self._held - whole

    def end(self) -> Iterator[pa.Table]:
        """The last row group, if there is one."""
        self._file.note(ORIGIN, self._marks)
        if self._held:
            yield pa.concat_tables(self._waiting)


class Quarantine:
    """The rows of one entry that were set aside."""

    def __init__(self, file: ParquetFile) -> None:
        self._file = file
        self._rows: list[tuple[str, BadRow]] = []
        self._bytes = 0
        self.count = 0
        self.first = ""

    def add(self, file: str, rows: list[BadRow]) -> None:
        """Set rows of a file aside."""
        if rows and not self.first:
            self.first = describe(file, rows[0])
        for row in rows:
            self._rows.append((file, row))
            self._bytes += len(row.text)
            if len(self._rows) >= _BAD_ROWS or self._bytes >= _BAD_BYTES:
                self.flush()
        self.count += len(rows)

    def flush(self) -> None:
        """Write what is held in memory."""
        if self._rows:
            rows = [
                {"file": file, "line": row.line, "column": row.column, "reason": row.reason, "text": row.text}
                for file, row in self._rows
            ]
            self._file.write(pa.Table.from_pylist(rows, QUARANTINE_SCHEMA))
            self._rows, self._bytes = [], 0


def describe(file: str, row: BadRow) -> str:
    """Why a row was set aside, in one clause."""
    where = f"{file} line {row.line}"
    return f"{where}: {row.column} {row.reason}" if row.column else f"{where} {row.reason}"
