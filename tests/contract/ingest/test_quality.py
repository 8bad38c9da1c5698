"""Quality checks on a whole batch, and what they leave in its manifest."""

from __future__ import annotations

import pytest

from levada.errors import Stalled
from levada.resources.conditions import Reason
from tests.contract.ingest.conftest import Ingestion


def test_ing6_results_are_counted_and_said(ingestion: Ingestion) -> None:
    ingestion.put("1.csv", "a,b\n1,x\n-1,y\n")
    ingestion.put("2.csv", "a,b\n-2,q\n4,x\n")
    checks = [
        {"column": "a", "min": 0, "onViolation": "quarantine"},
        {"column": "b", "oneOf": ["x", "y"], "notNull": True, "onViolation": "warn"},
    ]
    batch = ingestion.run(ingestion.spec(quality=checks), parts=2)
    assert [(q.column, q.check, q.violations, q.action) for q in batch.manifest.quality] == [
        ("a", "min 0", 2, "quarantine"),
        ("b", "notNull", 0, "warn"),
        ("b", "oneOf x, y", 0, "warn"),  # the row with q was set aside before
    ]
    assert [row["a"] for row in batch.rows] == [1, 4]
    assert [(file, line, reason) for file, line, _, reason, _ in batch.quarantine] == [
        ("1.csv", 3, "breaks min 0: -1"),
        ("2.csv", 2, "breaks min 0: -2"),
    ]
    assert any("2 values of the column 'a' break min 0 and were set aside" in warning for warning in ingestion.warnings)
    assert batch.manifest.profile[0].min == 1.0


def test_ing6_a_broken_demand_refuses_the_batch(ingestion: Ingestion) -> None:
    ingestion.put("1.csv", "a\n1\n2\n")
    ingestion.put("2.csv", "a\n3\n-4\n-5\n")
    step = ingestion.input(ingestion.spec(quality=[{"column": "a", "min": 0, "onViolation": "refuse"}]), "batch-x", 2)
    assert ingestion.run_index(step, 0) is None
    for _ in range(2):
        with pytest.raises(Stalled, match=r"2 values of the column 'a' break min 0 \(first in 2.csv line 3: -4\)") as r:
            ingestion.run_index(step, 1)
        assert r.value.reason is Reason.QUALITY_REFUSED


@pytest.mark.parametrize("parts", [1, 2])
def test_ing6_repeats_are_set_aside_over_all_files(ingestion: Ingestion, parts: int) -> None:
    ingestion.put("1.csv", "k,v\na,1\nb,2\nbad\nc,3\n")
    ingestion.put("2.csv", "k,v\nb,20\nd,4\na,10\n")
    checks = [{"column": "k", "unique": True, "onViolation": "quarantine"}]
    batch = ingestion.run(ingestion.spec(quality=checks), parts=parts)
    assert [(row["k"], row["v"]) for row in batch.rows] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert (batch.manifest.rows, batch.manifest.quarantined) == (4, 3)
    assert batch.manifest.quality[0].violations == 2
    assert batch.quarantine == [
        ("1.csv", 4, None, "has 1 values instead of 2", "bad"),
        ("2.csv", 2, "k", "breaks unique: b", '{"k": "b", "v": 20}'),
        ("2.csv", 4, "k", "breaks unique: a", '{"k": "a", "v": 10}'),
    ]
    assert batch.table.column_names == ["k", "v"]
    assert batch.manifest.profile[1].max == 4.0
    assert not [key for key in batch.digests() if key.startswith("staged/")]


def test_ing6_outliers_are_rectified_over_all_files(ingestion: Ingestion) -> None:
    ingestion.put("1.csv", "a\n" + "\n".join(str(i) for i in range(101)) + "\n")
    ingestion.put("2.csv", "a\n10000\n-10000\n")
    checks = [{"column": "a", "outliers": 2, "onViolation": "rectify"}]
    batch = ingestion.run(ingestion.spec(quality=checks), parts=2)
    assert [row["a"] for row in batch.rows[-2:]] == [152, -52]
    assert batch.manifest.profile[0].max == 152.0
    assert batch.manifest.quarantined == 0


def test_ing6_repeats_may_only_be_counted_or_refuse(ingestion: Ingestion) -> None:
    ingestion.put("1.csv", "a\n1\n2\n")
    ingestion.put("2.csv", "a\n3\n1\n")
    warned = ingestion.run(ingestion.spec(quality=[{"column": "a", "unique": True}]), parts=2)
    assert (warned.manifest.rows, warned.manifest.quality[0].violations) == (4, 1)
    refused = ingestion.spec(quality=[{"column": "a", "unique": True, "onViolation": "refuse"}])
    with pytest.raises(Stalled, match=r"1 values of the column 'a' break unique \(first in row 2 of 2.csv: 1\)"):
        ingestion.run(refused)


def test_ing6_a_check_on_no_column_is_refused(ingestion: Ingestion) -> None:
    ingestion.put("1.csv", "a\n1\n")
    with pytest.raises(Stalled, match=r"spec.quality for the column 'z': there is no such column \(there are: a\)"):
        ingestion.run(ingestion.spec(quality=[{"column": "z", "min": 0}]))


def test_ing6_a_check_on_all_rows_that_leaves_none_refuses_the_batch_with_its_first_reason(
    ingestion: Ingestion,
) -> None:
    ingestion.put("1.csv", "x\n1.0\n2.0\n")
    checks = [{"column": "x", "outliers": 0.1, "onViolation": "quarantine"}]
    with pytest.raises(
        Stalled, match=r"^none of the 2 rows can be used \(1\.csv line 2: x breaks outliers 0\.1: 1"
    ) as r:
        ingestion.run(ingestion.spec(quality=checks))
    assert r.value.reason is Reason.INVALID_DATA
