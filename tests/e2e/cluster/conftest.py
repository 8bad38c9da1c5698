"""The real cluster that `python -m tools.cluster up` has started, and a namespace of its own for each test."""

from __future__ import annotations

import json
import secrets
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from minio import Minio

from tools.build import binary_path
from tools.cluster.addons import STORES, Kubectl
from tools.cluster.layout import own_state
from tools.cluster.node import is_running


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
def cluster() -> Cluster:
    """Skips when no cluster is running."""
    state = own_state()
    if not is_running(state):
        pytest.skip("no cluster is running: run 'python -m tools.cluster up' as root first")
    return Cluster(Kubectl(binary_path("kubectl"), state / "kubeconfig"))


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """The name of a new namespace with restricted Pod Security."""
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    yield name
    cluster.kubectl.run("delete", "namespace", name, "--wait=false")
