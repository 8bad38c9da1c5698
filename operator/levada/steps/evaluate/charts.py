"""Charts as SVG: small, sharp at any size, readable without a script, and in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jinja2
from markupsafe import Markup

from levada.methods.evaluators import Chart
from levada.methods.evaluators.base import round_step

WIDTH, HEIGHT = 520, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 52
TICKS = 5
CHARACTER = 9  # most width of one, and what is between labels


@dataclass(frozen=True)
class Axis:
    """Maps values to places in the picture."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and texts of round values."""
        step = round_step((self.high - self.low) / TICKS)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(self.place(number * step), number_text(number * step)) for number in range(first, last + 1)]


def number_text(value: float) -> str:
    """A number as a person reads it."""
    if abs(value) >= 10_000:
        return f"{value:,.0f}" if abs(value) < 10_000_000 else f"{value:.3g}"
    return f"{value:.4g}" if value else "0"


def _axis(values: Sequence[float], given: tuple[float, float] | None, start: float, end: float) -> Axis:
    low, high = given or (min(values, default=0.0), max(values, default=1.0))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return Axis(low, high, start, end)


def draw(chart: Chart, environment: jinja2.Environment, number: int) -> Markup:
    """A chart as an <svg> element; `number` makes its ids unique on the page."""
    context = {"lines": _lines, "bars": _bars, "matrix": _matrix}[chart.kind](chart)
    frame = {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
    }
    template = environment.get_template(f"{chart.kind}.svg.j2")
    return Markup(template.render(chart=chart, id=f"chart-{number}", **frame, **context))


def _lines(chart: Chart) -> dict[str, object]:
    points = [point for series in chart.series for point in series.points]
    x = _axis([p[0] for p in points], chart.x_range, LEFT, WIDTH - RIGHT)
    y = _axis([p[1] for p in points], chart.y_range, HEIGHT - BOTTOM, TOP)
    series = []
    colour = 0
    for one in chart.series:
        places = [(x.place(a), y.place(b)) for a, b in one.points]
        series.append({"name": one.name, "style": one.style, "places": places, "colour": colour})
        colour += one.style != "reference"
    return {"series": series, "x_ticks": x.ticks(), "y_ticks": y.ticks()}


def _bars(chart: Chart) -> dict[str, object]:
    y = _axis([0.0, *chart.values], None, HEIGHT - BOTTOM, TOP)
    step = round_step((y.high - y.low) / TICKS)
    y = replace(y, low=math.floor(y.low / step) * step, high=math.ceil(y.high / step) * step)
    room = (WIDTH - LEFT - RIGHT) / max(len(chart.values), 1)
    labels = [name.partition(" to ")[0] for name in chart.names]
    every = math.ceil(max(map(len, labels), default=1) * CHARACTER / room)
    bars = []
    for number, (name, value) in enumerate(zip(chart.names, chart.values, strict=True)):
        top, zero = y.place(max(value, 0)), y.place(min(value, 0))
        bars.append(
            {
                "name": name,
                "text": number_text(value),
                "x": round(LEFT + number * room + room * 0.08, 1),
                "middle": round(LEFT + (number + 0.5) * room, 1),
                "y": top,
                "width": round(room * 0.84, 1),
                "height": round(zero - top, 1),
                "label": labels[number] if number % every == 0 else "",
            }
        )
    return {"bars": bars, "y_ticks": y.ticks()}


def _matrix(chart: Chart) -> dict[str, object]:
    count = len(chart.names)
    side = min((WIDTH - LEFT - RIGHT - 60) / count, (HEIGHT - TOP - BOTTOM) / count)
    left = LEFT + 60
    cells = []
    for row, values in enumerate(chart.cells):
        total = sum(values)
        for column, value in enumerate(values):
            share = value / total if total else 0.0
            cells.append(
                {
                    "x": round(left + column * side, 1),
                    "y": round(TOP + row * side, 1),
                    "text": number_text(value),
                    "share": f"{share:.0%}",
                    "strength": round(share, 3),
                    "truth": chart.names[row],
                    "predicted": chart.names[column],
                }
            )
    places = [round((number + 0.5) * side, 1) for number in range(count)]
    return {
        "cells": cells,
        "side": round(side, 1),
        "columns": [(round(left + place, 1), name) for place, name in zip(places, chart.names, strict=True)],
        "rows": [(round(TOP + place, 1), name) for place, name in zip(places, chart.names, strict=True)],
        "matrix_left": left,
        "matrix_bottom": round(TOP + count * side, 1),
    }
