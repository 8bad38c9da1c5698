"""What a source of files offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from levada.artifacts import Listing
from levada.errors import Stalled
from levada.resources.conditions import Reason
from levada.settings import Settings


@dataclass(frozen=True)
class Access:
    """What sources may use: Levada's own store for what a source does not say, and whether local files are allowed.

    `field`: where an object source stands in the resource, for sentences.
    """

    settings: Settings
    allow_files: bool = False
    field: str = "spec.source.object"


class SourceChanged(Stalled):
    """A file is not what it was when it was listed."""

    def __init__(self, uri: str) -> None:
        super().__init__(
            Reason.SOURCE_UNREADABLE,
            f"{uri} was changed or removed while it was read: run again when its producer is done",
        )


class EntrySource(Protocol):
    """A source that consists of files.

    Every method raises Stalled if the user must act (nothing there, no rights; SourceChanged) and StoreUnavailable if
    the source does not answer.
    """

    def list(self) -> list[Listing.Entry]:
        """The files that match, in the order of their URIs; never empty. Names that begin with `.` or `_`, and folder
        markers, are left out unless the pattern names them."""

    def path(self, entry: Listing.Entry) -> str:
        """A file's path below the source's own URI."""

    def read(self, entry: Listing.Entry) -> Iterator[bytes]:
        """A file's bytes, in chunks."""

    def open(self, entry: Listing.Entry) -> BinaryIO:
        """A file as a seekable stream that fetches what is read."""
