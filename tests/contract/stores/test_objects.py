"""The contract of `Objects`."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from levada.engines.local.servers import Endpoints, S3Endpoint
from levada.errors import StoreUnavailable
from levada.settings import Settings
from levada.stores.objects import S3Objects, ensure_bucket, open_objects
from levada.stores.ports import BucketNotFound, ObjectChanged, ObjectNotFound, StoreRefused
from tests.conftest import s3_client
from tests.contract.stores.conftest import s3_objects

LARGE = np.random.default_rng(0).bytes(20 * 2**20 + 17)  # several parts of an upload
STRANGE = ["a b/c%41.csv", "ünï/çødé?#[1].csv", "a+b=c&d/~x'(1)!,.csv"]


def test_what_was_put_is_there_whole(objects: S3Objects) -> None:
    objects.put("a/empty", b"")
    objects.put("a/large", LARGE)
    objects.put("a/small", b"first")
    objects.put("a/small", b"second")
    assert objects.get("a/empty") == b""
    assert objects.get("a/large") == LARGE
    assert objects.get("a/small") == b"second"


@pytest.mark.parametrize("key", STRANGE)
def test_keys_are_kept_as_they_are(objects: S3Objects, bucket: S3Endpoint, key: str) -> None:
    objects.put(key, b"x")
    assert objects.get(key) == b"x"
    assert [info.key for info in objects.list(key.partition("/")[0] + "/")] == [key]
    assert [found.object_name for found in s3_client(bucket).list_objects(bucket.bucket, recursive=True)] == [key]


def test_an_object_that_is_not_there(objects: S3Objects, tmp_path: Path) -> None:
    for read in (objects.get, objects.reader, lambda key: objects.get_file(key, tmp_path / "file")):
        with pytest.raises(ObjectNotFound, match=f"there is no object s3://{objects.bucket}/a/none"):
            read("a/none")
    assert objects.info("a/none") is None
    assert not (tmp_path / "file").exists()


def test_put_if_absent_leaves_what_is_there(objects: S3Objects) -> None:
    assert objects.put_if_absent("manifest.json", b"one") is True
    assert objects.put_if_absent("manifest.json", b"two") is False
    assert objects.get("manifest.json") == b"one"


def test_x5_of_many_writers_exactly_one_creates(bucket: S3Endpoint) -> None:
    ready = threading.Barrier(8)
    won: list[int] = []

    def write(number: int) -> None:
        objects = s3_objects(bucket)
        ready.wait()
        if objects.put_if_absent("manifest.json", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert s3_objects(bucket).get("manifest.json") == str(won[0]).encode()


def test_files_go_in_and_come_out(objects: S3Objects, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(LARGE)
    (tmp_path / "none").write_bytes(b"")
    objects.put_file("a/file", tmp_path / "in")
    objects.put_file("a/none", tmp_path / "none")
    objects.get_file("a/file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == LARGE
    assert objects.get("a/none") == b""


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_stream_is_visible_at_its_end_and_not_before(objects: S3Objects, data: bytes) -> None:
    with objects.writer("a/stream") as stream:
        for start in range(0, len(data), 999_983):
            assert stream.write(data[start : start + 999_983]) > 0
        assert stream.tell() == len(data)
        assert objects.info("a/stream") is None
    assert objects.get("a/stream") == data


def test_ing1_a_buffer_that_is_filled_anew_after_a_write_does_not_change_what_was_written(objects: S3Objects) -> None:
    buffer, size = bytearray(), 1024 * 1024
    with objects.writer("many") as stream:
        for number in range(24):  # several parts of a multipart upload
            buffer[:] = bytes([number]) * size
            stream.write(memoryview(buffer))

    assert objects.get("many") == b"".join(bytes([number]) * size for number in range(24))


@pytest.mark.parametrize("size", [0, 100, len(LARGE)])
def test_x5_a_stream_that_ends_with_an_error_leaves_nothing(objects: S3Objects, bucket: S3Endpoint, size: int) -> None:
    objects.put("a/stream", b"what was there")
    with pytest.raises(FileNotFoundError, match="a file of the caller"):
        _write_and_fail(objects, LARGE[:size])
    assert objects.get("a/stream") == b"what was there"
    assert _unfinished(bucket) == []


def test_x5_a_writer_that_is_killed_leaves_nothing_visible(objects: S3Objects, bucket: S3Endpoint) -> None:
    code = """
