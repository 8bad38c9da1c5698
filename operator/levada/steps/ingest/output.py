"""Files of a batch: the bytes as they came, typed Parquet, and rows that were set aside.

Where a typed row came from: `typed/00003.parquet` holds the rows of entry 3 of the listing in their order, without
those set aside. Its metadata has, under `levada.origin`, a JSON list of {file, row, line}: from that row on (counted
from 0) the rows are those of that file, at or after that line, until the next mark.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from levada.artifacts import StoredFile
from levada.methods.formats import BadRow
from levada.stores.ports import Objects

if TYPE_CHECKING:
    from typing_extensions import Buffer

ORIGIN = "levada.origin"  # key of a typed file's metadata
GROUP_ROWS = 131_072  # rows of a row group
COMPRESSION = "zstd"
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
_BUFFER = 1 << 20  # bytes that are handed to the store at once
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


class _Digesting(io.RawIOBase):
    """Passes on what is written, and knows its size and digest."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._sha = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Buffer, /) -> int:
        self._sha.update(data)
        self._target.write(data)
        size = memoryview(data).nbytes
        self.size += size
        return size

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha.hexdigest()}"


class ParquetFile:
    """A Parquet object, which appears when the block ends without an error, and only if something was written."""

    def __init__(self, objects: Objects, prefix: str, key: str, schema: pa.Schema) -> None:
        self._objects = objects
        self._prefix = prefix
        self._key = key
        self._schema = schema
        self._upload: AbstractContextManager[BinaryIO] | None = None
        self._metadata: dict[str, str] = {}
        self.rows = 0
        self.stored: StoredFile | None = None

    def write(self, table: pa.Table) -> None:
        """Write rows as one row group (or several, if there are very many)."""
        if self._upload is None:
            self._upload = self._objects.writer(self._prefix + self._key)
            self._sink = _Digesting(self._upload.__enter__())
            self._buffer = io.BufferedWriter(self._sink, _BUFFER)
            self._writer = pq.ParquetWriter(self._buffer, self._schema, compression=COMPRESSION)
        self._writer.write_table(table, row_group_size=GROUP_ROWS)
        self.rows += table.num_rows

    def note(self, key: str, value: Any) -> None:
        """Put something into the file's metadata."""
        self._metadata[key] = json.dumps(value, ensure_ascii=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._upload is None:
            return
        if error is None:
            try:
                if self._metadata:
                    self._writer.add_key_value_metadata(self._metadata)
                self._writer.close()
                self._buffer.flush()
            except BaseException as failed:
                self._upload.__exit__(type(failed), failed, failed.__traceback__)
                raise
        self._upload.__exit__(kind, error, trace)
        if error is None:
            size, digest = self._sink.size, self._sink.digest
            self.stored = StoredFile(key=self._key, bytes=size, digest=digest, rows=self.rows)


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
