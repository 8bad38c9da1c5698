"""What manifests name by relative URIs, put where an operator looks for it: the same manifests run on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from levada.methods.sources.objects import FolderSource
from levada.resources import AnyResource, Dataset, ModelCandidate, ScoringRun
from levada.resources.dataset import ObjectSource
from levada.resources.manifests import absolute_uri
from levada.resources.uris import below
from levada.stores.ports import Objects


class Relatives:
    """Remembers which URIs of manifests were relative, while they are read: `load_all(…, absolute=relatives)`."""

    def __init__(self) -> None:
        self._relative: dict[str, str] = {}

    def __call__(self, uri: str, folder: Path) -> str:
        absolute = absolute_uri(uri, folder)
        self._relative[absolute] = uri
        return absolute

    def of(self, resource: AnyResource) -> tuple[ObjectSource, str] | None:
        """What a resource reads of this machine's files, and the URI as its manifest has it; None if nothing."""
        match resource:
            case Dataset(spec=spec) if spec.source.object is not None:
                source: ObjectSource = spec.source.object
            case ScoringRun(spec=spec) if spec.input.object is not None:
                source = spec.input.object
            case ModelCandidate(spec=spec):
                source = ObjectSource(uri=spec.model.uri, pattern="**")
            case _:
                return None
        relative = self._relative.get(source.uri)
        return (source, relative) if relative is not None else None


def files(source: ObjectSource, relative: str, namespace: str, sources: str) -> Iterator[tuple[Path, str]]:
    """Each file of a source, and its URI below `sources` (s3://bucket/prefix). Raises Stalled if there is none."""
    folder = FolderSource(source, "spec.source.object")
    root = below(f"{sources}/{namespace}", relative)
    for entry in folder.list():
        single = entry.uri == source.uri
        yield Path(unquote(urlsplit(entry.uri).path)), root if single else f"{root.rstrip('/')}/{folder.path(entry)}"


def put(objects: Objects, path: Path, uri: str) -> bool:
    """Put a file at a URI of the bucket, unless one of its size is there and is not older; whether it was put."""
    key = objects.key(uri)
    there, here = objects.info(key), path.stat()
    if there is not None and there.bytes == here.st_size and there.modified.timestamp() >= here.st_mtime:
        return False
    objects.put_file(key, path)
    return True
