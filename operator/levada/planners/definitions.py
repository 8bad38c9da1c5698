"""What can be told of a FeatureSet's query and derived features before anything runs."""

from __future__ import annotations

from functools import lru_cache

from levada.errors import Stalled
from levada.features import expressions
from levada.features.query import check_query
from levada.features.types import ColumnType, ExpressionError
from levada.names import Kind
from levada.planners.plan import Observed
from levada.resources import Dataset, FeatureSet, Ref
from levada.resources.conditions import Reason
from levada.resources.dataset import Column
from levada.resources.featureset import Lookup


def lookup_prefix(lookup: Lookup) -> str:
    """What stands before the names of looked-up columns."""
    return lookup.prefix if lookup.prefix is not None else lookup.feature_set.replace("-", "_") + "_"


def check(feature_set: FeatureSet, observed: Observed) -> None:
    """Raise Stalled for a query or an expression that cannot be; types are checked as far as columns are known."""
    spec = feature_set.spec
    if spec.query is not None:
        _check_query(spec.query, tuple(given.table for given in spec.inputs))
    derived = tuple((feature.name, feature.expression) for feature in spec.derive)
    for index, (name, expression) in enumerate(derived):
        field = f"spec.derive[{index}].expression: derived feature '{name}'"
        try:
            expressions.request_columns(expression)
        except ExpressionError as error:
            raise Stalled(Reason.INVALID_EXPRESSION, f"{field}: {error}") from error
    columns = _columns(feature_set, observed)
    if columns is not None:
        _check_types(derived, columns)


@lru_cache(maxsize=4096)
def _check_query(query: str, tables: tuple[str, ...]) -> None:
    check_query(query, tables)


@lru_cache(maxsize=4096)
def _check_types(derived: tuple[tuple[str, str], ...], columns: tuple[tuple[str, ColumnType], ...]) -> None:
    try:
        expressions.derive(derived, dict(columns))
    except ExpressionError as error:
        raise Stalled(Reason.INVALID_EXPRESSION, f"spec.derive: {error}") from error


def _columns(feature_set: FeatureSet, observed: Observed) -> tuple[tuple[str, ColumnType], ...] | None:
    """The columns of a row before derivations, where no query makes them and everything that brings them is there."""
    namespace, spec = feature_set.metadata.namespace, feature_set.spec
    dataset = observed.resources.get(Ref(Kind.DATASET, namespace, spec.inputs[0].dataset))
    if spec.query is not None or not isinstance(dataset, Dataset) or not dataset.status.columns:
        return None
    columns = {column.name: column.type for column in dataset.status.columns}
    for lookup in spec.lookups:
        other = observed.resources.get(Ref(Kind.FEATURE_SET, namespace, lookup.feature_set))
        if not isinstance(other, FeatureSet) or not other.status.columns:
            return None
        columns |= {lookup_prefix(lookup) + c.name: c.type for c in _taken(other, lookup)}
    return tuple(columns.items())


def _taken(other: FeatureSet, lookup: Lookup) -> list[Column]:
    """The columns that a look-up takes, as far as the other feature set has them."""
    spec = other.spec
    own = {*spec.entity.keys, spec.entity.timestamp, spec.label}
    wanted = lookup.columns or spec.features
    return [c for c in other.status.columns if (c.name not in own if wanted is None else c.name in wanted)]
