"""Manifests: YAML files, folders and standard input, read as kubectl would and checked as the API server would."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from levada import names
from levada.names import Kind
from levada.resources import RESOURCES, AnyResource, Ref
from levada.resources.documents import Document, DocumentError, parse
from levada.resources.sentences import nearest, problems_of
from levada.resources.uris import with_absolute_uris

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")
# Mappings whose contents are not Levada's: nothing is taken out of them.
_FREE = ("params", "podTemplate")
# What the API server keeps in metadata, beside the user's part.
_SERVER_METADATA = ("uid", "generation", "resourceVersion", "creationTimestamp", "managedFields", "selfLink")
_CORE_GROUPS = {"", "apps", "batch", "autoscaling", "policy", "extensions"}
_HOME = ("jobs", "reports", "resources", "servers", "serving")  # folders of a local engine's home
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a manifest (or, as a note, that was passed over), as one sentence."""

    file: str
    line: int | None
    message: str
    resource: str = ""  # kind and name, as far as known

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.resource}: {self.message}" if self.resource else f"{where}: {self.message}"


class Loaded(NamedTuple):
    """What manifests hold: resources in the order of the files, what is wrong, and what was passed over."""

    resources: list[AnyResource]
    problems: list[Problem]
    notes: list[Problem]


def load(paths: Iterable[str | Path], default_namespace: str = "default") -> tuple[list[AnyResource], list[Problem]]:
    """The resources of files, folders (recursively, in order of name) and standard input (`-`), and what is wrong.

    Documents of other, ordinary Kubernetes kinds are passed over, so that a folder of a GitOps repository can be read.
    A `./` URI is taken relative to its file.
    """
    loaded = load_all(paths, default_namespace)
    return loaded.resources, loaded.problems


def load_all(
    paths: Iterable[str | Path],
    default_namespace: str = "default",
    absolute: Callable[[str, Path], str] | None = None,
) -> Loaded:
    """As `load`, with a note on each document that was passed over.

    `absolute`: what makes a relative URI absolute, given the folder of its manifest.
    """
    reader = _Reader(default_namespace, absolute or absolute_uri)
    for path in paths:
        reader.read(str(path))
    return Loaded(reader.resources, reader.problems, reader.notes)


@dataclass
class _Manifest:
    """A document, or an item of a List in it, and where it stands."""

    file: str
    folder: Path
    document: Document
    path: tuple[str | int, ...]
    data: Any

    @property
    def label(self) -> str:
        kind, metadata = self.data.get("kind"), self.data.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return " ".join(str(part) for part in (kind, name) if part)

    def problem(self, path: tuple[str | int, ...], message: str) -> Problem:
        return Problem(self.file, self.document.line_of((*self.path, *path)), message, self.label)


