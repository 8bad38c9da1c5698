"""Which files of a local folder a source has, and which folders are looked into for them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from levada.errors import Stalled
from levada.methods.sources.folders import files_below
from levada.methods.sources.objects import FolderSource
from levada.resources.conditions import Reason
from levada.resources.dataset import ObjectSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in ("a.csv", "b/b.csv", "b/c/c.csv"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("x")
    return tmp_path


def found(folder: Path, pattern: str) -> list[str]:
    def refuse(error: OSError) -> None:
        raise error

    return sorted(files_below(folder, pattern, refuse))


def test_ing1_files_are_found_in_all_folders_that_a_pattern_reaches(folder: Path) -> None:
    assert found(folder, "**/*.csv") == ["a.csv", "b/b.csv", "b/c/c.csv"]
    assert found(folder, "*/*.csv") == ["b/b.csv"]


@pytest.mark.parametrize(("pattern", "folders"), [("*.csv", 1), ("*/*.csv", 2), ("b/**", 3)])
def test_ing1_no_folder_is_looked_into_that_a_pattern_does_not_reach(
    folder: Path, pattern: str, folders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, looked = os.scandir, list[str]()

    def scandir(path: str) -> object:
        looked.append(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)

    found(folder, pattern)

    assert len(looked) == folders


def test_x5_links_that_lead_back_are_not_followed(folder: Path) -> None:
    (folder / "l1").symlink_to(".")
    (folder / "l2").symlink_to(".")
    (folder / "b/up").symlink_to("..")
    (folder / "self").symlink_to("self")

    assert [path for path in found(folder, "**") if path != "self"] == ["a.csv", "b/b.csv", "b/c/c.csv"]


def test_ing1_a_folder_that_is_linked_twice_is_listed_twice(folder: Path) -> None:
    (folder / "other").symlink_to("b/c")

    assert found(folder, "**/c.csv") == ["b/c/c.csv", "other/c.csv"]


@pytest.mark.parametrize(
    ("uri", "pattern", "reason", "message"),
    [
        ("file:///tmp/", "[z-a].csv", Reason.INVALID_SPEC, "spec.x.pattern '[z-a].csv' is no glob"),
        ("file:///tmp/x%00y", "*", Reason.INVALID_SPEC, "spec.x.uri file:///tmp/x%00y holds %00"),
        (f"file:///tmp/{'x' * 300}/", "*", Reason.SOURCE_UNREADABLE, "File name too long"),
    ],
)
def test_x5_a_source_that_there_cannot_be_is_refused_in_one_sentence(
    uri: str, pattern: str, reason: Reason, message: str
) -> None:
    with pytest.raises(Stalled, match=re.escape(message)) as refused:
        FolderSource(ObjectSource(uri=uri, pattern=pattern), "spec.x").list()

    assert refused.value.reason is reason


def test_x5_a_source_that_may_not_be_entered_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/c"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(Stalled, match="/b/c may not be read: change its permissions") as refused:
        FolderSource(ObjectSource(uri=folder.as_uri(), pattern="**"), "spec.x").list()
    assert refused.value.reason is Reason.ACCESS_DENIED
