"""A real API server for the tests of this folder: one, in one xdist worker, since starting it takes seconds of CPU."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.apiserver import ApiServer, RunningApiServer

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "tools" / "build.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that use the API server in one worker (`--dist loadgroup`)."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.xdist_group("api"))


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """An API server of the current Kubernetes version with a cluster admin's kubeconfig, and nothing else running.

    Its programs are built once per machine, which takes some minutes.
    """
    built = subprocess.run([sys.executable, BUILD, "etcd", "kube-apiserver"], stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        pytest.skip("etcd and kube-apiserver cannot be built here: run 'make tools' to see why")
    etcd, kube_apiserver = map(Path, built.stdout.split())
    with (
        tempfile.TemporaryDirectory(prefix="levada-api-") as folder,
        RunningApiServer(Path(folder), etcd, kube_apiserver) as running,
    ):
        yield running
