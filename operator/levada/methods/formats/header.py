"""Column names as Levada needs them, from those that files have."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence

import pyarrow as pa

from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.methods.formats import values
from levada.resources.conditions import Reason

_LONGEST = 128


def column_names(file: str, originals: Sequence[str], wanted: Collection[str] | None = None) -> list[str]:
    """A name for each column: letters, digits and underscores, not beginning with a digit.

    `Sepal length (cm)` becomes `Sepal_length_cm`; a nameless column `column_<position>`. Raises Stalled if two columns
    have the same name, or get it, or names that SQL does not tell apart, if these are `wanted` (None: all are).
    """
    names = names_of(originals)
    seen: dict[str, tuple[str, str]] = {}
    for name, original in zip(names, originals, strict=True):
        if name.casefold() not in seen:
            seen[name.casefold()] = (name, original)
            continue
        earlier, first = seen[name.casefold()]
        if earlier != name and wanted is not None and not {earlier, name} <= {*wanted}:
            continue  # what is not read disturbs nobody
        if first == original:
            what = f"the column '{original}' twice"
        elif earlier == name:
            what = f"the columns '{first}' and '{original}', which would both be called '{name}'"
        else:
            what = f"the columns '{first}' and '{original}', which are one for SQL, since it does not look at case"
        raise Stalled(Reason.INVALID_DATA, f"{file} has {what}: rename one of them")
    return names


def names_of(originals: Sequence[str]) -> list[str]:
    """A name for each column, as `column_names` has them, also where some are the same."""
    return [_name(original, position) for position, original in enumerate(originals, start=1)]


def _name(original: str, position: int) -> str:
    plain = unicodedata.normalize("NFKD", original).encode("ascii", "ignore").decode()
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", plain):
        return plain[:_LONGEST]
    name = re.sub(r"[^A-Za-z0-9_]+", "_", plain).strip("_")
    return (f"_{name}" if name[:1].isdigit() else name or f"column_{position}")[:_LONGEST]


def _shown(cells: Sequence[str]) -> str:
    names = names_of(cells)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def check_header(file: str, cells: Sequence[str], delimiter: str) -> None:
    """Raises Stalled if the first line of a CSV file does not look like one that names columns."""
    texts = pa.array([cell.strip() for cell in cells], pa.string())
    for type in (ColumnType.FLOAT64, ColumnType.DATE, ColumnType.TIMESTAMP):
        _, bad = values.parse(texts, type)
        for cell, is_bad in zip(cells, bad.to_pylist(), strict=True):
            if not is_bad and cell.strip().lower() not in ("nan", "inf", "infinity"):
                raise Stalled(
                    Reason.INVALID_DATA,
                    f"the first line of {file} does not name columns, it holds the value '{cell}': add a header line, "
                    f"set format.header to false, or declare {_shown(cells)} in the schema if these are names",
                )
    if len(cells) == 1:
        other = next((mark for mark in ";\t|," if mark != delimiter and mark in cells[0]), None)
        if other is not None:
            shown = "a tab" if other == "\t" else f"'{other}'"
            raise Stalled(
                Reason.INVALID_DATA,
                f"{file} has a single column '{cells[0]}' when it is split at '{delimiter}': "
                f"set format.delimiter to {shown}",
            )
