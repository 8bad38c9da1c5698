"""Bad input: one clear sentence that names the file, the line or the column, and nothing half-visible."""

from __future__ import annotations

import gzip

import pytest

from levada.errors import Stalled
from levada.names import MANIFEST
from levada.resources.conditions import Reason
from levada.steps.agreed import LISTING
from levada.steps.ingest.receipt import SCHEMA
from tests.contract.ingest.conftest import Ingestion

COLUMNS = {"columns": [{"name": "a", "type": "int64"}, {"name": "b", "type": "string", "nullable": False}]}
GOOD = b"a,b\n1,x\n"


def _refused(ingestion: Ingestion, reason: Reason, message: str, declared: bool = False, **spec: object) -> None:
    """The batch is refused in one sentence, nothing of it can be seen, and the next attempt looks anew."""
    more = {"schema": COLUMNS} if declared else {}
    with pytest.raises(Stalled, match=message) as refused:
        ingestion.run(ingestion.spec(**(more | spec)), batch="batch-bad")  # type: ignore[arg-type]
    assert refused.value.reason is reason
    assert "\n" not in refused.value.message
    prefix = ingestion.prefix("batch-bad")
    for name in (MANIFEST, LISTING, SCHEMA):
        assert ingestion.objects.info(prefix + name) is None
    assert list(ingestion.objects.list(prefix)) == []
    assert ingestion.catalogue.lineage("batch-bad") == []
    assert ingestion.catalogue.pending_events() == []


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("name", "data", "reason", "message"),
    [
        (
            "b.csv.gz",
            gzip.compress(GOOD * 9999)[:-20],
            Reason.SOURCE_UNREADABLE,
            r"^b\.csv\.gz is a truncated gzip",
        ),
        (
            "b.csv",
            b"a,b\n1,x\n2,\xe9\n",
            Reason.INVALID_DATA,
            r"^b\.csv: line 3 is not UTF-8 .* format",
        ),
        ("b.csv", b"a,b,a\n1,x,2\n", Reason.INVALID_DATA, r"^b\.csv has the column 'a' twice"),
        ("b.csv", b"", Reason.INVALID_DATA, r"^b\.csv is empty: remove it"),
        ("b.csv", b"1,x\n2,y\n", Reason.INVALID_DATA, r"^the first line of b\.csv does not name columns"),
        ("b.csv", b"a;b\n1;x\n", Reason.INVALID_DATA, r"^b\.csv has a single column .* format\.delimiter to ';'"),
    ],
)
def test_one_bad_file_refuses_the_batch(
    ingestion: Ingestion, name: str, data: bytes, reason: Reason, message: str, declared: bool
) -> None:
    ingestion.put("a.csv", GOOD)
    ingestion.put(name, data)
    _refused(ingestion, reason, message, declared)


def test_a_gzip_that_breaks_far_behind_its_sample_refuses_the_batch(ingestion: Ingestion) -> None:
    text = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919 % 100_003) for i in range(400_000))
    ingestion.put("big.csv.gz", gzip.compress(text)[:-1000])
    _refused(ingestion, Reason.SOURCE_UNREADABLE, r"^big\.csv\.gz is a truncated gzip file: write it again")


def test_a_file_without_a_declared_column_refuses_the_batch(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", GOOD)
    ingestion.put("b.csv", "a,c\n1,x\n")
    _refused(ingestion, Reason.INVALID_DATA, r"^b\.csv has no column 'b', which spec\.schema\.columns declares", True)


def test_a_batch_without_a_good_row_is_refused(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", "a,b\n1\n2\n")
    ingestion.put("b.csv", "a,b\n1,x,y\n")
    message = r"^none of the 3 rows can be used \(a\.csv line 2 has 1 values instead of 2\)"
    _refused(ingestion, Reason.INVALID_DATA, message)
    message = r"^none of the 1 rows can be used \(b\.csv line 2: a 'x' is not an int64\)"
    ingestion.put("b.csv", "a,b\nx,y\n")
    _refused(ingestion, Reason.INVALID_DATA, message, True, pattern="b.csv")


def test_zero_rows_are_refused(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", "a,b\n")
    ingestion.put("b.csv", "a,b\n")
    for declared in (True, False):
        _refused(ingestion, Reason.NO_ROWS, "^the source has no rows", declared)


def test_ragged_and_mixed_rows_are_set_aside_with_their_lines(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", "a,b\n1,x\n2\nthree,y\n4,\n5,z,!\n6,w\n")
    batch = ingestion.run(ingestion.spec(schema=COLUMNS))
    assert [row["a"] for row in batch.rows] == [1, 6]
    assert batch.quarantine == [
        ("a.csv", 3, None, "has 1 values instead of 2", "2"),
        ("a.csv", 4, "a", "'three' is not an int64", "three,y"),
        ("a.csv", 6, None, "has 3 values instead of 2", "5,z,!"),
        ("a.csv", 5, "b", "has no value, and may not be null", "4,"),
    ]
    assert batch.manifest.quarantined == 4


def test_files_that_do_not_belong_together_are_refused(ingestion: Ingestion) -> None:
    ingestion.put("flights.csv", "a,b,c,d,e\n1,2,3,4,5\n")
    ingestion.put("airlines.csv", "carrier,name\nUA,United\n")
    _refused(ingestion, Reason.INVALID_DATA, r"^airlines\.csv has only 2 of the 7 columns .* narrow")


def test_a_column_of_roles_that_is_not_there_is_refused(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", GOOD)
    _refused(ingestion, Reason.INVALID_SPEC, r"spec\.schema\.timeColumn names 't'", schema={"timeColumn": "t"})


def test_a_batch_that_was_refused_can_be_made_once_the_source_is_right(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", GOOD)
    ingestion.put("b.csv", b"")
    _refused(ingestion, Reason.INVALID_DATA, r"^b\.csv is empty")
    ingestion.put("b.csv", b"a,b\n2,y\n")
    assert [row["a"] for row in ingestion.run(ingestion.spec(), batch="batch-bad").rows] == [1, 2]


def test_declared_columns_that_differ_in_case_only_are_refused(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", GOOD)
    schema = {"columns": [{"name": "a", "type": "int64"}, {"name": "A", "type": "int64"}]}
    message = r"^the columns 'a' \(in spec\.schema\.columns\) and 'A' \(in spec\.schema\.columns\) are one for SQL"
    _refused(ingestion, Reason.INVALID_DATA, message, schema=schema)


def test_a_refused_check_leaves_nothing_either(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", GOOD)
    checks = [{"column": "a", "min": 5, "onViolation": "refuse"}]
    _refused(ingestion, Reason.QUALITY_REFUSED, "^the batch is refused: 1 values", quality=checks)
