"""Where data comes from."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from levada.artifacts import Listing
from levada.errors import Stalled, StoreUnavailable
from levada.methods.sources import Access, EntrySource, SourceChanged, open_source
from levada.resources.conditions import Reason
from levada.resources.dataset import DatasetSpec
from levada.settings import Settings
from levada.steps.agreed import LISTING
from tests.contract.ingest.conftest import Ingestion


def _refused(ingestion: Ingestion, spec: DatasetSpec, reason: Reason, message: str, allow_files: bool = False) -> str:
    with pytest.raises(Stalled, match=message) as refused:
        ingestion.run(spec, allow_files=allow_files)
    assert refused.value.reason is reason
    return refused.value.message


def test_only_what_matches_is_listed_in_order(ingestion: Ingestion) -> None:
    for name in ("b.csv", "a.csv", "2013/c.csv", "_SUCCESS", ".hidden.csv", "d.txt", "2013/_tmp/e.csv"):
        ingestion.put(name, "a\n1\n")
    for pattern, expected in {
        "*.csv": ["a.csv", "b.csv"],
        "**/*.csv": ["2013/c.csv", "a.csv", "b.csv"],
        "2013/*": ["2013/c.csv"],
        "*": ["a.csv", "b.csv", "d.txt"],
    }.items():
        batch = ingestion.run(ingestion.spec(pattern=pattern))
        assert [file.key.removeprefix("original/") for file in batch.manifest.originals] == expected


def test_a_single_object_can_be_named(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", "a\n1\n")
    ingestion.put("a.csv.old", "a\n2\n")
    batch = ingestion.run(ingestion.spec(uri=f"s3://{ingestion.landing}/in/a.csv"))
    assert [row["a"] for row in batch.rows] == [1]
    assert [file.key for file in batch.manifest.originals] == ["original/a.csv"]


def test_a_prefix_is_a_folder(ingestion: Ingestion) -> None:
    ingestion.put("x/a.csv", "a\n1\n")
    ingestion.put("x2/a.csv", "a\n2\n")
    for uri in (f"s3://{ingestion.landing}/in/x", f"s3://{ingestion.landing}/in/x/"):
        assert [row["a"] for row in ingestion.run(ingestion.spec(uri=uri)).rows] == [1]


def test_nothing_that_matches_is_said_with_uri_and_pattern(ingestion: Ingestion) -> None:
    message = _refused(ingestion, ingestion.spec(pattern="*.parquet"), Reason.SOURCE_NOT_FOUND, "matches the pattern")
    assert f"s3://{ingestion.landing}/in/" in message
    assert "'*.parquet'" in message


def test_an_absent_bucket_is_named(ingestion: Ingestion) -> None:
    spec = ingestion.spec(uri="s3://no-such-bucket/in/")
    _refused(ingestion, spec, Reason.SOURCE_NOT_FOUND, r"has no bucket 'no-such-bucket': create it, or correct")


def test_credentials_come_by_reference(ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    ingestion.put("a.csv", "a\n1\n")
    spec = ingestion.spec(object={"credentials": {"secretRef": {"name": "landing-zone"}}})
    _refused(ingestion, spec, Reason.ACCESS_DENIED, "the Secret 'landing-zone' has no key 'accessKey'")
    monkeypatch.setenv("LEVADA_SECRET_LANDING_ZONE_ACCESSKEY", ingestion.endpoints.objects.access_key)
    monkeypatch.setenv("LEVADA_SECRET_LANDING_ZONE_SECRETKEY", "not-the-secret")
    message = _refused(ingestion, spec, Reason.ACCESS_DENIED, "refuses the bucket")
    assert "not-the-secret" not in message
    assert ingestion.endpoints.objects.access_key not in message
    monkeypatch.setenv("LEVADA_SECRET_LANDING_ZONE_SECRETKEY", ingestion.endpoints.objects.secret_key)
    assert ingestion.run(spec).rows == [{"a": 1}]


def test_a_store_that_does_not_answer_is_tried_again(ingestion: Ingestion) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spec = ingestion.spec(object={"endpoint": f"http://127.0.0.1:{port}"})
    with pytest.raises(StoreUnavailable, match=f"the object store http://127.0.0.1:{port} does not answer"):
        ingestion.run(spec)


def test_a_file_that_changes_after_it_was_listed_is_refused(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", "a\n1\n")
    source = open_source(ingestion.spec().source, Access(Settings()))
    (entry,) = source.list()
    assert b"".join(source.read(entry)) == b"a\n1\n"
    ingestion.put("a.csv", "a\n2\n")
    with pytest.raises(Stalled, match=r"in/a\.csv was changed or removed while it was read"):
        list(source.read(entry))


def test_large_objects_are_read_in_ranges(ingestion: Ingestion) -> None:
    data = bytes(range(256)) * 40_000
    ingestion.put("a.bin", data)
    source = open_source(ingestion.spec().source, Access(Settings()))
    (entry,) = source.list()
    assert b"".join(source.read(entry)) == data
    with source.open(entry) as file:
        file.seek(-3, 2)
        assert file.read() == data[-3:]


def test_local_files_are_read_where_that_is_allowed(ingestion: Ingestion, tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.csv").write_text("a\n1\n")
    (folder / "sub" / "b.csv").write_text("a\n2\n")
    spec = ingestion.spec(uri=f"file://{folder}/", pattern="**/*.csv")
    message = f"{re.escape(f'file://{folder}/')} names a local folder, which only the local engine reads"
    _refused(ingestion, spec, Reason.NOT_SUPPORTED, message)
    batch = ingestion.run(spec, allow_files=True)
    assert [row["a"] for row in batch.rows] == [1, 2]
    assert [file.key for file in batch.manifest.originals] == ["original/a.csv", "original/sub/b.csv"]
    single = ingestion.spec(uri=f"file://{folder}/a.csv")
    assert ingestion.run(single, allow_files=True).rows == [{"a": 1}]
    missing = ingestion.spec(uri=f"file://{folder}/nowhere/")
    _refused(ingestion, missing, Reason.SOURCE_NOT_FOUND, "nothing at .*/nowhere/ matches", allow_files=True)


def _folder(path: Path) -> EntrySource:
    document = {"source": {"type": "object", "object": {"uri": f"file://{path}"}}, "format": {"type": "csv"}}
    return open_source(DatasetSpec.model_validate(document).source, Access(Settings(), allow_files=True))


def test_a_local_file_that_is_written_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"1" * (3 << 20))
    source = _folder(tmp_path)
    (entry,) = source.list()
    chunks = source.read(entry)
    assert next(chunks)
    with file.open("r+b") as writer:
        writer.seek(2 << 20)
        writer.write(b"2" * (1 << 20))
    os.utime(file, ns=(0, 0))  # a clock may be too coarse to tell
    with pytest.raises(SourceChanged, match=r"a\.csv was changed or removed while it was read"):
        list(chunks)


def test_a_link_to_nothing_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.csv").symlink_to(tmp_path / "nowhere.csv")
    assert [entry.uri for entry in _folder(tmp_path).list()] == [f"file://{tmp_path}/a.csv"]


def test_a_folder_that_goes_while_it_is_listed_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "gone").mkdir()
    scan = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("gone"):
            os.rmdir(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert len(_folder(tmp_path).list()) == 1


def test_what_cannot_be_listed_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(Stalled, match=r"a\.csv/x cannot be read: Not a directory") as refused:
        _folder(tmp_path / "a.csv" / "x").list()
    assert refused.value.reason is Reason.SOURCE_UNREADABLE
    (tmp_path / "b.csv").symlink_to("b.csv")
    with pytest.raises(
        Stalled, match=r"^spec\.source\.object\.uri file://.*Too many levels of symbolic links"
    ) as refused:
        _folder(tmp_path).list()
    assert refused.value.reason is Reason.SOURCE_UNREADABLE


def test_a_local_file_that_changes_after_it_was_listed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    source = _folder(tmp_path)
    (entry,) = source.list()
    (tmp_path / "a.csv").write_text("a\n1\n2\n")
    with pytest.raises(Stalled, match="was changed or removed while it was read"):
        list(source.read(entry))
    (tmp_path / "a.csv").unlink()
    with pytest.raises(Stalled):
        list(source.read(entry))


@pytest.mark.parametrize(
    "source",
    [
        {"type": "http", "http": {"url": "http://example.org/a.csv"}},
        {"type": "sql", "sql": {"dsn": "postgresql://host/db", "query": "select 1"}},
        {"type": "stream", "stream": {"subject": "things.raw"}},
    ],
)
def test_sources_that_are_not_there_yet_are_refused_by_name(ingestion: Ingestion, source: dict[str, object]) -> None:
    spec = DatasetSpec.model_validate({"source": source, "format": {"type": "csv"}})
    _refused(ingestion, spec, Reason.NOT_SUPPORTED, f"there is no source '{source['type']}'")


def test_listings_are_written_once(ingestion: Ingestion) -> None:
    """Whoever comes first says what belongs to the batch."""
    ingestion.put("a.csv", "a\n1\n")
    step = ingestion.input(ingestion.spec(), "batch-x", parts=2)
    assert ingestion.run_index(step, 0) is None
    ingestion.put("b.csv", "a\n2\n")
    output = ingestion.run_index(step, 1)
    assert output is not None
    assert output.manifest.rows == 1
    listing = Listing.from_bytes(ingestion.objects.get(ingestion.prefix("batch-x") + LISTING))
    assert [entry.uri for entry in listing.entries] == [f"s3://{ingestion.landing}/in/a.csv"]
    assert output.manifest.created_at == listing.listed_at


@pytest.mark.parametrize("name", ["a\tb.csv", "a\n.csv"])
def test_a_key_that_cannot_be_read_is_named(ingestion: Ingestion, name: str) -> None:
    ingestion.put(name, "a\n1\n")
    message = (
        rf"^spec\.source\.object\.uri 's3://.*': the key {re.escape(repr('in/' + name))} holds '\\.', so it cannot"
    )
    with pytest.raises(Stalled, match=message) as refused:
        ingestion.run(ingestion.spec())
    assert refused.value.reason is Reason.SOURCE_UNREADABLE


def test_a_uri_that_no_key_can_have_is_refused(ingestion: Ingestion) -> None:
    for path, fault in (("in/a\tb.csv", r"the key 'in/a\\tb.csv' holds '\\t'"), ("in//a.csv", "the key 'in//a.csv'")):
        with pytest.raises(Stalled, match=rf"^spec\.source\.object\.uri 's3://.*: {fault}") as refused:
            ingestion.run(ingestion.spec(uri=f"s3://{ingestion.landing}/{path}"))
        assert refused.value.reason is Reason.SOURCE_UNREADABLE
        assert refused.value.message.isprintable()
