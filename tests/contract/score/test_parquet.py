"""Parquet files that are uploaded while they are written."""

from __future__ import annotations

import gc
import io
import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from levada.steps import parquet
from levada.steps.parquet import ParquetFile
from tests.support.steps import Bench

TABLE = pa.table({"a": list(range(1000))})


def test_what_is_known_of_a_file_is_true(bench: Bench) -> None:
    with ParquetFile(bench.objects, "p/", "x.parquet", TABLE.schema) as file:
        file.write(TABLE)
    assert file.stored is not None
    data = bench.objects.get("p/x.parquet")
    assert (file.stored.rows, file.stored.bytes) == (1000, len(data))
    assert pq.read_table(io.BytesIO(data)) == TABLE


def test_x5_a_file_that_is_given_up_writes_nothing_any_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: ignored.append(found.exc_value))
    monkeypatch.setattr(parquet, "_BUFFER", 16)  # bytes, so that a footer does not fit

    def fail() -> None:
        with ParquetFile(bench.objects, "p/", "x.parquet", TABLE.schema) as file:
            file.write(TABLE)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    gc.collect()
    assert ignored == []
    assert bench.objects.info("p/x.parquet") is None
