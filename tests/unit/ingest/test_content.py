"""Files inside files."""

from __future__ import annotations

import gc
import gzip
import io
import os
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from levada.errors import Stalled
from levada.methods.formats import Content, unpack
from levada.resources.conditions import Reason
from tests.unit.ingest.reading import content

DATA = random.Random(0).randbytes(3_000_000)


def _zip(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return out.getvalue()


def _unpacked(file: Content) -> dict[str, bytes]:
    return {inner.name: b"".join(inner.stream()) for inner in unpack(file)}


@pytest.mark.parametrize("chunk", [1000, 1 << 20])
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv.gz", gzip.compress(DATA)),
        ("a.csv.gz", gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:])),
        ("a.csv.zst", zstandard.compress(DATA)),
        ("a.csv.zst", zstandard.compress(DATA[:1000]) + zstandard.compress(DATA[1000:])),
        ("a.csv", gzip.compress(DATA)),
        ("a.csv", DATA),
    ],
    ids=["gzip", "two gzip members", "zstd", "two zstd frames", "gzip without its ending", "as it is"],
)
def test_compression_is_seen_from_the_bytes(name: str, data: bytes, chunk: int) -> None:
    assert _unpacked(content(data, name, chunk)) == {"a.csv": DATA}


def test_each_member_of_an_archive_is_a_file() -> None:
    data = _zip(a__csv=b"1", b__csv__gz=gzip.compress(b"2"), __MACOSX=b"") + b""
    assert _unpacked(content(data, "x.zip")) == {"x.zip!a.csv": b"1", "x.zip!b.csv": b"2"}


@pytest.mark.parametrize(
    ("name", "data", "reason", "message"),
    [
        ("a.gz", gzip.compress(DATA)[:-9], Reason.SOURCE_UNREADABLE, "a.gz is a truncated gzip file: write it again"),
        ("a.zst", zstandard.compress(DATA)[:-9], Reason.SOURCE_UNREADABLE, "a.zst is a truncated zstd file"),
        (
            "a.gz",
            gzip.compress(DATA)[:5000] + b"x" * 99,
            Reason.SOURCE_UNREADABLE,
            "a.gz is a (damaged|truncated) gzip",
        ),
        ("a.gz", DATA, Reason.SOURCE_UNREADABLE, "a.gz is named .gz, but its bytes are not gzip"),
        ("a.zip", _zip(a=DATA)[:-30], Reason.SOURCE_UNREADABLE, "a.zip is a zip archive that cannot be read"),
        ("a.zip", _zip(a=DATA).replace(DATA[:9], b"x" * 9), Reason.SOURCE_UNREADABLE, "a.zip .* cannot be read"),
        ("a.zip", _zip(), Reason.INVALID_DATA, "a.zip is a zip archive without files"),
        ("a.zip", _zip(b__csv=b""), Reason.INVALID_DATA, "a.zip!b.csv is empty: remove it"),
        ("a.csv", b"", Reason.INVALID_DATA, "a.csv is empty: remove it"),
    ],
    ids=[
        "truncated gzip",
        "truncated zstd",
        "damaged gzip",
        "not gzip",
        "truncated zip",
        "damaged zip",
        "empty zip",
        "empty member",
        "empty file",
    ],
)
def test_broken_files_are_refused_by_name(name: str, data: bytes, reason: Reason, message: str) -> None:
    with pytest.raises(Stalled, match=message) as refused:
        _unpacked(content(data, name, 1000))
    assert refused.value.reason is reason


def test_an_archive_that_needs_a_password_is_refused() -> None:
    data = bytearray(_zip(a__csv=b"secret"))
    data[6] |= 1  # the flag of encryption, in the member's header and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(Stalled, match="password"):
        _unpacked(content(bytes(data), "a.zip"))


def test_a_stream_becomes_a_seekable_file_when_one_is_needed(tmp_path: Path) -> None:
    with Content("a", lambda: iter([b"ab", b"cd"]), tmp_path).open() as file:
        file.seek(1)
        assert file.read() == b"bcd"


def test_a_stream_that_breaks_off_leaves_no_file_open(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"ab"
        raise OSError("the connection was lost")

    gc.collect()
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match="lost") as raised:  # its traceback would keep the file
        Content("a", broken, tmp_path).open()
    assert len(os.listdir("/dev/fd")) == before, raised
