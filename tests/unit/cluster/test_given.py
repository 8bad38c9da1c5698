"""Which cluster is used: never one that others have made, unless that was asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.cluster import given, lifecycle
from tools.cluster.layout import ClusterError

KIND = """#!/bin/sh
echo "$@" >> "$0.log"
case "$*" in
    "get clusters") cat "$0.clusters";;
    "get kubeconfig --name work") echo "kind: Config";;
    "load image-archive "*) ;;
    *) echo "unknown command $*" >&2; exit 1;;
esac
"""


@pytest.fixture(autouse=True)
def kind(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No cluster at all, and a `kind` that has made none."""
    program = tmp_path_factory.mktemp("bin") / "kind"
    program.write_text(KIND)
    program.chmod(0o755)
    program.with_name("kind.clusters").touch()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("LEVADA_CLUSTER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LEVADA_CACHE", str(tmp_path / "cache"))
    return program


def test_the_cluster_of_kubeconfig_is_used_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    monkeypatch.setenv("KUBECONFIG", str(theirs))
    assert lifecycle.up() == theirs
    assert f"using the cluster of KUBECONFIG={theirs}; nothing is installed in it" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_our_own_kubeconfig_is_no_cluster_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "state" / "kubeconfig"))
    assert given.find() is None


def test_a_cluster_of_kind_is_used_and_its_kubeconfig_is_for_its_owner_alone(kind: Path) -> None:
    kind.with_name("kind.clusters").write_text("work\n")
    found = given.find()
    assert found
    assert found.kind == "work"
    assert found.kubeconfig.read_text() == "kind: Config\n"
    assert found.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_images_are_loaded_into_kinds_cluster_alone(kind: Path, tmp_path: Path) -> None:
    given.Given(tmp_path / "theirs").load([tmp_path / "image.tar"])
    assert not kind.with_name("kind.log").exists()
    given.Given(tmp_path / "theirs", "work").load([tmp_path / "image.tar"])
    assert kind.with_name("kind.log").read_text() == f"load image-archive {tmp_path}/image.tar --name work\n"


def test_nothing_is_installed_where_no_cluster_is_given() -> None:
    with pytest.raises(ClusterError, match="no cluster is given: set KUBECONFIG"):
        lifecycle.install()


def test_tests_of_a_given_cluster_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lifecycle.TESTS_USE, "given")
    with pytest.raises(ClusterError, match="no cluster is given"):
        lifecycle.run(["true"])


def test_a_command_runs_with_the_kubeconfig_of_the_given_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lifecycle.TESTS_USE, "given")
    monkeypatch.setenv("KUBECONFIG", "theirs")
    monkeypatch.chdir(tmp_path)
    assert lifecycle.run(["sh", "-c", f'test "$KUBECONFIG" = "{tmp_path}/theirs" && exit 7']) == 7


def test_without_root_one_line_says_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert lifecycle.run(["false"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("cluster: skipped 'false': a cluster of our own needs root on Linux")
