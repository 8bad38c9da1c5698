"""Objects over S3 (MinIO or any other): obstore for data, the minio package for buckets."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from levada.errors import StoreUnavailable
from levada.settings import Settings
from levada.stores.failpoints import after_write
from levada.stores.ports import BadKey, BucketNotFound, ObjectChanged, ObjectInfo, ObjectNotFound, StoreRefused

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig, S3Config
    from typing_extensions import Buffer

PART = 8 * 1024 * 1024
_CONCURRENCY = 4  # parts under way at once: a writer holds at most this many parts in memory
_READ_AHEAD = 1024 * 1024


class S3Objects:
    """A bucket of an S3 server; see `Objects`.

    `endpoint` is a URL, or empty for Amazon's own; without an access key, credentials come as the AWS SDKs find them.
    A request that fails for a passing reason is tried again `retries` times with back-off before StoreUnavailable.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str = "",
        region: str = "us-east-1",
        access_key: str = "",
        secret_key: str = "",
        retries: int = 4,
    ) -> None:
        self.bucket = bucket
        self._place = f"the object store {endpoint or 's3.amazonaws.com'}"
        client: ClientConfig = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "read_timeout": timedelta(seconds=60),
            "timeout": timedelta(hours=1),  # of a whole request, and objects may be large
        }
        retry: RetryConfig = {"max_retries": retries, "retry_timeout": timedelta(seconds=60)}
        config: S3Config = {"region": region}
        if endpoint:
            config["endpoint"] = endpoint
        if access_key:
            config |= {"access_key_id": access_key, "secret_access_key": secret_key}
        self._store = S3Store(bucket, config=config, client_options=client, retry_config=retry)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def key(self, uri: str) -> str:
        start = f"s3://{self.bucket}/"
        if not uri.startswith(start):
            raise ValueError(f"'{uri}' is not in the bucket '{self.bucket}'")
        return uri.removeprefix(start)

    def put(self, key: str, data: bytes) -> None:
        with self.errors(key):
            obstore.put(self._store, key, data, chunk_size=PART, max_concurrency=_CONCURRENCY)
        after_write(f"put {key}")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self.errors(key):
            try:
                obstore.put(self._store, key, data, mode="create")
            except AlreadyExistsError:
                return False
        after_write(f"put {key}")
        return True

    def put_file(self, key: str, path: Path) -> None:
        with self.errors(key):
            obstore.put(self._store, key, path, chunk_size=PART, max_concurrency=_CONCURRENCY)
        after_write(f"put {key}")

    @contextmanager
    def writer(self, key: str) -> Iterator[BinaryIO]:
        target = obstore.open_writer(self._store, key, buffer_size=PART, max_concurrency=_CONCURRENCY)
        try:
            yield cast(BinaryIO, _Writer(self, key, target))
        except BaseException:
            with suppress(BaseError):
                target.__exit__(*sys.exc_info())  # gives the upload up; close() would complete it
            raise
        with self.errors(key):
            target.close()
        after_write(f"put {key}")

    def get(self, key: str) -> bytes:
        with self.errors(key):
            return bytes(obstore.get(self._store, key).bytes())

    def get_file(self, key: str, path: Path) -> None:
        try:
            with self.errors(key):
                chunks = obstore.get(self._store, key).stream(min_chunk_size=_READ_AHEAD)
                with path.open("wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def reader(self, key: str) -> BinaryIO:
        info = self.info(key)
        if info is None:
            raise ObjectNotFound(f"there is no object {self.uri(key)}")
        return cast(BinaryIO, io.BufferedReader(_Reader(self, info), _READ_AHEAD))

    def info(self, key: str) -> ObjectInfo | None:
        try:
            with self.errors(key):
                return _info(obstore.head(self._store, key))
        except ObjectNotFound:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self.errors(prefix):
            found = [_info(meta) for page in obstore.list(self._store, prefix) for meta in page]
        # Not every server lists in the order of the keys' bytes.
        return iter(sorted(found, key=lambda info: info.key))

    def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), 1000):
            with self.errors(keys[start]):
                obstore.delete(self._store, list(keys[start : start + 1000]))
            after_write(f"delete {keys[start]} …")

    def delete_prefix(self, prefix: str) -> int:
        keys = [info.key for info in self.list(prefix)]
        self.delete(keys)
        return len(keys)

    def read_range(self, info: ObjectInfo, start: int, stop: int) -> memoryview:
        """The bytes [start, stop) of an object as it was when `info` was taken; raises ObjectChanged."""
        with self.errors(info.key):
            found = obstore.get(self._store, info.key, options={"range": (start, stop), "if_match": info.etag or None})
            return memoryview(found.bytes())

    @contextmanager
    def errors(self, key: str) -> Iterator[None]:
        """Turns obstore's errors about a key into those of the port."""
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise BucketNotFound(f"{self._place} has no bucket '{self.bucket}'") from error
            raise ObjectNotFound(f"there is no object {self.uri(key)}") from error
        except PreconditionError as error:
            raise ObjectChanged(f"{self.uri(key)} was changed while it was read") from error
        except (InvalidPathError, ValueError) as error:  # of a key that was found, and of one that was asked for
            raise _bad_key(str(error), key) from error
        except BaseError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: BaseError) -> StoreUnavailable:
        text = str(error)
        if "NoSuchBucket" in text:
            return BucketNotFound(f"{self._place} has no bucket '{self.bucket}'")
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError) or " 403 " in text or " 401 " in text
        if denied:
            code = re.search(r"<Code>(\w+)</Code>", text)
            why = f" ({code.group(1)})" if code else ""
            return StoreRefused(
                f"{self._place} refuses the bucket '{self.bucket}' to this access key{why}: "
                "check the keys and the rights that they have"
            )
        return StoreUnavailable(f"{self._place} does not answer: {_cause(text)}")


