"""The bytes of a file, and the files inside a compressed one."""

from __future__ import annotations

import io
import itertools
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import pyarrow as pa

from levada.errors import Stalled
from levada.resources.conditions import Reason

if TYPE_CHECKING:
    from typing_extensions import Buffer

CHUNK = 1 << 20  # bytes
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip"}
_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".zip": "zip"}


class Content:
    """The bytes of a file: as a stream, or as a seekable file.

    `stream` may be good for one pass only. `opener` gives a seekable file where that is cheap (a local file, ranges of
    an object); without it, the stream is spooled to the folder `scratch`.
    """

    def __init__(
        self,
        name: str,
        stream: Callable[[], Iterator[bytes]],
        scratch: Path,
        opener: Callable[[], BinaryIO] | None = None,
    ) -> None:
        self.name = name
        self.stream = stream
        self.scratch = scratch
        self.opener = opener

    def open(self) -> BinaryIO:
        """A seekable file, to be closed by the caller."""
        if self.opener is not None:
            return self.opener()
        file = cast(BinaryIO, tempfile.TemporaryFile(dir=self.scratch))  # noqa: SIM115
        try:
            for chunk in self.stream():
                file.write(chunk)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file


def unpack(content: Content) -> Iterator[Content]:
    """The files that a file holds: itself, decompressed, or each member of a zip archive.

    Compression is seen from the first bytes. Raises Stalled if the name promises one that the bytes do not keep, and,
    while a stream is read, if it is cut short or damaged.
    """
    stream = content.stream()
    first = next(stream, b"")
    while len(first) < 4 and (more := next(stream, b"")):
        first += more
    if not first:
        raise Stalled(Reason.INVALID_DATA, f"{content.name} is empty: remove it, or narrow the pattern past it")
    kind = next((kind for magic, kind in _MAGIC.items() if first.startswith(magic)), None)
    suffix = Path(content.name).suffix.lower()
    promised = _SUFFIXES.get(suffix)
    if promised is not None and promised != kind:
        raise Stalled(
            Reason.SOURCE_UNREADABLE,
            f"{content.name} is named {suffix}, but its bytes are not {promised}: rename it or write it again",
        )
    whole = Content(content.name, lambda: itertools.chain([first], stream), content.scratch, content.opener)
    if kind == "zip":
        yield from _members(whole)
    elif kind is not None:
        name = content.name.removesuffix(suffix) if promised else content.name
        yield Content(name, lambda: _decompressed(whole, kind), content.scratch)
    else:
        yield whole


def _decompressed(content: Content, kind: str) -> Iterator[bytes]:
    source = pa.PythonFile(_ChunkReader(content.stream()), mode="r")
    stream = pa.CompressedInputStream(source, kind)
    while True:
        try:
            chunk = stream.read(CHUNK)
        except OSError as error:
            if error.errno is not None:  # of the source, not of what came from it
                raise
            truncated = "Truncated" in str(error)
            what = f"is a truncated {kind} file" if truncated else f"is a damaged {kind} file ({error})"
            raise Stalled(Reason.SOURCE_UNREADABLE, f"{content.name} {what}: write it again") from error
        if not chunk:
            return
        yield chunk


def _members(content: Content) -> Iterator[Content]:
    """The files of a zip archive, in its order."""
    with content.open() as file:
        with _zip_errors(content.name):
            archive = zipfile.ZipFile(file)
        members = [member for member in archive.infolist() if not _is_hidden(member)]
        if not members:
            raise Stalled(Reason.INVALID_DATA, f"{content.name} is a zip archive without files: remove it")
        for member in members:
            stream = partial(_member, archive, member, content.name)
            yield from unpack(Content(f"{content.name}!{member.filename}", stream, content.scratch))


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Iterator[bytes]:
    with _zip_errors(name), archive.open(member) as file:
        while chunk := file.read(CHUNK):
            yield chunk


@contextmanager
def _zip_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # A RuntimeError says that a member is encrypted.
        what = str(error).rstrip(".") or "it ends too early"
        raise Stalled(
            Reason.SOURCE_UNREADABLE, f"{name} is a zip archive that cannot be read ({what}): write it again"
        ) from error


def _is_hidden(member: zipfile.ZipInfo) -> bool:
    """Folders, and what macOS adds to an archive."""
    return member.is_dir() or member.filename.startswith("__MACOSX/") or Path(member.filename).name.startswith(".")


class _ChunkReader(io.RawIOBase):
    """An iterator of chunks as a file that can only be read on."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        target = memoryview(buffer).cast("B")
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
