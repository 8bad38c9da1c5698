"""What tells that a local source changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from levada.engines.local.fingerprint import UNREADABLE, source_fingerprint
from levada.resources.dataset import DatasetSpec


def look(uri: str | Path, pattern: str = "**") -> str | None:
    uri = f"file://{uri}" if isinstance(uri, Path) else uri
    source = {"type": "object", "object": {"uri": uri, "pattern": pattern}}
    return source_fingerprint(DatasetSpec.model_validate({"source": source, "format": {"type": "csv"}}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "below/b.csv").write_text("2")
    return tmp_path


def test_ing1_an_unchanged_folder_keeps_its_fingerprint(folder: Path) -> None:
    assert look(folder) == look(folder)


def test_ing1_files_that_are_written_added_or_removed_change_it(folder: Path) -> None:
    seen = [look(folder)]
    os.utime(folder / "a.csv", ns=(1, 1))
    seen.append(look(folder))
    (folder / "below/c.csv").write_text("3")
    seen.append(look(folder))
    (folder / "a.csv").unlink()
    seen.append(look(folder))

    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    ("pattern", "name", "counts"),
    [
        ("*.csv", "new.csv", True),
        ("*.csv", "new.txt", False),
        ("*.csv", "below/new.csv", False),  # as the source lists: * stays within a folder
        ("**/*.csv", "new.csv", True),
        ("**/*.csv", "below/new.csv", True),
        ("**", "_SUCCESS", False),
    ],
)
def test_ing1_only_files_that_the_source_would_list_count(folder: Path, pattern: str, name: str, counts: bool) -> None:
    before = look(folder, pattern)
    (folder / name).write_text("new")

    assert (look(folder, pattern) != before) is counts


def test_ing1_a_single_file_is_a_source_too(folder: Path) -> None:
    before = look(folder / "a.csv")
    (folder / "a.csv").write_text("12")

    assert look(folder / "a.csv") != before


def test_ing1_a_file_that_cannot_be_looked_at_stops_nothing(folder: Path) -> None:
    (folder / "dangling.csv").symlink_to(folder / "nowhere")

    assert look(folder) is not None


def test_ing1_a_folder_behind_a_link_counts(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (folder / "linked").symlink_to(other)
    before = look(folder)
    (other / "new.csv").write_text("1")

    assert look(folder) != before


def test_x5_a_name_that_is_not_utf8_counts_as_any_other(folder: Path) -> None:
    before = look(folder)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xe4.csv")).write_text("1")

    assert look(folder) not in (before, UNREADABLE)


def test_ing1_sources_elsewhere_cannot_be_seen() -> None:
    assert look("s3://landing/flights/") is None


@pytest.mark.parametrize(
    ("uri", "pattern"),
    [("file:///x%00y", "*"), (f"file:///tmp/{'x' * 300}/", "*"), ("file:///tmp/", "[z-a].csv")],
)
def test_x5_a_source_that_cannot_be_looked_at_stops_nothing(uri: str, pattern: str) -> None:
    assert look(uri, pattern) == UNREADABLE


def test_x5_a_source_behind_a_folder_that_may_not_be_entered_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)

    assert look(folder) == UNREADABLE
