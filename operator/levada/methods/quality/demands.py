"""Quality checks taken apart: each demand on each column for itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.methods.formats.values import parse
from levada.resources.conditions import Reason
from levada.resources.dataset import Column, QualityCheck

Kind = Literal["min", "max", "oneOf", "matches", "notNull", "unique", "outliers"]
Action = Literal["rectify", "quarantine", "warn", "refuse"]
_NUMBERS = (ColumnType.INT64, ColumnType.FLOAT64)


@dataclass(frozen=True)
class Demand:
    """One demand on one column.

    `value`: the bound (int or float, as the column), the allowed values (Arrow array), the expression, the number of
    interquartile ranges; None for notNull and unique. `may_be_null`: whether a value may be rectified to null.
    """

    column: str
    type: ColumnType
    kind: Kind
    value: Any
    action: Action
    may_be_null: bool

    @property
    def text(self) -> str:
        """The demand in words, e.g. `min 0`."""
        if self.kind == "oneOf":
            allowed = [str(value) for value in self.value.to_pylist()]
            return f"oneOf {', '.join(allowed[:10])}{', …' if len(allowed) > 10 else ''}"
        if isinstance(self.value, float) and self.value.is_integer():
            return f"{self.kind} {self.value:.0f}"
        return self.kind if self.value is None else f"{self.kind} {self.value}"

    @property
    def needs_all_rows(self) -> bool:
        """Whether the whole batch must be seen to know what breaks it."""
        return self.kind in ("unique", "outliers")


@dataclass(frozen=True)
class Finding:
    """How often a demand was broken; the first time in which file (by number) and row (from 0), with what value."""

    violations: int = 0
    file: int = 0
    row: int = 0
    value: str = ""


def expand(checks: Iterable[QualityCheck], columns: Sequence[Column]) -> list[Demand]:
    """The demands of some checks, in their order; raises Stalled (InvalidSpec) for one that makes no sense."""
    checks = list(checks)
    types = {column.name: column.type for column in columns}
    never_null = {c.name for c in columns if not c.nullable} | {c.column for c in checks if c.not_null}
    demands = []
    for check in checks:
        if check.column not in types:
            raise _invalid(check.column, f"there is no such column (there are: {', '.join(types)})")
        type = types[check.column]
        for kind, value in _values(check):
            prepared = _prepared(check, kind, value, type)
            may_be_null = check.column not in never_null
            demands.append(Demand(check.column, type, kind, prepared, check.on_violation, may_be_null))
    return demands


def _values(check: QualityCheck) -> list[tuple[Kind, Any]]:
    given: list[tuple[Kind, Any]] = []
    if check.not_null:
        given.append(("notNull", None))
    for kind, value in (("min", check.min), ("max", check.max), ("oneOf", check.one_of), ("matches", check.matches)):
        if value is not None:
            given.append((kind, value))  # type: ignore[arg-type]
    if check.outliers is not None:
        given.append(("outliers", check.outliers))
    if check.unique:
        given.append(("unique", None))
    return given


def _prepared(check: QualityCheck, kind: Kind, value: Any, type: ColumnType) -> Any:
    if kind in ("min", "max", "outliers") and type not in _NUMBERS:
        raise _invalid(check.column, f"{kind} needs numbers, and the column is of type {type.value}")
    if kind in ("min", "max"):
        if not math.isfinite(value):
            raise _invalid(check.column, f"{kind} must be a finite number")
        if type is ColumnType.INT64:
            whole = math.ceil(value) if kind == "min" else math.floor(value)
            if not -(2**63) <= whole < 2**63:
                raise _invalid(check.column, f"{kind} {value} lies beyond what an int64 holds")
            return whole
    if kind == "oneOf":
        allowed, bad = parse(pa.array(value, pa.string()), type)
        wrong = [text for text, is_bad in zip(value, bad.to_pylist(), strict=True) if is_bad]
        if wrong:
            raise _invalid(check.column, f"oneOf allows '{wrong[0]}', which is no {type.value}")
        return allowed
    if kind == "matches":
        if type is not ColumnType.STRING:
            raise _invalid(check.column, f"matches needs text, and the column is of type {type.value}")
        try:
            pc.match_substring_regex(pa.array([""]), value)
        except pa.ArrowInvalid as error:
            raise _invalid(check.column, f"matches is no regular expression: {str(error).splitlines()[0]}") from error
    return value


def _invalid(column: str, why: str) -> Stalled:
    return Stalled(Reason.INVALID_SPEC, f"spec.quality for the column '{column}': {why}")