class _Writer(io.BufferedIOBase):
    """obstore's writer, which buffers by itself, as a stream of Python's."""

    def __init__(self, objects: S3Objects, key: str, target: obstore.WritableFile) -> None:
        self._objects = objects
        self._key = key
        self._target = target
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Buffer, /) -> int:
        with self._objects.errors(self._key):
            # obstore sends later what it is given now, and the caller may fill its buffer anew: it gets its own bytes.
            written = self._target.write(data if isinstance(data, bytes) else bytes(data))
        self._position += written
        return written


class _Reader(io.RawIOBase):
    """Ranges of an object as a raw stream."""

    def __init__(self, objects: S3Objects, info: ObjectInfo) -> None:
        self._objects = objects
        self._info = info
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._info.bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the beginning of the object")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readall(self) -> bytes:
        # One request; Python's own reads a few kilobytes at a time.
        start, self._position = self._position, max(self._position, self._info.bytes)
        return bytes(self._objects.read_range(self._info, start, self._position)) if start < self._position else b""

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast(bytearray, buffer)).cast("B")
        stop = min(self._position + len(target), self._info.bytes)
        if stop <= self._position:
            return 0
        data = self._objects.read_range(self._info, self._position, stop)
        target[: len(data)] = data
        self._position += len(data)
        return len(data)


def _info(meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], (meta["e_tag"] or ""), meta["last_modified"])


def _bad_key(text: str, asked: str) -> BadKey:
    found = re.search(r'parsing Path "(.*?)": Encountered illegal character sequence "(.*?)"', text, re.DOTALL)
    what = f"the key {found[1]!r} holds {found[2]!r}" if found else f"the key {asked!r} cannot be ({_cause(text)})"
    return BadKey(what)


def _cause(text: str) -> str:
    """The reason at the end of the first line of obstore's message, without its request and debug dump."""
    line = text.splitlines()[0]
    return re.split(r" in [\d.]+\S*s(?:, after \d+ retries.*?)? - ", line)[-1].rstrip(": ")


def open_objects(settings: Settings) -> S3Objects:
    """The bucket that the settings name."""
    return S3Objects(
        settings.objects_bucket,
        endpoint=settings.objects_endpoint,
        region=settings.objects_region,
        access_key=settings.objects_access_key,
        secret_key=settings.objects_secret_key.get_secret_value(),
    )


def ensure_bucket(settings: Settings) -> bool:
    """Create the bucket that the settings name unless it exists; whether it was created. Uploads that a killed process
    left unfinished are given up after a day, where the server can do that."""
    from minio import Minio
    from minio.commonconfig import ENABLED, Filter
    from minio.credentials.providers import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider
    from minio.error import MinioException, S3Error
    from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, Rule
    from urllib3 import PoolManager, Retry, Timeout
    from urllib3.exceptions import HTTPError

    endpoint = urlsplit(settings.objects_endpoint or "https://s3.amazonaws.com")
    place = f"the object store {settings.objects_endpoint or endpoint.netloc}"
    keys = settings.objects_access_key
    client = Minio(
        endpoint.netloc,
        access_key=keys or None,
        secret_key=settings.objects_secret_key.get_secret_value() if keys else None,
        credentials=None if keys else ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()]),
        region=settings.objects_region,
        secure=endpoint.scheme == "https",
        http_client=PoolManager(timeout=Timeout(connect=5, read=60), retries=Retry(4, backoff_factor=0.2)),
    )
    bucket = settings.objects_bucket
    try:
        created = not client.bucket_exists(bucket)
        if created:
            try:
                client.make_bucket(bucket)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise
                created = False
            after_write(f"create bucket {bucket}")
        rule = Rule(
            ENABLED,
            rule_filter=Filter(prefix=""),
            rule_id="levada-unfinished-uploads",
            abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=1),
        )
        if created:
            try:
                client.set_bucket_lifecycle(bucket, LifecycleConfig([rule]))
            except S3Error as error:
                if error.code not in ("NotImplemented", "MalformedXML", "InvalidArgument"):
                    raise
    except S3Error as error:
        raise StoreRefused(
            f"{place} refuses the bucket '{bucket}' to this access key ({error.code}): "
            "check the keys and the rights that they have"
        ) from error
    except ValueError as error:
        raise StoreRefused(f"'{bucket}' is not a name that a bucket can have: set LEVADA_OBJECTS_BUCKET") from error
    except (MinioException, HTTPError, OSError) as error:
        raise StoreUnavailable(f"{place} does not answer: {type(error).__name__}") from error
    return created
