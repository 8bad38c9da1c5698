"""Files in object storage (S3), or in a local folder where that is allowed."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

from levada.artifacts import Listing
from levada.errors import Stalled
from levada.methods.sources.base import Access, EntrySource, SourceChanged
from levada.methods.sources.folders import files_below
from levada.methods.sources.globs import matcher
from levada.methods.sources.secrets import secret_values
from levada.resources.conditions import Reason
from levada.resources.dataset import ObjectSource, Source
from levada.stores.objects import S3Objects
from levada.stores.ports import BadKey, BucketNotFound, ObjectChanged, ObjectInfo, ObjectNotFound, StoreRefused

_RANGE = 4 << 20  # bytes of a request
_AHEAD = 3  # requests under way
_CHUNK = 1 << 20  # bytes of a chunk of a local file


def open_object_source(source: Source, access: Access) -> EntrySource:
    """The files of a `source.object` block."""
    spec = source.object
    if spec is None:
        raise Stalled(Reason.INVALID_SPEC, "spec.source.type is object, so the block spec.source.object is needed")
    if spec.uri.startswith("s3://"):
        return S3Source(spec, access)
    if not access.allow_files:
        raise Stalled(
            Reason.NOT_SUPPORTED,
            f"{access.field}.uri {spec.uri} names a local folder, which only the local engine reads: "
            "put the files into an object store and name them as s3://bucket/prefix/",
        )
    return FolderSource(spec, access.field)


class S3Source:
    """Objects below a prefix of a bucket, or a single one; see `EntrySource`."""

    def __init__(self, spec: ObjectSource, access: Access) -> None:
        settings = access.settings
        _check_pattern(spec, access.field)
        self._spec = spec
        self._field = access.field
        self._bucket, _, self._prefix = spec.uri.removeprefix("s3://").partition("/")
        key, secret = settings.objects_access_key, settings.objects_secret_key.get_secret_value()
        if spec.credentials is not None:
            key, secret = secret_values(spec.credentials.secret_ref.name, "accessKey", "secretKey")
        self._objects = S3Objects(
            self._bucket,
            endpoint=spec.endpoint or settings.objects_endpoint,
            region=spec.region or settings.objects_region,
            access_key=key,
            secret_key=secret,
        )

    def list(self) -> list[Listing.Entry]:
        with self._errors():
            single = self._objects.info(self._prefix) if self._prefix.strip("/") else None
            if single is not None and not self._prefix.endswith("/"):
                return [_entry(self._bucket, single)]
            found = list(self._objects.list(self._folder))
        start = self._folder
        matches = matcher(self._spec.pattern)
        entries = [
            _entry(self._bucket, info)
            for info in found
            if info.key.startswith(start) and not info.key.endswith("/") and matches(info.key.removeprefix(start))
        ]
        if not entries:
            raise _nothing(self._spec, self._field)
        return sorted(entries, key=lambda entry: entry.uri)

    def path(self, entry: Listing.Entry) -> str:
        key = self._key(entry)
        return key.rpartition("/")[2] if key == self._prefix else key.removeprefix(self._folder)

    def read(self, entry: Listing.Entry) -> Iterator[bytes]:
        info = ObjectInfo(self._key(entry), entry.bytes, entry.version, datetime.fromtimestamp(0, UTC))
        starts = range(0, info.bytes, _RANGE)
        with self._errors(entry), ThreadPoolExecutor(_AHEAD) as pool:
            if not info.bytes:  # no range to ask for, and so no answer that it changed
                now = self._objects.info(info.key)
                if now is None or now.etag != info.etag:
                    raise SourceChanged(entry.uri)
            pending: deque[Future[memoryview]] = deque()
            for start in starts:
                pending.append(pool.submit(self._objects.read_range, info, start, min(start + _RANGE, info.bytes)))
                if len(pending) == _AHEAD:
                    yield bytes(pending.popleft().result())
            while pending:
                yield bytes(pending.popleft().result())

    def open(self, entry: Listing.Entry) -> BinaryIO:
        with self._errors(entry):
            return self._objects.reader(self._key(entry))

    @property
    def _folder(self) -> str:
        return self._prefix if not self._prefix or self._prefix.endswith("/") else f"{self._prefix}/"

    def _key(self, entry: Listing.Entry) -> str:
        return entry.uri.removeprefix(f"s3://{self._bucket}/")

    @contextmanager
    def _errors(self, entry: Listing.Entry | None = None) -> Iterator[None]:
        try:
            yield
        except BucketNotFound as error:
            raise Stalled(
                Reason.SOURCE_NOT_FOUND, f"{error}: create it, or correct {self._field}.uri {self._spec.uri}"
            ) from error
        except BadKey as error:
            why = f"{self._field}.uri {self._spec.uri!r}: {error}, so it cannot be read: rename it, or correct the uri"
            raise Stalled(Reason.SOURCE_UNREADABLE, why) from error
        except StoreRefused as error:
            raise Stalled(Reason.ACCESS_DENIED, f"{self._spec.uri}: {error}") from error
        except (ObjectChanged, ObjectNotFound) as error:
            raise (SourceChanged(entry.uri) if entry else _nothing(self._spec, self._field)) from error


class FolderSource:
    """Files of a local folder, or a single file; see `EntrySource`."""

    def __init__(self, spec: ObjectSource, field: str) -> None:
        _check_pattern(spec, field)
        self._spec = spec
        self._field = field
        path = unquote(urlsplit(spec.uri).path)
        if "\0" in path:
            raise Stalled(Reason.INVALID_SPEC, f"{field}.uri {spec.uri} holds %00, which no path can: correct it")
        self._root = Path(path)

    def list(self) -> list[Listing.Entry]:
        with self._errors(str(self._root)):
            if self._root.is_file():
                return [self._entry(self._root)]
            entries = []
            for path in files_below(self._root, self._spec.pattern, self._refuse):
                with suppress(FileNotFoundError):  # gone since, or a link to nothing
                    entries.append(self._entry(self._root / path))
        if not entries:
            raise _nothing(self._spec, self._field)
        return sorted(entries, key=lambda entry: entry.uri)

    def path(self, entry: Listing.Entry) -> str:
        path = self._path(entry)
        return path.name if path == self._root else path.relative_to(self._root).as_posix()

    def read(self, entry: Listing.Entry) -> Iterator[bytes]:
        with self._errors(str(self._path(entry)), entry), self.open(entry) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
            _refuse_changed(file, entry)  # a writer that is slower than this would leave a mixture

    def open(self, entry: Listing.Entry) -> BinaryIO:
        path = self._path(entry)
        with self._errors(str(path), entry):
            file = path.open("rb")
            try:
                _refuse_changed(file, entry)
            except SourceChanged:
                file.close()
                raise
            return file

    def _entry(self, path: Path) -> Listing.Entry:
        facts = path.stat()
        return Listing.Entry(uri=f"file://{quote(path.as_posix())}", bytes=facts.st_size, version=_version(facts))

    def _refuse(self, error: OSError) -> None:
        """A folder cannot be listed, which is nothing strange if it went after it was found."""
        if not isinstance(error, FileNotFoundError) or error.filename == str(self._root):
            raise error

    def _path(self, entry: Listing.Entry) -> Path:
        return Path(unquote(urlsplit(entry.uri).path))

    @contextmanager
    def _errors(self, path: str, entry: Listing.Entry | None = None) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise (SourceChanged(entry.uri) if entry else _nothing(self._spec, self._field)) from error
        except PermissionError as error:
            denied = error.filename or path
            raise Stalled(Reason.ACCESS_DENIED, f"{denied} may not be read: change its permissions") from error
        except OSError as error:
            where = f"{self._field}.uri {self._spec.uri}"
            raise Stalled(
                Reason.SOURCE_UNREADABLE, f"{where}: {error.filename or path} cannot be read: {error.strerror}"
            ) from error


def _check_pattern(spec: ObjectSource, field: str) -> None:
    try:
        matcher(spec.pattern)
    except re.error as error:
        why = f"{field}.pattern '{spec.pattern}' is no glob ({error.msg}): correct it, as in *.csv or [a-z]*.csv"
        raise Stalled(Reason.INVALID_SPEC, why) from error


def _entry(bucket: str, info: ObjectInfo) -> Listing.Entry:
    return Listing.Entry(uri=f"s3://{bucket}/{info.key}", bytes=info.bytes, version=info.etag)


def _refuse_changed(file: BinaryIO, entry: Listing.Entry) -> None:
    """Raise SourceChanged if an open file is not what was listed."""
    if _version(os.fstat(file.fileno())) != entry.version:
        raise SourceChanged(entry.uri)


def _version(facts: os.stat_result) -> str:
    return f"{facts.st_size}-{facts.st_mtime_ns}"


def _nothing(spec: ObjectSource, field: str) -> Stalled:
    return Stalled(
        Reason.SOURCE_NOT_FOUND,
        f"nothing at {spec.uri} matches the pattern '{spec.pattern}': correct {field}.uri or pattern",
    )
