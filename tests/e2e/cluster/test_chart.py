"""The chart on a real cluster, for one namespace and with stores that are already there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest
import yaml

from tests.support.chart import CLUSTER_VALUES
from tests.support.network import Outside, Pod, allowed
from tests.support.waiting import until
from tools.build import binary_path
from tools.chart import CHART, definitions
from tools.cluster.addons import STORES
from tools.cluster.layout import own_state

from .conftest import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

Helm = Callable[..., str]


@pytest.fixture
def helm(cluster: Cluster, namespace: str) -> Iterator[Helm]:
    """Runs Helm in the namespace; a release that is left is uninstalled."""
    command = [str(binary_path("helm")), f"--namespace={namespace}", f"--kubeconfig={own_state() / 'kubeconfig'}"]

    def run(*arguments: str, text: str = "") -> str:
        done = subprocess.run([*command, *arguments], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    run("uninstall", "levada", "--ignore-not-found", "--wait")


def secrets(cluster: Cluster, bucket: str) -> list[dict[str, object]]:
    """How Levada and KServe get at the stores that the cluster has."""
    minio, password = f"minio.{STORES}.svc:9000", cluster.password
    stores = {
        "LEVADA_OBJECTS_ENDPOINT": f"http://{minio}",
        "LEVADA_OBJECTS_BUCKET": bucket,
        "LEVADA_OBJECTS_ACCESS_KEY": "levada",
        "LEVADA_OBJECTS_SECRET_KEY": password("minio"),
        "LEVADA_POSTGRES_DSN": f"postgresql://levada:{password('postgres')}@postgres.{STORES}.svc/levada",
        "LEVADA_NATS_URL": f"nats://nats.{STORES}.svc:4222",
        "LEVADA_NATS_USER": "levada",
        "LEVADA_NATS_PASSWORD": password("nats"),
    }
    models = {"AWS_ACCESS_KEY_ID": "levada", "AWS_SECRET_ACCESS_KEY": password("minio")}
    kserve = {"serving.kserve.io/s3-endpoint": minio, "serving.kserve.io/s3-usehttps": "0"}
    common = {"apiVersion": "v1", "kind": "Secret"}
    return [
        common | {"metadata": {"name": "my-stores", "namespace": bucket}, "stringData": stores},
        common | {"metadata": {"name": "my-models", "namespace": bucket, "annotations": kserve}, "stringData": models},
    ]


def values(namespace: str) -> str:
    """Values for one namespace, in a cluster where the definitions are somebody else's."""
    off = {"enabled": False}
    own = {
        "namespaces": [namespace],
        "crds": {"install": False},
        "rbac": {"aggregate": False},
        "stores": {"existingSecret": "my-stores"},
        "models": {"existingSecret": "my-models"},
        "networkPolicies": {"externalStores": [{"ports": [{"port": p} for p in (9000, 5432, 4222)]}]},
    }
    given = yaml.safe_load(CLUSTER_VALUES.read_text())
    return yaml.safe_dump(given | own | dict.fromkeys(("minio", "postgres", "nats"), off))


def assert_connections_are_allowed(cluster: Cluster) -> None:
    """Every TCP connection that an operator or a scorer in the cluster holds is one that its policies allow."""
    policies = cluster.get("networkpolicies", "--all-namespaces")["items"]
    pods = cluster.get("pods", "--all-namespaces", "--field-selector=status.phase=Running")["items"]
    ends = {pod["status"]["podIP"]: Pod(pod["metadata"]["namespace"], pod["metadata"]["labels"]) for pod in pods}
    behind = services(cluster)
    looked_at = set()
    for pod in pods:
        metadata, container = pod["metadata"], pod["spec"]["containers"][0]["name"]
        if container not in ("operator", "kserve-container"):
            continue
        table = cluster.kubectl.run(
            "exec", metadata["name"], f"--namespace={metadata['namespace']}", f"--container={container}", "--",
            "cat", "/proc/net/tcp",
        )  # fmt: skip
        for address, port in opened(table):
            for to, at in behind.get((address, port), [(address, port)]):
                target = ends.get(to, Outside(to))
                assert allowed(policies, ends[pod["status"]["podIP"]], target, at), (metadata["name"], target, at)
                looked_at.add((container, at))
    assert ("operator", 6443) in looked_at


def services(cluster: Cluster) -> dict[tuple[str, int], list[tuple[str, int]]]:
    """The addresses and ports behind those of each Service."""
    found: dict[tuple[str, int], list[tuple[str, int]]] = {}
    slices = cluster.get("endpointslices", "--all-namespaces")["items"]
    for service in cluster.get("services", "--all-namespaces")["items"]:
        here = service["metadata"]
        mine = [
            each
            for each in slices
            if each["metadata"]["namespace"] == here["namespace"]
            and each["metadata"].get("labels", {}).get("kubernetes.io/service-name") == here["name"]
        ]
        for port in service["spec"].get("ports", ()):
            found[service["spec"]["clusterIP"], port["port"]] = [
                (address, target["port"])
                for each in mine
                for endpoint in each["endpoints"] or ()
                for address in endpoint["addresses"]
                for target in each["ports"] or ()
                if (target.get("name") or "") == port.get("name", "")
            ]
    return found


def opened(table: str) -> Iterator[tuple[str, int]]:
    """Remote address and port of each established connection of /proc/net/tcp that this end has opened."""
    rows = [line.split() for line in table.splitlines()[1:]]
    listening = {row[1].partition(":")[2] for row in rows if row[3] == "0A"}
    for row in rows:
        if row[3] == "01" and row[1].partition(":")[2] not in listening:
            address, _, port = row[2].partition(":")
            yield str(IPv4Address(bytes.fromhex(address)[::-1])), int(port, 16)


def test_k8s2_a_release_with_rights_in_one_namespace_alone_runs_and_a_second_replica_stays_passive(
    cluster: Cluster, namespace: str, helm: Helm
) -> None:
    kubectl, here = cluster.kubectl, f"--namespace={namespace}"
    kubectl.apply(list(yaml.safe_load_all(definitions())))
    kubectl.apply(secrets(cluster, namespace))
    given = values(namespace)

    helm("install", "levada", str(CHART), "--values=-", "--wait", "--timeout=4m", text=given)
    assert "bus: ok" in helm("test", "levada", "--logs")

    assert_connections_are_allowed(cluster)

    helm("upgrade", "levada", str(CHART), "--values=-", "--set=operator.replicas=2", "--wait", text=given)
    pods = cluster.get("pods", here, "--selector=app.kubernetes.io/component=operator")["items"]
    lease = cluster.get("lease", "levada-operator", here)["spec"]["holderIdentity"]
    running = {pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
    assert len(running) == 2
    assert lease in running  # the other one is ready to take over, and writes nothing

    helm("uninstall", "levada", "--wait")
    until(lambda: not cluster.get("pods", here, "--selector=app.kubernetes.io/component=operator")["items"])
