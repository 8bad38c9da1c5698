"""The real cluster, one for all tests, and a namespace of its own for each test.

It is the one that `make cluster` has started, or `python -m tools.cluster run` around the tests, as `make test` does.
A cluster that was not made here is used only with KUBECONFIG and LEVADA_TEST_CLUSTER=given.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from tools.build import ensure
from tools.cluster import given
from tools.cluster.addons import STORES, Kubectl
from tools.cluster.layout import own_state
from tools.cluster.lifecycle import TESTS_USE
from tools.cluster.node import find, is_running

from .installed import RELEASE, Installed, install


@dataclass(frozen=True)
class Cluster:
    """The cluster as its administrator sees it."""

    kubectl: Kubectl

    def get(self, *what: str) -> Any:
        """An object, or a list of them, as `kubectl get` finds it."""
        return json.loads(self.kubectl.run("get", *what, "--output=json"))

    def address(self, service: str, namespace: str) -> str:
        """The address of a Service, which this machine reaches."""
        address: str = self.get("service", service, f"--namespace={namespace}")["spec"]["clusterIP"]
        return address

    def password(self, store: str) -> str:
        """The password of a store's user `levada`."""
        data = self.get("secret", "stores", f"--namespace={STORES}")["data"]
        return b64decode(data[f"{store}-password"]).decode()

    def minio(self) -> Minio:
        """A client of the MinIO server in the cluster."""
        endpoint = f"{self.address('minio', STORES)}:9000"
        return Minio(endpoint, access_key="levada", secret_key=self.password("minio"), secure=False, region="us-east-1")


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The cluster's, for its administrator. Skips when no cluster is running."""
    if os.environ.get(TESTS_USE) == "given":
        found = given.find()
        assert found, f"{TESTS_USE}=given, but no cluster is given: set KUBECONFIG"
        return found.kubeconfig
    if not is_running(own_state()):
        pytest.skip("no cluster is running: run 'make cluster' as root first")
    return own_state() / "kubeconfig"


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Cluster:
    """The cluster, ours or the one that was given."""
    (program,) = ensure(["kubectl"])
    return Cluster(Kubectl(program, kubeconfig))


@pytest.fixture(scope="session")
def own_node(cluster: Cluster) -> Path:
    """The folder of our own cluster's state, for tests that do harm to its node. Skips when a cluster was given."""
    if not is_running(own_state()):
        pytest.skip("only for a cluster that was made here")
    return own_state()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """The name of a new namespace with restricted Pod Security."""
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    yield name
    cluster.kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def levada(cluster: Cluster, kubeconfig: Path) -> Iterator[Installed]:
    """Levada from its chart, with the stores that it brings, for the whole cluster."""
    (helm,) = ensure(["helm"])
    layout = find(own_state())
    installed = install(cluster.kubectl, helm, kubeconfig, layout.containerd_socket if layout else None)
    yield installed
    installed.clear()
    command = [str(helm), f"--kubeconfig={kubeconfig}", f"--namespace={RELEASE}", "uninstall", RELEASE, "--wait"]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
