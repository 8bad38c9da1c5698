"""Formats and compressions, and what a batch keeps of them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from levada import names
from levada.events import EventType
from tests.contract.ingest.conftest import Ingestion

ROWS: list[dict[str, Any]] = [
    {"id": 1, "x": 0.5, "name": "a, \"b\"\nc", "ok": True, "day": "2013-01-31", "at": "2013-01-31T09:30:00Z"},
    {"id": 2, "x": None, "name": "größe", "ok": None, "day": None, "at": None},
    {"id": 3, "x": -1.0, "name": None, "ok": False, "day": "2014-12-01", "at": "2014-12-01T00:00:00Z"},
]  # fmt: skip
TYPES = {"id": "int64", "x": "float64", "name": "string", "ok": "boolean", "day": "date", "at": "timestamp"}


def _csv() -> bytes:
    lines = ["id,x,name,ok,day,at"]
    for row in ROWS:
        cells = [row[name] for name in TYPES]
        quoted = ['"{}"'.format(str(cell).replace('"', '""')) if cell is not None else "NA" for cell in cells]
        lines.append(",".join(quoted))
    return ("\n".join(lines) + "\n").encode()


def _jsonl() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def _parquet() -> bytes:
    table = pa.Table.from_pylist(ROWS)
    table = table.set_column(4, "day", table["day"].cast(pa.date32()))
    table = table.set_column(5, "at", table["at"].cast(pa.timestamp("ms", "UTC")))
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside", data)
    return out.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".zip": _zipped,
}


@pytest.mark.parametrize("format", FORMATS)
def test_ing2_files_of_each_format_and_compression_give_the_same_rows(ingestion: Ingestion, format: str) -> None:
    data = FORMATS[format]()
    originals = {f"part{suffix or '.raw'}": compress(data) for suffix, compress in COMPRESSIONS.items()}
    for name, content in originals.items():
        ingestion.put(name, content)
    batch = ingestion.run(ingestion.spec(format))
    assert batch.types == TYPES
    assert len(batch.manifest.typed) == 4
    tables = [batch.parquet(file).read() for file in batch.manifest.typed]
    for table in tables:
        assert table.equals(tables[0])
        assert [str(type) for type in table.schema.types] == [
            "int64", "double", "string", "bool", "date32[day]", "timestamp[us]",
        ]  # fmt: skip
    rows = tables[0].to_pylist()
    assert [row["name"] for row in rows] == [row["name"] for row in ROWS]
    assert [row["x"] for row in rows] == [0.5, None, -1.0]
    assert [row["day"] for row in rows] == [date(2013, 1, 31), None, date(2014, 12, 1)]
    assert rows[0]["at"].isoformat() == "2013-01-31T09:30:00"
    assert not batch.manifest.quarantine
    kept = {file.key.removeprefix("original/"): batch.bytes(file) for file in batch.manifest.originals}
    assert kept == originals


def test_ing1_raw_bytes_are_kept_unchanged_with_their_digests(ingestion: Ingestion) -> None:
    ingestion.put("2013/a.csv", b"\xef\xbb\xbfa,b\r\n1,x\r\n\r\nnot a row")
    ingestion.put("2013/b c+%d.csv", b"a,b\n2,y")
    batch = ingestion.run(ingestion.spec(pattern="**/*.csv"))
    assert [file.key for file in batch.manifest.originals] == ["original/2013/a.csv", "original/2013/b c+%d.csv"]
    assert batch.bytes(batch.manifest.originals[0]) == b"\xef\xbb\xbfa,b\r\n1,x\r\n\r\nnot a row"
    assert batch.bytes(batch.manifest.originals[1]) == b"a,b\n2,y"
    for file in [*batch.manifest.originals, *batch.manifest.typed, *batch.manifest.quarantine]:
        assert names.digest(batch.bytes(file)) == file.digest
        assert len(batch.bytes(file)) == file.bytes
    assert batch.rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert batch.quarantine == [("2013/a.csv", 4, None, "has 1 values instead of 2", "not a row")]


def test_ing1_a_batch_is_catalogued_with_its_event(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", "a\n1\n")
    batch = ingestion.run(ingestion.spec(), batch="batch-one")
    (node,) = [node for node in ingestion.catalogue.lineage("batch-one") if node.type == "batch"]
    assert node.id == "batch-one"
    (event,) = ingestion.catalogue.pending_events()
    assert event.type is EventType.RAW_DATA_EXTRACTED
    assert (event.kind.value, event.namespace, event.name) == ("Dataset", "default", "things")
    assert event.data["batch"] == "batch-one"
    assert event.data["rows"] == 1
    assert event.data["digest"] == batch.output.digest
    assert event.time == batch.manifest.created_at


def test_rows_can_be_traced_to_file_and_line(ingestion: Ingestion) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("one.csv", "a\n1\nx\n2\n")
        archive.writestr("two.csv", "a\n3\n")
    ingestion.put("all.zip", out.getvalue())
    batch = ingestion.run(ingestion.spec(schema={"columns": [{"name": "a", "type": "int64"}]}))
    (typed,) = batch.manifest.typed
    marks = json.loads((batch.parquet(typed).metadata.metadata or {})[b"levada.origin"])
    assert marks == [{"file": "all.zip!one.csv", "row": 0, "line": 2}, {"file": "all.zip!two.csv", "row": 2, "line": 2}]
    assert [row["a"] for row in batch.rows] == [1, 2, 3]
    assert batch.quarantine == [("all.zip!one.csv", 3, "a", "'x' is not an int64", "x")]


def test_a_column_gets_one_type_over_all_files(ingestion: Ingestion) -> None:
    ingestion.put("1.csv", "a,b,c\n1,1,2013-01-01\n")
    ingestion.put("2.csv", "c,b,a\n2013-01-01T10:00:00,x,2.5\n")
    batch = ingestion.run(ingestion.spec(), parts=2)
    assert batch.types == {"a": "float64", "b": "string", "c": "timestamp"}
    assert [(row["a"], row["b"]) for row in batch.rows] == [(1.0, "1"), (2.5, "x")]
    assert any("the column 'b' is text because it is int64 in 1.csv" in warning for warning in ingestion.warnings)


def test_a_value_that_contradicts_the_inferred_type_is_set_aside(ingestion: Ingestion) -> None:
    lines = [f"{i},{'y' * 90}" for i in range(40_000)]
    lines[39_000] = "n/a,z"
    ingestion.put("a.csv", "a,b\n" + "\n".join(lines) + "\n")
    batch = ingestion.run(ingestion.spec())
    assert batch.types == {"a": "int64", "b": "string"}
    assert batch.manifest.rows == 39_999
    assert batch.quarantine == [("a.csv", 39_002, "a", "'n/a' is not an int64", "n/a,z")]
    assert any("1 of 40000 rows were set aside (the first: " in warning for warning in ingestion.warnings)


def test_profile_of_the_columns(ingestion: Ingestion) -> None:
    ingestion.put("1.csv", "a,b\n1,x\n2,y\n")
    ingestion.put("2.csv", "a,b\n6,\n,x\n")
    batch = ingestion.run(ingestion.spec(), parts=2)
    a, b = batch.manifest.profile
    assert (a.nulls, a.distinct, a.min, a.max, a.mean) == (1, 3, 1.0, 6.0, 3.0)
    assert a.std == pytest.approx(2.6457513)
    assert (b.nulls, b.distinct, b.min, b.max, b.mean) == (1, 2, "x", "y", None)


@pytest.mark.parametrize("type", ["csv", "parquet"])
def test_whole_numbers_beyond_2_53_are_kept_exactly(ingestion: Ingestion, type: str) -> None:
    """Such as ids that count up in time, and hashes."""
    ids = [2**60 + 1, 7, -(2**62) - 1]
    if type == "csv":
        ingestion.put("a.csv", "id\n" + "".join(f"{number}\n" for number in ids))
    else:
        out = io.BytesIO()
        pq.write_table(pa.table({"id": pa.array(ids, pa.int64())}), out)
        ingestion.put("a.parquet", out.getvalue())
    batch = ingestion.run(ingestion.spec(type, quality=[{"column": "id", "min": -1e18, "onViolation": "warn"}]))
    assert [row["id"] for row in batch.rows] == ids
    assert batch.types == {"id": "int64"}
    assert batch.manifest.profile[0].max == float(2**60)
    assert batch.manifest.quality[0].violations == 1
