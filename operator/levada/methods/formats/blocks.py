"""A stream of text as blocks of whole records, each knowing where in the file it stands."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from levada.errors import Stalled
from levada.resources.conditions import Reason

BLOCK = 8 << 20  # bytes that a block has at most, unless a single record is longer
LONGEST = 16 << 20  # bytes that a record may have
_HEAD = 64 << 10  # bytes in which the encoding is looked for
Encoding = Literal["utf-8", "latin-1", "utf-16"]
Cut = Callable[[bytes], int]
"""Where the last whole record of some bytes ends; 0 if none does."""


@dataclass(frozen=True)
class Block:
    """Whole records, as UTF-8; ends with a newline."""

    data: bytes
    line: int  # number of its first line in the file, from 1

    def lines(self) -> list[str]:
        """Its lines with their ends."""
        return [line + "\n" for line in self.data.decode().split("\n")[:-1]]

    def split(self, size: int, cut: Cut) -> list[Block]:
        """The block in pieces of about `size` bytes (one or more); itself if it can't be cut."""
        pieces, start, line = [], 0, self.line
        while start < len(self.data):
            stop = len(self.data)
            if stop - start > size:
                stop = start + (cut(self.data[start : start + size]) or stop - start)
            pieces.append(Block(self.data[start:stop], line))
            line += self.data.count(b"\n", start, stop)
            start = stop
        return pieces


def last_line(data: bytes) -> int:
    """A cut where every line is a record."""
    return data.rfind(b"\n") + 1


def blocks(name: str, chunks: Iterator[bytes], cut: Cut, size: int = BLOCK) -> Iterator[Block]:
    """Cut a stream of UTF-8 into blocks.

    A record of more than `LONGEST` bytes, or one that the end of the file interrupts, is not whole for `cut`: then its
    first line becomes a block of its own, and what follows starts anew. Where blocks end depends on the bytes alone,
    not on the chunks they come in.
    """
    window = _Window(chunks)
    line, wanted = 1, size
    while data := window.read(wanted):
        stop = cut(data)
        if not stop and not window.ended and wanted < LONGEST:
            wanted = LONGEST
            window.put_back(data)
            continue
        stop = stop or data.find(b"\n") + 1
        if not stop:
            raise Stalled(
                Reason.INVALID_DATA,
                f"{name}: line {line} is longer than {LONGEST >> 20} MiB: is format.type right?",
            )
        window.put_back(data[stop:])
        yield (block := Block(data[:stop], line))
        line += block.data.count(b"\n")
        wanted = size


class _Window:
    """Reads exactly as many bytes of a stream as are asked for, as long as there are any; the last is a newline."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self._last = b"\n"
        self._exhausted = False

    @property
    def ended(self) -> bool:
        """Whether what was read last is the end of the stream."""
        return self._exhausted and not self._rest

    def put_back(self, data: bytes) -> None:
        """Give back the end of what was read last."""
        self._rest = data + self._rest

    def read(self, size: int) -> bytes:
        parts, held = [self._rest], len(self._rest)
        while held < size and not self._exhausted:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._exhausted = True
                chunk = b"" if self._last == b"\n" else b"\n"
            parts.append(chunk)
            held += len(chunk)
            self._last = chunk[-1:] or self._last
        excess = max(held - size, 0)
        last = parts.pop()
        self._rest = last[len(last) - excess :]
        parts.append(last[: len(last) - excess])
        return b"".join(parts)


def decoded(name: str, chunks: Iterator[bytes], encoding: Encoding) -> Iterator[bytes]:
    """A stream of text as UTF-8 without a byte order mark. UTF-8 itself is not checked here; see `wrong_encoding`.

    UTF-16 without a mark is taken in the order of bytes that puts the zeros of ASCII where they belong.
    """
    head = bytearray()
    while len(head) < _HEAD and (chunk := next(chunks, b"")):
        head += chunk
    first = bytes(head)
    has_mark = first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if encoding != "utf-16":
        _refuse_utf16(name, first, encoding, has_mark)
    if encoding == "utf-8":
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from chunks
        return
    codec: str = encoding
    if encoding == "utf-16" and not has_mark:
        codec = "utf-16-be" if first[::2].count(0) > first[1::2].count(0) else "utf-16-le"
    decoder = codecs.getincrementaldecoder(codec)()
    done = 0
    for chunk in itertools.chain([first], chunks):
        yield _decode(name, decoder, chunk, done, encoding)
        done += len(chunk)
    yield _decode(name, decoder, b"", done, encoding, final=True)


def _refuse_utf16(name: str, first: bytes, encoding: Encoding, has_mark: bool) -> None:
    """Raises Stalled if the beginning of a text is not of one byte a character, but likely of two: zeros are many of
    the even bytes, or of the odd ones. A single zero is a character as others are."""
    if has_mark and encoding == "utf-8":
        raise Stalled(Reason.INVALID_DATA, f"{name} begins as UTF-16 does, not UTF-8: set format.encoding to utf-16")
    zeros = sorted(first[parity:_HEAD:2].count(0) for parity in (0, 1))
    if 8 * zeros[1] > len(first[:_HEAD]) and 2 * zeros[0] < zeros[1]:
        at = first.find(0)
        raise Stalled(
            Reason.INVALID_DATA,
            f"{name} is no {encoding} text, byte {at + 1} is zero: set format.encoding to utf-16 if that is what it is "
            "written in, or correct format.type or the file",
        )


def _decode(
    name: str, decoder: codecs.IncrementalDecoder, chunk: bytes, done: int, encoding: Encoding, final: bool = False
) -> bytes:
    held = len(decoder.getstate()[0])
    try:
        return decoder.decode(chunk, final).encode()
    except UnicodeError as error:
        at = done - held + (error.start if isinstance(error, UnicodeDecodeError) else 0)
        raise Stalled(
            Reason.INVALID_DATA,
            f"{name} is not {encoding}: byte {at + 1} cannot be decoded; set format.encoding to what it is",
        ) from error


def wrong_encoding(name: str, block: Block) -> Stalled | None:
    """The error about the first byte of a block that is not UTF-8, if there is one."""
    try:
        block.data.decode()
    except UnicodeDecodeError as error:
        line = block.line + block.data.count(b"\n", 0, error.start)
        return Stalled(
            Reason.INVALID_DATA,
            f"{name}: line {line} is not UTF-8 (byte 0x{block.data[error.start]:02x}): "
            "set format.encoding to what the file is written in, e.g. latin-1",
        )
    return None
