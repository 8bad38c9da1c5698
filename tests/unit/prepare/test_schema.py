"""The columns of a version, and the sentences about what is wrong with them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from levada.artifacts import FeatureColumn, FeatureManifest, LookupSpec
from levada.errors import Stalled
from levada.features.types import ColumnType
from levada.resources.conditions import Reason
from levada.resources.featureset import FeatureSetSpec, Lookup
from levada.steps.prepare.schema import (
    QueryColumn,
    check_entity,
    check_names,
    completed,
    query_columns,
    version_columns,
)

C = ColumnType


def featureset(**fields: Any) -> FeatureSetSpec:
    return FeatureSetSpec.model_validate(
        {"inputs": [{"dataset": "flights"}], "entity": {"keys": ["tailnum"], "timestamp": "time_hour"}} | fields
    )


QUERY = [
    QueryColumn("tailnum", C.STRING, ""),
    QueryColumn("time_hour", C.TIMESTAMP, ""),
    QueryColumn("distance", C.INT64, ""),
    QueryColumn("late", C.BOOLEAN, ""),
    QueryColumn("seen", C.DATE, ""),
]
TYPES = {column.name: column.type for column in QUERY}

OTHER = FeatureManifest(
    version="features-1",
    namespace="default",
    feature_set="planes",
    columns=[
        FeatureColumn(name="tail", type=C.STRING, origin="query", role="key"),
        FeatureColumn(name="year", type=C.INT64, origin="query", role="feature"),
        FeatureColumn(name="built", type=C.DATE, origin="query", role="other"),
    ],
    keys=["tail"],
    rows=1,
    files=[],
    inputs=[],
    created_at=datetime(2024, 1, 1, tzinfo=UTC),
)
GIVEN = LookupSpec(
    feature_set="planes",
    namespace="default",
    version="features-1",
    prefix="",
    on=["tailnum"],
    keys=["tail"],
    key_types=[],
    columns=[],
)


def complete(lookup: dict[str, Any], given: LookupSpec = GIVEN, other: FeatureManifest = OTHER) -> LookupSpec:
    wanted = Lookup.model_validate({"featureSet": "planes", "keys": given.on} | lookup)
    return completed(0, wanted, given, other, TYPES)


def message(refused: pytest.ExceptionInfo[Stalled]) -> str:
    assert "\n" not in refused.value.message
    return refused.value.message


@pytest.mark.parametrize(
    ("value", "type"),
    [
        ("1::TINYINT", C.INT64),
        ("1::UBIGINT", C.INT64),
        ("sum(1)", C.INT64),
        ("1.5::DECIMAL(4, 1)", C.FLOAT64),
        ("1::FLOAT", C.FLOAT64),
        ("NULL", C.FLOAT64),
        ("'a'", C.STRING),
        ("'a'::ENUM ('a', 'b')", C.STRING),
        ("'{}'::JSON", C.STRING),
        ("'6f1cf5a0-6f0c-5c0e-9d4c-0d9a1f3f9b11'::UUID", C.STRING),
        ("true", C.BOOLEAN),
        ("DATE '2024-01-01'", C.DATE),
        ("TIMESTAMP '2024-01-01'", C.TIMESTAMP),
        ("TIMESTAMP_NS '2024-01-01'", C.TIMESTAMP),
        ("TIMESTAMPTZ '2024-01-01'", C.TIMESTAMP),
    ],
)
def test_prep1_types_of_the_engine_become_types_of_columns(value: str, type: ColumnType) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW v AS SELECT {value} AS x")
        (column,) = query_columns([row[:2] for row in connection.execute("DESCRIBE v").fetchall()])
        connection.execute(f"CREATE VIEW w AS SELECT {column.expression} AS x FROM v")
        (stored,) = query_columns([row[:2] for row in connection.execute("DESCRIBE w").fetchall()])

    assert column.type is type
    assert stored.type is type
    assert stored.expression in ('"x"', "nullif(\"x\"::DOUBLE, 'nan'::DOUBLE)")


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ([("x", "INTEGER[]")], ("'x'", "INTEGER[]")),
        ([("x", "STRUCT(a INTEGER)")], ("'x'", "STRUCT(a INTEGER)")),
        ([("x", "MAP(VARCHAR, INTEGER)")], ("'x'", "MAP")),
        ([("x", "DECIMAL(3,1)[2]")], ("'x'", "DECIMAL(3,1)[2]")),
        ([("x", "INTERVAL")], ("'x'", "INTERVAL")),
        ([("x", "TIME")], ("'x'", "TIME")),
        ([("x", "BLOB")], ("'x'", "BLOB")),
        ([("count_star()", "BIGINT")], ("'count_star()'", "AS")),
        ([("x", "BIGINT"), ("x", "BIGINT")], ("two columns", "'x'")),
        ([("x", "BIGINT"), ("X", "BIGINT")], ("'x'", "'X'", "case")),
    ],
)
def test_x5_a_column_that_cannot_be_kept_is_named(described: list[tuple[str, str]], words: tuple[str, ...]) -> None:
    with pytest.raises(Stalled) as refused:
        query_columns(described)

    assert refused.value.reason is Reason.INVALID_QUERY
    for word in words:
        assert word in message(refused)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"entity": {"keys": ["tailnun"]}}, ("spec.entity.keys", "'tailnun'", "did you mean 'tailnum'")),
        ({"entity": {"keys": ["zzz"]}}, ("spec.entity.keys", "'zzz'", "there are: tailnum, time_hour")),
        ({"entity": {"keys": ["tailnum"], "timestamp": "time"}}, ("spec.entity.timestamp", "'time_hour'")),
        ({"entity": {"keys": ["tailnum"], "timestamp": "distance"}}, ("spec.entity.timestamp", "int64", "not a time")),
        ({"label": "lat"}, ("spec.label", "'lat'", "did you mean 'late'")),
    ],
)
def test_x5_a_column_that_the_query_lacks_is_named_with_the_nearest(
    fields: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(Stalled) as refused:
        check_entity(featureset(**fields), QUERY)

    for word in words:
        assert word in message(refused)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (["distanc"], ("spec.features", "did you mean 'distance'")),
        (["late"], ("spec.features", "'late' is the label")),
        (["seen"], ("spec.features", "'seen' is a date", "derive")),
    ],
)
def test_x5_a_feature_that_no_model_can_have_is_refused(features: list[str], words: tuple[str, ...]) -> None:
    with pytest.raises(Stalled) as refused:
        version_columns(featureset(label="late", features=features), QUERY, [], {})

    for word in words:
        assert word in message(refused)


def test_prep2_features_are_all_but_keys_times_and_label_unless_they_are_named() -> None:
    lookup = complete({})
    derived = {"hour": C.INT64}

    def roles(**fields: Any) -> dict[str, str]:
        return {c.name: c.role for c in version_columns(featureset(**fields), QUERY, [lookup], derived)}

    assert roles(label="late") == {
        "tailnum": "key",
        "time_hour": "timestamp",
        "distance": "feature",
        "late": "label",
        "seen": "other",
        "planes_year": "feature",
        "hour": "feature",
    }
    assert roles(features=["tailnum", "hour"]) == {
        "tailnum": "feature",
        "time_hour": "timestamp",
        "distance": "other",
        "late": "other",
        "seen": "other",
        "planes_year": "other",
        "hour": "feature",
    }
    origins = [c.origin for c in version_columns(featureset(), QUERY, [lookup], derived)]
    assert origins == ["query"] * 5 + ["lookup", "derived"]


def test_prep1_a_lookup_takes_the_features_of_the_other_unless_columns_are_named() -> None:
    assert [(c.source, c.name, c.type) for c in complete({}).columns] == [("year", "planes_year", C.INT64)]
    named = complete({"columns": ["built", "tail"], "prefix": "p_"})
    assert [(c.source, c.name, c.type) for c in named.columns] == [
        ("built", "p_built", C.DATE),
        ("tail", "p_tail", C.STRING),
    ]
    assert named.key_types == [C.STRING]


@pytest.mark.parametrize(
    ("lookup", "given", "words"),
    [
        ({}, {"on": ["tailnun"]}, ("spec.lookups[0].keys", "did you mean 'tailnum'")),
        ({}, {"on": ["distance"]}, ("'distance' is int64", "'tail'", "planes", "string", "cast")),
        ({"asOf": "tim_hour"}, {"as_of": "tim_hour"}, ("spec.lookups[0].asOf", "did you mean 'time_hour'")),
        ({"asOf": "distance"}, {"as_of": "distance"}, ("spec.lookups[0].asOf", "int64", "not a time")),
        ({"columns": ["yeer"]}, {}, ("spec.lookups[0].columns", "planes", "did you mean 'year'")),
    ],
)
def test_x5_a_lookup_that_cannot_be_made_is_refused_by_name(
    lookup: dict[str, Any], given: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(Stalled) as refused:
        complete(lookup, GIVEN.model_copy(update=given))

    assert refused.value.reason is Reason.INVALID_SPEC
    for word in words:
        assert word in message(refused)


def test_x5_a_lookup_of_a_feature_set_without_features_needs_columns() -> None:
    bare = OTHER.model_copy(update={"columns": [OTHER.columns[0], OTHER.columns[2]]})

    with pytest.raises(Stalled, match="planes has no features"):
        complete({}, other=bare)


def test_x5_a_looked_up_column_that_has_a_name_already_is_refused() -> None:
    lookup = complete({})
    check_names(QUERY, [lookup])

    with pytest.raises(Stalled, match=r"spec.lookups\[1\].*'planes_year'.*spec.lookups\[0\].*prefix"):
        check_names(QUERY, [lookup, lookup])
    with pytest.raises(Stalled, match=r"spec.lookups\[0\].*'planes_year'.*the query.*prefix"):
        check_names([QueryColumn("Planes_Year", C.INT64, "")], [lookup])