@dataclass
class _Reader:
    namespace: str
    absolute: Callable[[str, Path], str]
    resources: list[AnyResource] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    _seen: dict[Ref, Problem] = field(default_factory=dict)

    def read(self, path: str) -> None:
        if path == STDIN:
            self._text("standard input", sys.stdin.buffer.read(), Path.cwd())
        elif os.path.isdir(path):
            files = list(_files(path))
            if not files:
                message = "the folder holds no file that ends with .yaml, .yml or .json"
                self.problems.append(Problem(path, None, message))
            foreign = [file for file in files if not self._file(file, explicit=False)]
            for folder, group in groupby(foreign, os.path.dirname):
                self._passed_over(folder, list(group))
        else:
            self._file(path)

    def _passed_over(self, folder: str, files: list[str]) -> None:
        if len(files) == 1:
            self.notes.append(Problem(files[0], None, "passed over: this is no manifest, it has no apiVersion"))
        else:
            message = f"passed over: {len(files):,} JSON files that are no manifests, they have no apiVersion"
            self.notes.append(Problem(folder, None, message))

    def _file(self, path: str, *, explicit: bool = True) -> bool:
        """Read a file; False if nobody named it and it is JSON of another sort, as data beside manifests may be."""
        try:
            text = Path(path).read_bytes()
        except FileNotFoundError:
            self.problems.append(Problem(path, None, "there is no such file or folder"))
        except OSError as error:
            self.problems.append(Problem(path, None, f"cannot be read: {error.strerror}"))
        else:
            if not explicit and path.endswith(".json") and b'"apiVersion"' not in text:
                return False
            self._text(path, text, Path(path).parent)
        return True

    def _text(self, file: str, text: bytes, folder: Path) -> None:
        try:
            for document in parse(text):
                self._manifest(_Manifest(file, folder, document, (), document.data))
        except DocumentError as error:
            self.problems.append(Problem(file, error.line, error.message))

    def _manifest(self, manifest: _Manifest) -> None:
        data = manifest.data
        if not isinstance(data, dict):
            line = manifest.document.line_of(manifest.path)
            message = "this is not a manifest: a mapping with apiVersion, kind, metadata and spec is needed"
            self.problems.append(Problem(manifest.file, line, message))
        elif data.get("kind") == "List" and data.get("apiVersion") == "v1":
            items = data.get("items") or []
            if not isinstance(items, list):
                self.problems.append(manifest.problem(("items",), f"items: {items!r} must be a list of manifests"))
                return
            for index, item in enumerate(items):
                path = (*manifest.path, "items", index)
                self._manifest(_Manifest(manifest.file, manifest.folder, manifest.document, path, item))
        elif (passed_over := _not_ours(manifest)) is not None:
            (self.notes if passed_over[0] else self.problems).append(passed_over[1])
        else:
            self._resource(manifest)

    def _resource(self, manifest: _Manifest) -> None:
        model = RESOURCES[Kind(manifest.data["kind"])]
        data = _prepared(manifest, self.namespace, self.absolute)
        try:
            # As JSON and strictly: the API server, too, takes neither "5" for 5 nor time_zone for timeZone.
            resource = model.model_validate_json(orjson.dumps(data), strict=True, by_alias=True, by_name=False)
        except ValidationError as error:
            found = [manifest.problem(path, sentence) for path, sentence in problems_of(error, model)]
            self.problems.extend(sorted(found, key=lambda problem: problem.line or 0))
            return
        here = manifest.problem((), "")
        before = self._seen.setdefault(resource.ref, here)
        if before is not here:
            message = f"{resource.ref} is defined a second time, first at {before.file}:{before.line}; remove one"
            self.problems.append(Problem(here.file, here.line, message))
        else:
            self.resources.append(resource)


def _files(folder: str) -> Iterator[str]:
    """The manifests below a folder, in order; left out is what is hidden, and what a local engine keeps in a home."""
    for here, folders, files in os.walk(folder):
        kept = _HOME if os.path.exists(os.path.join(here, "servers", "lock")) else ()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in kept)
        for name in sorted(files):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield os.path.join(here, name)


def _not_ours(manifest: _Manifest) -> tuple[bool, Problem] | None:
    """None if the document is one of Levada's; else whether that is fine, and what to say."""
    data = manifest.data
    version, kind = data.get("apiVersion"), data.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        if os.path.basename(manifest.file) in _KUSTOMIZATIONS:
            return True, manifest.problem((), "passed over: a kustomization")
        missing = "apiVersion" if not isinstance(version, str) else "kind"
        example = names.API_VERSION if missing == "apiVersion" else "Dataset"
        return False, manifest.problem((missing,), f"{missing} is missing; write for example {missing}: {example}")
    group = version.rpartition("/")[0]
    if version == names.API_VERSION:
        if kind in RESOURCES:
            return None
        near = nearest(kind, list(RESOURCES))
        hint = f"did you mean {near}?" if near else f"there are {', '.join(RESOURCES)}"
        return False, manifest.problem(("kind",), f"there is no kind '{kind}' in {version}; {hint}")
    if "levada" in version.lower() or ("." not in group and group not in _CORE_GROUPS):
        return False, manifest.problem(("apiVersion",), f"apiVersion '{version}' is unknown; write {names.API_VERSION}")
    return True, manifest.problem((), f"passed over: {kind} of {version} is none of Levada's kinds")


def _prepared(manifest: _Manifest, namespace: str, absolute: Callable[[str, Path], str]) -> dict[str, Any]:
    """The data without what the server adds and without nulls, with a namespace and absolute URIs."""
    data: dict[str, Any] = _without_nulls({k: v for k, v in manifest.data.items() if k != "status"})
    metadata = data.get("metadata")
    if isinstance(metadata, dict):
        kept = {key: value for key, value in metadata.items() if key not in _SERVER_METADATA}
        data["metadata"] = {"namespace": namespace, **kept}
    return with_absolute_uris(data, lambda uri: absolute(uri, manifest.folder))


def absolute_uri(uri: str, folder: Path) -> str:
    """A relative URI as one of a folder's files; it keeps a slash at its end."""
    path = Path(os.path.abspath(folder / uri))
    return path.as_uri() + ("/" if uri.endswith("/") and path != Path("/") else "")


def _without_nulls(value: Any) -> Any:
    """A null is a field that is not given, as the API server has it."""
    if isinstance(value, dict):
        return {k: v if k in _FREE else _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
