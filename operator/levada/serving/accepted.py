"""Columns of which a model scores only the values that training saw (`encode: {unknown: refuse}`)."""

from __future__ import annotations

from collections.abc import Sequence

from levada.features.cells import Cell
from levada.features.types import NULL_STRING, NULL_TIME, ColumnType
from levada.serving.errors import RequestError, bad

_MOST_SHOWN = 20


class Accepted:
    """The cells of a column that are scored: `cell in accepted`."""

    def __init__(self, name: str, type: ColumnType, values: Sequence[str | int | None]) -> None:
        """`values`: as the manifest lists them; of a boolean column they are 0 and 1."""
        self._name = name
        self._type = type
        self._cells = frozenset(value for value in values if value is not None)  # 1 and 1.0 are the same there
        self._null = None in values
        self._shown = sorted(self._plain(value) for value in values)

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._cells or (self._null and _is_null(cell))

    def refusal(self, value: object, row: int) -> RequestError:
        """What to say of a value of a request (null: None)."""
        given = repr(value) if isinstance(value, str) else self._plain(value)
        return bad(
            f"row {row}: column '{self._name}' is {given:.60}, which training has not seen; it takes: {self._known()}"
        )

    def refusal_of_lookup(self, cell: Cell, row: int, feature_set: str) -> RequestError:
        """What to say of a cell that was looked up in a feature set."""
        given = repr(cell) if isinstance(cell, str) else self._plain(cell)
        found = "no value of" if _is_null(cell) else f"{given:.60} as"
        return bad(
            f"row {row}: the lookup in '{feature_set}' finds {found} column '{self._name}', which training has not "
            f"seen (it takes: {self._known()}); leave the row out, or train anew"
        )

    def _known(self) -> str:
        more = ", …" if len(self._shown) > _MOST_SHOWN else ""
        return ", ".join(self._shown[:_MOST_SHOWN]) + more

    def _plain(self, value: object) -> str:
        if value is None:
            return "null"
        if self._type == ColumnType.BOOLEAN and value in (0, 1):
            return "true" if value else "false"
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_null(cell: Cell) -> bool:
    return cell != cell or cell in (NULL_STRING, NULL_TIME)