import os, signal, sys
from tests.contract.stores.conftest import S3Endpoint, s3_objects
with s3_objects(S3Endpoint(*sys.argv[1:])).writer("a/stream") as stream:
    for _ in range(20):
        stream.write(bytes(2**20))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    arguments = [bucket.endpoint, bucket.bucket, bucket.access_key, bucket.secret_key]
    killed = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
    assert killed.returncode == -9, killed.stderr
    assert objects.info("a/stream") is None
    assert list(objects.list("a/")) == []


def test_a_reader_seeks_and_fetches_ranges(objects: S3Objects) -> None:
    objects.put("a/large", LARGE)
    with objects.reader("a/large") as stream:
        assert stream.seekable()
        assert stream.read(10) == LARGE[:10]
        stream.seek(-17, io.SEEK_END)
        assert stream.read() == LARGE[-17:]
        assert stream.read(1) == b""
        stream.seek(5 * 2**20)
        stream.seek(3, io.SEEK_CUR)
        assert stream.read(2 * 2**20) == LARGE[5 * 2**20 + 3 : 7 * 2**20 + 3]
        stream.seek(0)
        assert stream.read() == LARGE
        with pytest.raises(ValueError, match="before the beginning"):
            stream.seek(-1)
        stream.seek(len(LARGE) + 5)
        assert stream.read(5) == b""


def test_parquet_is_written_and_read_as_a_stream(objects: S3Objects) -> None:
    table = pa.table({"a": range(100_000), "b": [f"text {n}" for n in range(100_000)]})
    with objects.writer("a/rows.parquet") as stream, pq.ParquetWriter(stream, table.schema) as writer:
        writer.write_table(table, row_group_size=10_000)
    with objects.reader("a/rows.parquet") as stream:
        file = pq.ParquetFile(stream)
        assert file.num_row_groups == 10
        assert file.read_row_group(7, columns=["b"]).column("b")[0].as_py() == "text 70000"
        assert file.read().equals(table)


def test_an_object_that_changes_under_a_reader_is_noticed(objects: S3Objects) -> None:
    objects.put("a/source", LARGE)
    with objects.reader("a/source") as stream:
        stream.read(10)
        objects.put("a/source", LARGE[::-1])
        stream.seek(10 * 2**20)
        with pytest.raises(ObjectChanged, match="was changed while it was read"):
            stream.read(10)


def test_info_tells_size_and_version(objects: S3Objects) -> None:
    objects.put("a/x", b"one")
    before = objects.info("a/x")
    objects.put("a/x", b"three")
    after = objects.info("a/x")
    assert before is not None
    assert after is not None
    assert (before.key, before.bytes, after.bytes) == ("a/x", 3, 5)
    assert before.etag
    assert before.etag != after.etag
    assert after.modified.tzinfo is not None


def test_a_listing_has_what_is_below_the_prefix_in_the_order_of_keys(objects: S3Objects) -> None:
    keys = ["p/a-1", "p/a.txt", "p/a/1", "p/a/b/c", "p/a0", "p/b"]
    for key in [*reversed(keys), "pq/other", "other"]:
        objects.put(key, b"x")
    assert [info.key for info in objects.list("p/")] == keys
    assert [info.key for info in objects.list("p/a/")] == ["p/a/1", "p/a/b/c"]
    assert list(objects.list("none/")) == []


def test_a_listing_is_whole_when_it_has_several_pages(objects: S3Objects) -> None:
    for number in range(1005):
        objects.put(f"many/{number:04}", b"")
    assert [info.key for info in objects.list("many/")] == [f"many/{number:04}" for number in range(1005)]
    assert objects.delete_prefix("many/") == 1005
    assert list(objects.list("many/")) == []


def test_objects_are_deleted_as_far_as_they_are_there(objects: S3Objects) -> None:
    for key in ("p/a", "p/ab", "q"):
        objects.put(key, b"x")
    objects.delete(["p/a", "p/gone", "q"])
    objects.delete([])
    assert [info.key for info in objects.list("")] == ["p/ab"]


