"""What every format's reader takes and gives.

Sentences call the fields of a resource's format `format.…`, since it stands elsewhere in each kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.methods.formats.content import Content
from levada.resources.conditions import Reason
from levada.resources.dataset import Column


@dataclass(frozen=True)
class FoundColumn:
    """A column as one file has it. `type` is None where no value was seen."""

    name: str  # as Levada calls it
    original: str  # as the file calls it
    type: ColumnType | None
    odd: str | None = None  # a text that keeps a column, most of whose values are numbers, from being one


@dataclass(frozen=True)
class BadRow:
    """A row that is set aside: line (or row) number from 1, the column at fault if it is one, why, and the raw text."""

    line: int
    column: str | None
    reason: str
    text: str


Locate = Callable[[Sequence[int]], list[tuple[int, str]]]
"""Line number and raw text of rows, given by their positions in a run as it was read."""


@dataclass(frozen=True)
class Rows:
    """A run of rows of a file: those that could be read, typed, in their order, and those that could not."""

    table: pa.Table  # columns as in the schema that was asked for, one chunk each
    locate: Locate
    line: int  # line (or row) number at or after which the first of them stands
    bad: list[BadRow] = field(default_factory=list)
    kept: pa.Array | None = None  # positions of the table's rows in the run as it was read; None: nothing was taken out

    def places(self, positions: Sequence[int]) -> list[tuple[int, str]]:
        """Line number and raw text of rows, given by their positions in the table."""
        return self.locate(
            positions if self.kept is None else self.kept.take(pa.array(positions, pa.int64())).to_pylist()
        )

    def without(self, mask: pa.Array, column: str | None, reason: Callable[[int], str]) -> Rows:
        """These rows without those where `mask` (boolean, no nulls) is true; `reason` says why, given a position."""
        positions = pc.indices_nonzero(mask).to_pylist()
        if not positions:
            return self
        places = self.places(positions)
        bad = [BadRow(line, column, reason(i), text) for i, (line, text) in zip(positions, places, strict=True)]
        keep = pc.invert(mask)
        kept = pa.array(range(self.table.num_rows)) if self.kept is None else self.kept
        return replace(self, table=self.table.filter(keep).combine_chunks(), bad=self.bad + bad, kept=kept.filter(keep))


class Reader(Protocol):
    """Reads files of one format. Both methods raise Stalled with one sentence that names the file.

    `sparse`: rows may leave columns out, so that a file without a column is nothing strange.
    """

    sparse: ClassVar[bool]

    def infer(self, content: Content, sample: int) -> list[FoundColumn]:
        """The columns of a file, from about so many bytes of its beginning."""

    def read(self, content: Content, columns: Sequence[Column], inferred: bool) -> Iterator[Rows]:
        """All rows of a file, in their order, as `columns`.

        Where they were inferred from all files, a column that this file lacks is null, and rows that have others are
        set aside; where they were declared, a lacking column is an error and others are left out. How the rows are cut
        into runs depends on the bytes alone.
        """


def as_text(row: dict[str, Any]) -> str:
    """A typed row as JSON, where there is no raw text to be shown."""
    return json.dumps(row, default=str, ensure_ascii=False)


class MissingColumn(Stalled):
    """A file lacks a column that has to be there."""

    def __init__(self, file: str, column: str, there: Sequence[str]) -> None:
        self.lacking = f"{file} has no column '{column}'"
        self.there = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
        super().__init__(
            Reason.INVALID_DATA,
            f"{self.lacking}, which spec.schema.columns declares (it has: {self.there}): "
            "correct the file or the schema",
        )
