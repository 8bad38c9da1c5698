"""Network policies are enforced, so that other tests find what the chart's ones forget to allow."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Cluster
from .jobs import RESTRICTED, WAIT, job, run

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

REACHED = "import socket; socket.create_connection(('{address}', 8000), 30)"
# The enforcer hears of a policy a moment later.
REFUSED = """
import socket, time
for attempt in range(60):
    try:
        socket.create_connection(("{address}", 8000), 2).close()
    except TimeoutError:
        break
    time.sleep(0.5)
else:
    raise SystemExit("it is still reached")
"""


def server(namespace: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "localhost/levada/steps:cluster",
        "command": ["python", "-m", "http.server", "8000"],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
    }
    metadata = {"name": "server", "namespace": namespace, "labels": {"app": "server"}}
    spec = {"automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def policy(namespace: str) -> dict[str, Any]:
    friends = {"podSelector": {"matchLabels": {"batch.kubernetes.io/job-name": "friend"}}}
    spec = {
        "podSelector": {"matchLabels": {"app": "server"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [friends]}],
    }
    metadata = {"name": "friends", "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def test_a_pod_is_reached_by_those_that_its_network_policy_names_and_by_nobody_else(
    cluster: Cluster, own_node: object, namespace: str
) -> None:
    cluster.kubectl.apply([server(namespace)])
    cluster.kubectl.run("wait", "--for=condition=Ready", "pod/server", f"--namespace={namespace}", WAIT)
    address = cluster.get("pod", "server", f"--namespace={namespace}")["status"]["podIP"]
    run(cluster, job("anybody", namespace, REACHED.format(address=address)))
    cluster.kubectl.apply([policy(namespace)])
    run(cluster, job("stranger", namespace, REFUSED.format(address=address)))
    run(cluster, job("friend", namespace, REACHED.format(address=address)))