def test_deleting_a_prefix_leaves_its_neighbours(objects: S3Objects) -> None:
    for key in ("p/a/1", "p/a/2", "p/ab", "q"):
        objects.put(key, b"x")
    assert objects.delete_prefix("p/a/") == 2
    assert objects.delete_prefix("p/a/") == 0
    assert [info.key for info in objects.list("p/")] == ["p/ab"]
    assert objects.get("q") == b"x"


def test_uris_name_objects_of_the_bucket(objects: S3Objects) -> None:
    assert objects.uri("a/b") == f"s3://{objects.bucket}/a/b"
    assert objects.key(objects.uri("a/b")) == "a/b"
    for other in (f"s3://{objects.bucket}-2/a", "s3://x/a", "file:///a"):
        with pytest.raises(ValueError, match=f"'{other}' is not in the bucket '{objects.bucket}'"):
            objects.key(other)


def test_wrong_credentials_are_refused_in_one_sentence_without_them(bucket: S3Endpoint) -> None:
    objects = s3_objects(bucket, secret_key="a-very-wrong-secret")
    for use in (
        lambda: objects.get("a"),
        lambda: objects.put("a", b""),
        lambda: objects.put_if_absent("a", b""),
        lambda: objects.info("a"),
        lambda: list(objects.list("a/")),
        lambda: objects.delete_prefix("a/"),
        lambda: _stream(objects),
    ):
        with pytest.raises(StoreRefused) as caught:
            use()
        message = str(caught.value)
        assert f"refuses the bucket '{bucket.bucket}' to this access key" in message
        assert "\n" not in message
        for secret in ("a-very-wrong-secret", bucket.secret_key, bucket.access_key):
            assert secret not in message


def test_x5_a_dead_server_is_named(bucket: S3Endpoint, closed_port: int) -> None:
    objects = s3_objects(replace(bucket, endpoint=f"http://127.0.0.1:{closed_port}"))
    for use in (lambda: objects.get("a"), lambda: _stream(objects), lambda: list(objects.list("a/"))):
        with pytest.raises(StoreUnavailable) as caught:
            use()
        expected = f"the object store http://127.0.0.1:{closed_port} does not answer: "
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)


def test_a_missing_bucket_is_named(bucket: S3Endpoint) -> None:
    objects = s3_objects(replace(bucket, bucket="missing"))
    with pytest.raises(BucketNotFound, match="has no bucket 'missing'"):
        objects.get("a")


def test_a_bucket_is_made_once(endpoints: Endpoints) -> None:
    settings = _settings(replace(endpoints.objects, bucket="made-by-levada"))
    assert ensure_bucket(settings) is True
    assert ensure_bucket(settings) is False
    open_objects(settings).put("a", b"x")
    assert open_objects(settings).get("a") == b"x"


def test_making_a_bucket_says_why_it_cannot(bucket: S3Endpoint, closed_port: int) -> None:
    with pytest.raises(StoreRefused, match="refuses the bucket 'refused' to this access key") as caught:
        ensure_bucket(_settings(replace(bucket, bucket="refused", secret_key="wrong-secret")))
    assert "wrong-secret" not in str(caught.value)
    with pytest.raises(StoreRefused, match="'b' is not a name that a bucket can have"):
        ensure_bucket(_settings(replace(bucket, bucket="b")))
    with pytest.raises(StoreUnavailable, match=f"http://127.0.0.1:{closed_port} does not answer"):
        ensure_bucket(_settings(replace(bucket, endpoint=f"http://127.0.0.1:{closed_port}")))


def _write_and_fail(objects: S3Objects, data: bytes) -> None:
    with objects.writer("a/stream") as stream:
        stream.write(data)
        raise FileNotFoundError("a file of the caller")


def _stream(objects: S3Objects) -> None:
    with objects.writer("a") as stream:
        stream.write(LARGE)


def _settings(endpoint: S3Endpoint) -> Settings:
    return Settings.model_validate(
        {
            "objects_endpoint": endpoint.endpoint,
            "objects_bucket": endpoint.bucket,
            "objects_access_key": endpoint.access_key,
            "objects_secret_key": endpoint.secret_key,
        }
    )


def _unfinished(bucket: S3Endpoint) -> list[str | None]:
    found = s3_client(bucket)._list_multipart_uploads(bucket.bucket)
    return [upload.object_name for upload in found.uploads]
