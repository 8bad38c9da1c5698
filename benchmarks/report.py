"""Figures as the benchmarks report them: min, median and max over several rounds, and ratios round by round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Measured:
    """A figure measured in several rounds."""

    name: str
    values: list[float]
    goal: str = ""

    def row(self) -> str:
        """A line of a Markdown table."""
        return f"| {self.name} | {_spread(self.values)} | | | {self.goal} |"


@dataclass(frozen=True)
class Ratio:
    """Subject against twin in the same rounds: pairs of figures, and their quotients.

    `inverse`: the twin's figure over the subject's, where more is better (throughputs from times).
    """

    name: str
    pairs: list[tuple[float, float]]
    goal: str = ""
    inverse: bool = False

    @property
    def ratios(self) -> list[float]:
        return [twin / subject if self.inverse else subject / twin for subject, twin in self.pairs]

    def row(self) -> str:
        """A line of a Markdown table."""
        subject, twin = _spread([pair[0] for pair in self.pairs]), _spread([pair[1] for pair in self.pairs])
        return f"| {self.name} | {subject} | {twin} | **{_spread(self.ratios)}** | {self.goal} |"


@dataclass
class Report:
    """What one benchmark measured."""

    title: str
    figures: list[Measured | Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, figure: Measured | Ratio) -> None:
        self.figures.append(figure)

    def markdown(self) -> str:
        """A section with a table."""
        head = [f"## {self.title}", "", "| what | subject | twin | ratio | goal |", "| --- | --- | --- | --- | --- |"]
        return "\n".join([*head, *(figure.row() for figure in self.figures), "", *self.notes]).rstrip() + "\n"


def _spread(values: list[float]) -> str:
    return " / ".join(_number(value) for value in (min(values), statistics.median(values), max(values)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
