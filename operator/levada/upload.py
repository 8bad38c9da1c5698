"""What manifests name by relative URIs, put where an operator looks for it: the same manifests run on a cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from levada.errors import Stalled
from levada.methods.sources.objects import FolderSource
from levada.resources import AnyResource, Dataset, ModelCandidate, ScoringRun
from levada.resources.dataset import ObjectSource
from levada.resources.manifests import absolute_uri
from levada.resources.uris import below
from levada.stores.objects import PART
from levada.stores.ports import Objects


@dataclass(frozen=True)
class Relative:
    """What a resource reads of this machine's files."""

    resource: AnyResource
    field: str  # where it stands in the resource
    source: ObjectSource
    uri: str  # as its manifest has it


class Relatives:
    """Remembers which URIs of manifests were relative, while they are read: `load_all(…, absolute=relatives)`."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Path]] = {}

    def __call__(self, uri: str, folder: Path) -> str:
        # Another one for each folder and URI: two manifests may reach one file by different ways.
        name = f"{folder.absolute().as_uri()}/{quote(uri)}"
        self._known[name] = uri, folder
        return name

    def of(self, resource: AnyResource) -> Relative | None:
        """What a resource reads of this machine's files by a relative URI; None if nothing."""
        match resource:
            case Dataset(spec=spec) if spec.source.object is not None:
                field, source = "spec.source.object", spec.source.object
            case ScoringRun(spec=spec) if spec.input.object is not None:
                field, source = "spec.input.object", spec.input.object
            case ModelCandidate(spec=spec):
                field, source = "spec.model", ObjectSource(uri=spec.model.uri, pattern="**")
            case _:
                return None
        if source.uri not in self._known:
            return None
        uri, folder = self._known[source.uri]
        return Relative(resource, field, source.model_copy(update={"uri": absolute_uri(uri, folder)}), uri)


def files(relative: Relative, sources: str) -> Iterator[tuple[Path, str]]:
    """Each file of a source, and its URI below `sources` (s3://bucket/prefix). Raises Stalled if there is none."""
    try:
        folder = FolderSource(relative.source, relative.field)
        entries = folder.list()
    except Stalled as error:
        raise Stalled(error.reason, f"{relative.resource.ref}: {error.message}") from error
    root = below(f"{sources}/{relative.resource.metadata.namespace}", relative.uri)
    for entry in entries:
        single = entry.uri == relative.source.uri
        yield Path(unquote(urlsplit(entry.uri).path)), root if single else f"{root.rstrip('/')}/{folder.path(entry)}"


def put(objects: Objects, path: Path, uri: str) -> bool:
    """Put a file at a URI of the bucket, unless what is there has its digest; whether it was put."""
    key = objects.key(uri)
    there = objects.info(key)
    if there is not None and there.bytes == path.stat().st_size and there.etag.strip('"') == etag(path):
        return False
    objects.put_file(key, path)
    return True


def etag(path: Path, part: int = PART) -> str:
    """The ETag that S3 gives a file: its MD5, or the MD5 of those of its parts where it is put in parts. Where a server
    has others, as with keys of its own, a file is put again."""
    with path.open("rb") as file:
        digests = [hashlib.md5(data, usedforsecurity=False) for data in iter(lambda: file.read(part), b"")]
    if len(digests) > 1:
        whole = hashlib.md5(b"".join(digest.digest() for digest in digests), usedforsecurity=False)
        return f"{whole.hexdigest()}-{len(digests)}"
    return (digests or [hashlib.md5(usedforsecurity=False)])[0].hexdigest()
