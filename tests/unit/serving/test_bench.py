"""How the benchmark of the scorer takes turns: which rounds count, and what it says of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from benchmarks.report import Report
from benchmarks.serving.bench import _take_turns
from benchmarks.serving.load import Result


@dataclass
class Prepared:
    """A target whose figures are known beforehand, the first of which warms up."""

    figures: Iterator[float]

    def load(self, seconds: int) -> Result:
        return Result(next(self.figures), seconds)


def turns(baseline: list[float], rounds: int) -> tuple[list[float], list[float], list[str]]:
    """The figures of the subject and of the baseline, and the notes."""
    report = Report("")
    targets = {"subject": Prepared(iter(range(100))), "twin": Prepared(iter([0.0, *baseline]))}
    results = _take_turns(report, "one row", targets, "twin", rounds, 1)
    return [r.cpu for r in results["subject"]], [r.cpu for r in results["twin"]], report.notes


def test_score5_rounds_count_in_which_the_baseline_was_steady() -> None:
    assert turns([100, 101, 99], 3) == ([1, 2, 3], [100, 101, 99], [])
    assert turns([100, 150, 101, 99], 3) == ([1, 3, 4], [100, 101, 99], [])


def test_score5_fewer_steady_rounds_than_were_asked_for_are_told() -> None:
    note = "- one row: unsteady, 2 of 3 rounds: twin was not within 20% of its median in the other 7"
    assert turns([10, 10000, 20, 5000, 100, 2000, 110, 1000, 40], 3) == ([5, 7], [100, 110], [note])


def test_score5_without_a_steady_round_there_is_no_figure() -> None:
    with pytest.raises(SystemExit, match="one row: twin was steady in none of 6 rounds; free the machine of load"):
        turns([1, 1000, 2, 900, 3, 800], 2)
