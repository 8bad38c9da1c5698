"""Parquet files in the object store, uploaded while they are written."""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from levada.artifacts import StoredFile
from levada.stores.ports import Objects

if TYPE_CHECKING:
    from typing_extensions import Buffer

GROUP_ROWS = 131_072  # rows of a row group
_BUFFER = 1 << 20  # bytes that are handed to the store at once


class _Digesting(io.RawIOBase):
    """Passes on what is written, and knows its size and digest."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._sha = hashlib.sha256()
        self._discards = False
        self.size = 0

    def discard(self) -> None:
        """Take what is written from now on for written."""
        self._discards = True

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Buffer, /) -> int:
        size = memoryview(data).nbytes
        if not self._discards:
            self._sha.update(data)
            self._target.write(data)
            self.size += size
        return size

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha.hexdigest()}"


class ParquetFile:
    """A Parquet object, which appears when the block ends without an error, and only if something was written."""

    def __init__(
        self, objects: Objects, prefix: str, key: str, schema: pa.Schema, group_rows: int = GROUP_ROWS, **options: Any
    ) -> None:
        """`group_rows`: most rows of a row group; `options`: more for ParquetWriter."""
        self._objects = objects
        self._prefix = prefix
        self._key = key
        self._schema = schema
        self._group_rows = group_rows
        self._options = options
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
            self._writer = pq.ParquetWriter(self._buffer, self._schema, compression="zstd", **self._options)
        self._writer.write_table(table, row_group_size=self._group_rows)
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
                self._give_up(self._upload, failed)
                raise
        else:
            self._give_up(self._upload, error)
            return
        self._upload.__exit__(None, None, None)
        size, digest = self._sink.size, self._sink.digest
        self.stored = StoredFile(key=self._key, bytes=size, digest=digest, rows=self.rows)

    def _give_up(self, upload: AbstractContextManager[BinaryIO], error: BaseException) -> None:
        """End the upload without an object. What the writer still has goes nowhere: left open, it would write a footer
        into an upload that is over, some time later."""
        self._sink.discard()
        with suppress(Exception):
            self._writer.close()
        with suppress(Exception):
            self._buffer.close()
        upload.__exit__(type(error), error, error.__traceback__)
