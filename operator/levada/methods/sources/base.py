"""What a source of files offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from levada.artifacts import Listing
from levada.settings import Settings


@dataclass(frozen=True)
class Access:
    """What sources may use: Levada's own store for what a source does not say, and whether local files are allowed."""

    settings: Settings
    allow_files: bool = False


class EntrySource(Protocol):
    """A source that consists of files.

    Every method raises Stalled if the user must act (nothing there, no rights, a file that changed since it was
    listed) and StoreUnavailable if the source does not answer.
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
