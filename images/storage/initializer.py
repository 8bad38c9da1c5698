"""KServe's contract for a storage initializer: `initializer SOURCE FOLDER [SOURCE FOLDER …]`, then end."""

from __future__ import annotations

import logging
import sys

from kserve_storage import Storage


def main() -> None:
    """Download each source into the folder after it."""
    arguments = sys.argv[1:]
    if not arguments or len(arguments) % 2:
        sys.exit("usage: initializer SOURCE FOLDER [SOURCE FOLDER …]")
    logging.basicConfig(level=logging.INFO)
    Storage.download_files(arguments[::2], arguments[1::2])


if __name__ == "__main__":
    main()
