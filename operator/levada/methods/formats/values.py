"""Texts as typed values, and the type that texts have: one definition for all formats.

Integers are decimal digits with an optional minus (hexadecimal after 0x is understood where int64 is declared, never
inferred). Booleans are true/false in three spellings, or 1/0 where boolean is declared. Dates are `YYYY-MM-DD`.
Timestamps are ISO 8601, kept as UTC without a zone: a zone is converted, a text without one is taken as UTC; digits
beyond microseconds are cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from levada.features.types import MIN_TIME, ColumnType
from levada.resources.dataset import Column

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    ColumnType.INT64: pa.int64(),
    ColumnType.FLOAT64: pa.float64(),
    ColumnType.STRING: pa.string(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.TIMESTAMP: pa.timestamp("us"),
    ColumnType.DATE: pa.date32(),
}
TRUE = ["true", "True", "TRUE", "1"]
FALSE = ["false", "False", "FALSE", "0"]
EARLIEST = {ColumnType.TIMESTAMP: MIN_TIME, ColumnType.DATE: MIN_TIME // 86_400_000_000}
ZONE = r"[T ]\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"

# What a text must look like before it is worth a try; the attempt itself is Arrow's.
_SHAPES = {
    ColumnType.INT64: r"^(-?[0-9]+|-?0[xX][0-9a-fA-F]+)$",
    ColumnType.FLOAT64: r"^[-+]?((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|(?i:inf(inity)?|nan(\(\w*\))?))$",
    ColumnType.TIMESTAMP: r"^[0-9]{4}-[0-9]{2}-[0-9]{2}",
    ColumnType.DATE: r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
}
_DIGITS = r"^-?[0-9]+$"
_LADDER = (ColumnType.INT64, ColumnType.FLOAT64, ColumnType.BOOLEAN, ColumnType.DATE, ColumnType.TIMESTAMP)


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of typed columns."""
    return pa.schema([(column.name, ARROW_TYPES[column.type]) for column in columns])


def parse(texts: pa.Array, type: ColumnType, nulls: Sequence[str] = ()) -> tuple[pa.Array, pa.Array]:
    """Texts (string, length N) as values of a type, and a boolean mask of those that are none, which are null there.

    `nulls` are the texts that mean null; blanks around them matter in text columns only.
    """
    if type is ColumnType.STRING:
        return _nulled(texts, nulls), _nothing(len(texts))
    encoded = texts.dictionary_encode()
    distinct = _nulled(pc.utf8_trim_whitespace(_nulled(encoded.dictionary, nulls)), nulls)
    values, bad = _convert(distinct, type)
    wrong = bad.take(encoded.indices).fill_null(False) if bad.true_count else _nothing(len(texts))
    return values.take(encoded.indices), wrong


def _nulled(texts: pa.Array, nulls: Sequence[str]) -> pa.Array:
    if not nulls:
        return texts
    return pc.if_else(pc.is_in(texts, pa.array(nulls, pa.string())), pa.scalar(None, pa.string()), texts)


def _nothing(length: int) -> pa.Array:
    return pa.array(np.zeros(length, dtype=bool))


def _convert(texts: pa.Array, type: ColumnType) -> tuple[pa.Array, pa.Array]:
    if type is ColumnType.BOOLEAN:
        true, false = pc.is_in(texts, pa.array(TRUE)), pc.is_in(texts, pa.array(FALSE))
        values = pc.if_else(pc.or_(true, false), true, pa.scalar(None, pa.bool_()))
    elif type is ColumnType.TIMESTAMP:
        exact = pc.replace_substring_regex(_likely(texts, type), r"(\.\d{6})\d+", r"\1")
        zoned = pc.fill_null(pc.match_substring_regex(exact, ZONE), False)
        nothing = pa.scalar(None, pa.string())
        with_zone = _cast(pc.if_else(zoned, exact, nothing), pa.timestamp("us", "UTC"))
        without = _cast(pc.if_else(zoned, nothing, exact), pa.timestamp("us"))
        values = pc.coalesce(with_zone.cast(pa.timestamp("us")), without)
    else:
        try:
            values = texts.cast(ARROW_TYPES[type])
        except pa.ArrowInvalid:
            values = _cast(_likely(texts, type), ARROW_TYPES[type])
    if type in EARLIEST:
        number = values.cast(pa.int64() if type is ColumnType.TIMESTAMP else pa.int32())
        values = pc.if_else(pc.less(number, EARLIEST[type]), pa.scalar(None, values.type), values)
    return values, pc.and_(values.is_null(), texts.is_valid())


def _likely(texts: pa.Array, type: ColumnType) -> pa.Array:
    """Only those texts that look like values of a type."""
    return pc.if_else(pc.match_substring_regex(texts, _SHAPES[type]), texts, pa.scalar(None, pa.string()))


def _cast(texts: pa.Array, type: pa.DataType) -> pa.Array:
    """`texts` cast, with null for what cannot be."""
    try:
        return texts.cast(type)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return pa.nulls(1, type)
        middle = len(texts) // 2
        return pa.concat_arrays([_cast(texts[:middle], type), _cast(texts[middle:], type)])


def infer(texts: pa.Array, nulls: Sequence[str] = ()) -> tuple[ColumnType | None, str | None]:
    """The narrowest type that fits all texts that do not mean null; None if there are none.

    Where that is a text although more than half of the different values are numbers, the first that is not comes too.
    """
    distinct = _nulled(pc.utf8_trim_whitespace(_nulled(texts.unique(), nulls)), nulls).drop_null().unique()
    if len(distinct) == 0:
        return None, None
    for type in _LADDER:
        candidates = _DIGITS if type is ColumnType.INT64 else None
        if candidates and not pc.all(pc.match_substring_regex(distinct, candidates)).as_py():
            continue
        _, bad = _convert(distinct, type)
        if not pc.any(bad).as_py():
            return type, None
        if candidates:  # whole numbers beyond 64 bits: a float would not tell them apart
            return ColumnType.STRING, None
        if type is ColumnType.FLOAT64 and pc.sum(bad).as_py() * 2 < len(distinct):
            return ColumnType.STRING, distinct[pc.index(bad, True).as_py()].as_py()
    return ColumnType.STRING, None


def common_type(types: Iterable[ColumnType | None]) -> ColumnType:
    """The type that holds the values of all; text where no other does, or where there are no values."""
    found = {type for type in types if type is not None}
    if len(found) == 1:
        return found.pop()
    if found == {ColumnType.INT64, ColumnType.FLOAT64}:
        return ColumnType.FLOAT64
    if found == {ColumnType.DATE, ColumnType.TIMESTAMP}:
        return ColumnType.TIMESTAMP
    return ColumnType.STRING


def too_early(table: pa.Table, columns: Sequence[Column]) -> bool:
    """Whether a time lies before the year 1, which Arrow reads but Python and SQL do not."""
    for column in columns:
        if column.type in EARLIEST and table.num_rows:
            values = table[column.name]
            least = pc.min(values.cast(pa.int64() if column.type is ColumnType.TIMESTAMP else pa.int32())).as_py()
            if least is not None and least < EARLIEST[column.type]:
                return True
    return False


ARTICLES = {ColumnType.INT64: "an int64"}


def not_a(text: str, type: ColumnType) -> str:
    """Why a text is no value of a type, for a person."""
    shown = text if len(text) <= 80 else text[:80] + "…"
    return f"'{shown}' is not {ARTICLES.get(type, f'a {type.value}')}"
