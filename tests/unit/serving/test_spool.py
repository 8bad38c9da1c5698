"""Scores on disk while the catalogue is away."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from levada.serving import spool
from levada.serving.spool import Spool, SpoolFull, read
from levada.stores.ports import ScoreBlock, ScoreRow

LIMIT = 1024 * 1024
ROW = ScoreRow(
    "a", 0, "late", "default", 1, "small", datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC), 0.1, "1", b"{}"
)
ROWS = [
    ROW._replace(seq=seq, value=None if seq % 2 else 0.1 + seq, label=None if seq % 3 else "ü") for seq in range(10)
]


BLOCK = ScoreBlock(
    *("a", 20, "late", "default", 1, "small", ROW.scored_at, 3),
    np.array([0.1, np.nan, np.inf]),
    ["1", "ü", "1"],
    ("hour", "day"),
    np.array([[1, 2], [np.nan, 0.1], [5, 6]]),
    ("carrier",),
    '[["AA"],[null],["ü"]]'.encode(),
)


def drained(waiting: Spool) -> list[ScoreRow | ScoreBlock]:
    found = []
    while (segment := waiting.oldest()) is not None:
        found += read(segment)
        waiting.remove(segment)
    return found


def test_score2_scores_come_out_of_the_spool_as_they_went_in(tmp_path: Path) -> None:
    with closing(Spool(tmp_path / "new", "a", LIMIT)) as waiting:
        waiting.append(ROWS[:4])
        waiting.append(ROWS[4:])
        assert waiting.rows == 10
        assert drained(waiting) == ROWS
        assert (waiting.rows, waiting.bytes) == (0, 0)
    assert not list((tmp_path / "new").glob("*.scores"))


def test_score2_blocks_come_out_of_the_spool_with_the_same_bits(tmp_path: Path) -> None:
    bare = ScoreBlock("a", 30, "late", "default", 1, "small", ROW.scored_at, 2, None, None)
    with closing(Spool(tmp_path, "a", LIMIT)) as waiting:
        waiting.append([ROW, BLOCK, bare])
        assert waiting.rows == 6
    with closing(Spool(tmp_path, "b", LIMIT)) as waiting:
        assert waiting.rows == 6
        row, block, other = drained(waiting)
    assert (row, other) == (ROW, bare)
    assert isinstance(block, ScoreBlock)
    np.testing.assert_array_equal(block.values, BLOCK.values)
    np.testing.assert_array_equal(block.numbers, BLOCK.numbers)
    assert block._replace(values=None, numbers=None) == BLOCK._replace(values=None, numbers=None)


def test_score2_the_oldest_scores_come_first_from_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 300)
    with closing(Spool(tmp_path, "a", LIMIT)) as waiting:
        for row in ROWS:
            waiting.append([row])
        assert len(list(tmp_path.glob("*.scores"))) > 2
        assert drained(waiting) == ROWS


def test_score2_a_full_spool_says_so(tmp_path: Path) -> None:
    with closing(Spool(tmp_path, "a", 100)) as waiting:
        waiting.append(ROWS)
        with pytest.raises(SpoolFull, match="has reached its limit of 100 bytes"):
            waiting.append(ROWS)
        assert drained(waiting) == ROWS


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """While this lasts, no file of this process becomes larger than so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("free", [0, 450])
def test_score2_after_a_full_disk_the_spool_goes_on_with_whole_lines(tmp_path: Path, free: int) -> None:
    kept = ROWS[:1] if free else []
    with closing(Spool(tmp_path, "a", LIMIT)) as waiting:
        if kept:
            waiting.append(kept)
        for _ in range(3):
            with full_disk(free), pytest.raises(OSError, match="File too large"):
                waiting.append(ROWS[1:9])
        assert len(list(tmp_path.glob("*.scores"))) == len(kept)
        assert waiting.rows == len(kept)
        waiting.append(ROWS[9:])
        found = drained(waiting)
        assert [row for row in found if row not in ROWS[1:9]] == [*kept, ROWS[9]]
        assert waiting.rows == 0


def test_score2_what_an_ended_scorer_left_is_taken_over(tmp_path: Path) -> None:
    first = Spool(tmp_path, "a", LIMIT)
    first.append(ROWS)
    first.close()
    second = Spool(tmp_path, "b", LIMIT)
    assert second.rows == 10
    second.append([ROW._replace(source="b")])
    assert drained(second) == [*ROWS, ROW._replace(source="b")]
    second.close()
    assert not list(tmp_path.iterdir())


def test_score2_what_a_living_scorer_spools_is_left_to_it(tmp_path: Path) -> None:
    with closing(Spool(tmp_path, "a", LIMIT)) as first:
        first.append(ROWS)
        with closing(Spool(tmp_path, "b", LIMIT)) as second:
            assert (second.rows, second.oldest()) == (0, None)
        assert drained(first) == ROWS


def test_score2_what_a_killed_scorer_left_is_taken_over_but_for_a_line_that_was_cut_off(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from levada.serving.spool import Spool\n"
        "from tests.unit.serving.test_spool import ROWS\n"
        "spool = Spool(Path(sys.argv[1]), 'killed', 10**6); spool.append(ROWS); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=Path(__file__).parents[3])
    assert done.returncode == -9
    (path,) = tmp_path.glob("*.scores")
    path.write_bytes(path.read_bytes()[:-20] + b"\n\0\0\0\0\n[1]\n")
    with closing(Spool(tmp_path, "b", LIMIT)) as waiting:
        assert drained(waiting) == ROWS[:-1]
