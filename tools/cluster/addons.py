"""What a test cluster has beyond a bare node: volumes, the stores, KServe. Applied again, it changes nothing."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from tools.build import module_folder
from tools.cluster import kserve
from tools.cluster.images import REGISTRY, TAG
from tools.cluster.layout import ClusterError, Layout

MANIFESTS = Path(__file__).parent / "manifests"
STORES = "levada-stores"
VOLUMES = 32
READY_SECONDS = 180


class Kubectl:
    """kubectl as the administrator of one cluster."""

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self._command = [str(program), f"--kubeconfig={kubeconfig}"]

    def run(self, *arguments: str, text: str = "") -> str:
        """Its output; raises ClusterError with what it says."""
        done = subprocess.run([*self._command, *arguments], input=text, capture_output=True, text=True)
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Apply on the server's side."""
        text = yaml.safe_dump_all(objects)
        self.run("apply", "--server-side", "--force-conflicts", "--field-manager=levada-cluster", "-f", "-", text=text)

    def apply_file(self, name: str) -> None:
        """Apply one of the manifests beside this module."""
        self.apply(list(yaml.safe_load_all((MANIFESTS / name).read_text())))


def install_stores(kubectl: Kubectl) -> None:
    """Postgres, NATS and MinIO; their passwords stay what they are once they were made."""
    kubectl.apply_file("stores.yaml")
    if kubectl.run("get", "secret", "stores", f"--namespace={STORES}", "--ignore-not-found", "--output=name"):
        return
    names = ("postgres-password", "nats-password", "minio-password")
    metadata = {"name": "stores", "namespace": STORES}
    passwords = {name: secrets.token_urlsafe(24) for name in names}
    kubectl.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": passwords}])


def install_kserve(kubectl: Kubectl, helm: Path) -> None:
    """KServe in Standard mode; its webhooks keep the certificate that they have."""
    secret = kubectl.run(
        "get", "secret", kserve.SECRET, f"--namespace={kserve.NAMESPACE}", "--ignore-not-found", "-ojson"
    )
    certificate = json.loads(secret)["data"] if secret else {}
    if "ca.crt" not in certificate:
        certificate = kserve.new_certificate()
    charts = module_folder("kserve", "github.com/kserve/kserve") / "charts"
    crds, objects = kserve.render(helm, charts, REGISTRY, TAG, certificate)
    kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kserve.NAMESPACE}}, *crds])
    await_established(kubectl, [crd["metadata"]["name"] for crd in crds])
    kubectl.apply(objects)


def await_established(kubectl: Kubectl, definitions: list[str]) -> None:
    """Wait until custom resources can be applied. `kubectl wait` fails while a definition has no conditions yet."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        found = json.loads(kubectl.run("get", "crd", *definitions, "--output=json"))["items"]
        conditions = [one.get("status", {}).get("conditions") or [] for one in found]
        if all(any(c["type"] == "Established" and c["status"] == "True" for c in of_one) for of_one in conditions):
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"the definitions of KServe were not established in {READY_SECONDS} s")
        time.sleep(0.2)


def install_node(kubectl: Kubectl, layout: Layout) -> None:
    """What a node has from its maker: rights of the DNS server, network policies, and volumes.

    The volumes lie on its disk and are for any claim: nothing provisions them on demand.
    """
    kubectl.apply_file("dns.yaml")
    kubectl.apply_file("network-policies.yaml")
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    kubectl.apply([storage_class, *(_volume(layout, number) for number in range(VOLUMES))])


def await_node(kubectl: Kubectl) -> None:
    """Wait until the node is ready and enforces network policies."""
    timeout = f"--timeout={READY_SECONDS}s"
    kubectl.run("wait", "--for=condition=Ready", "node", "--all", timeout)
    kubectl.run("rollout", "status", "daemonset/kube-network-policies", "--namespace=kube-system", timeout)


def await_ready(kubectl: Kubectl) -> None:
    """Wait until the stores and KServe are ready."""
    timeout = f"--timeout={READY_SECONDS}s"
    for name in ("postgres", "nats", "minio"):
        kubectl.run("rollout", "status", f"statefulset/{name}", f"--namespace={STORES}", timeout)
    kubectl.run("rollout", "status", "deployment", f"--namespace={kserve.NAMESPACE}", timeout)


def _volume(layout: Layout, number: int) -> dict[str, Any]:
    path = layout.state / "volumes" / str(number)
    path.mkdir(parents=True, exist_ok=True)
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [layout.name]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"volume-{number}"},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "local",
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
        },
    }
