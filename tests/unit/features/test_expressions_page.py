"""The page for users: every expression that it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from levada.features.expressions import check
from levada.features.types import ColumnType, ExpressionError

PAGE = (Path(__file__).parents[3] / "docs/expressions.md").read_text()
COLUMNS = {
    "n": ColumnType.INT64,
    "x": ColumnType.FLOAT64,
    "y": ColumnType.FLOAT64,
    "b": ColumnType.BOOLEAN,
    "s": ColumnType.STRING,
    "at": ColumnType.TIMESTAMP,
    "on_day": ColumnType.DATE,
}
SHOWN = [code for line in PAGE.splitlines() if line.startswith("| ") for code in re.findall(r"`(.+?)`", line)]
REFUSED = [
    "lower(s)",
    "upper(s)",
    "length(s)",
    "substring(s, 1)",
    "asin(x)",
    "atan2(x, y)",
    "sinh(x)",
    "random()",
    "now()",
]


@pytest.mark.parametrize("expression", SHOWN)
def test_prep9_an_expression_that_the_page_shows_is_supported(expression: str) -> None:
    check(expression, COLUMNS)


@pytest.mark.parametrize("expression", REFUSED)
def test_prep9_what_the_page_says_is_not_there_is_refused(expression: str) -> None:
    assert expression.partition("(")[0] in PAGE
    with pytest.raises(ExpressionError, match="not supported"):
        check(expression, COLUMNS)
