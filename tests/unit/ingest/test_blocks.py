"""Streams of text in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.errors import Stalled
from levada.methods.formats import blocks as module
from levada.methods.formats.blocks import Block, Encoding, blocks, decoded, last_line


def _chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


@settings(derandomize=True, max_examples=100, database=None, deadline=None)
@given(
    st.lists(st.text(alphabet="abc", max_size=5), max_size=20),
    st.booleans(),
    st.integers(1, 7),
    st.integers(6, 40),
)
def test_blocks_hold_every_line_once_whatever_the_chunks(lines: list[str], ended: bool, chunk: int, size: int) -> None:
    text = "\n".join(lines) + ("\n" if ended and lines else "")
    found = list(blocks("f", _chunks(text.encode(), chunk), last_line, size))
    assert found == list(blocks("f", _chunks(text.encode(), 1000), last_line, size))
    joined = b"".join(block.data for block in found).decode()
    assert joined == (text if not text or text.endswith("\n") else text + "\n")
    line = 1
    for block in found:
        assert block.line == line
        assert block.data.endswith(b"\n")
        line += block.data.count(b"\n")


def test_a_line_longer_than_a_block_is_kept_whole() -> None:
    data = b"x" * 100 + b"\ny\n"
    assert [block.data for block in blocks("f", iter([data]), last_line, 10)] == [data]


def test_a_file_without_line_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 1 << 20)
    with pytest.raises(Stalled, match=r"f\.csv: line 1 is longer than 1 MiB"):
        list(blocks("f.csv", iter([b"x" * (1 << 20), b"x"]), last_line, 10))


def test_pieces_of_a_block_know_their_lines() -> None:
    pieces = Block(b"a\nbb\nccc\ndddd\n", 7).split(6, last_line)
    assert pieces == [Block(b"a\nbb\n", 7), Block(b"ccc\n", 9), Block(b"dddd\n", 10)]


@pytest.mark.parametrize(("encoding", "name"), [("utf-8", "utf-8-sig"), ("utf-16", "utf-16"), ("latin-1", "latin-1")])
@pytest.mark.parametrize("chunk", [1, 2, 3, 1000])
def test_text_comes_out_as_utf8_without_a_mark(encoding: str, name: str, chunk: int) -> None:
    data = "größe,ä\n".encode(name)
    assert b"".join(decoded("f", _chunks(data, chunk), encoding)).decode() == "größe,ä\n"  # type: ignore[arg-type]


def test_utf16_that_is_not_declared_is_recognised() -> None:
    with pytest.raises(Stalled, match=r"set format\.encoding to utf-16"):
        list(decoded("f", iter(["a,b\n".encode("utf-16")]), "utf-8"))


def test_bytes_that_are_not_utf16_are_named() -> None:
    data = "a,b\n".encode("utf-16") + b"\x00\xd8\x00\x00"
    with pytest.raises(Stalled, match="f is not utf-16: byte 11"):
        list(decoded("f", _chunks(data, 3), "utf-16"))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("written", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("chunk", [1, 1000])
def test_utf16_without_a_mark_is_no_other_text(encoding: Encoding, written: str, chunk: int) -> None:
    with pytest.raises(
        Stalled, match=f"^f is no {encoding} text, byte . is zero: set format.encoding to utf-16"
    ) as refused:
        list(decoded("f", _chunks("a,b\n1,2\n".encode(written), chunk), encoding))
    assert refused.value.message.isprintable()


def test_a_zero_byte_far_into_a_file_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEAD", 8)
    assert b"".join(decoded("f", iter([b"a,b\n1,x\n2,\0\n"]), "utf-8")).endswith(b"\0\n")


@pytest.mark.parametrize("written", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_utf16_without_a_mark_is_read_in_either_order_of_bytes(written: str, chunk: int) -> None:
    text = "größe,\u6100\n愀愀愀,1\n"
    assert b"".join(decoded("f", _chunks(text.encode(written), chunk), "utf-16")).decode() == text


@pytest.mark.parametrize("text", ["a,b\n1,x\0\n", "a\0" + "b" * 100, "x" * 100 + "\0\0\0"])
def test_a_zero_among_other_characters_is_one_of_them(text: str) -> None:
    assert b"".join(decoded("f", iter([text.encode()]), "utf-8")) == text.encode()
