"""Jobs that run a Python script in one of Levada's images, as restricted Pod Security asks."""

from __future__ import annotations

from typing import Any

from .conftest import Cluster

WAIT = "--timeout=120s"
RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def job(name: str, namespace: str, script: str, completions: int = 1, image: str = "steps") -> dict[str, Any]:
    """An Indexed Job that runs the script once for each completion."""
    container = {
        "name": "main",
        "image": f"localhost/levada/{image}:cluster",
        "command": ["python", "-c", script],
        "securityContext": RESTRICTED,
    }
    pod = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    spec = {"completionMode": "Indexed", "completions": completions, "parallelism": completions, "backoffLimit": 0}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec | {"template": {"spec": pod}}}


def run(cluster: Cluster, one: dict[str, Any]) -> str:
    """Run a Job to its end; what its pods have printed."""
    name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
    cluster.kubectl.apply([one])
    cluster.kubectl.run("wait", "--for=condition=Complete", f"job/{name}", f"--namespace={namespace}", WAIT)
    return cluster.kubectl.run("logs", f"--selector=job-name={name}", f"--namespace={namespace}", "--tail=-1")
