"""The operator that is measured and its twin: Deployments of which one has a pod at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.cluster.installed import RELEASE, Installed
from tests.support.waiting import until

TWIN = "bench-twin"
_SCRIPT = Path(__file__).parent / "twin" / "twin.py"


@dataclass(frozen=True)
class Operator:
    """A Deployment with one pod or none, whose first process is what is measured."""

    installed: Installed
    deployment: str
    namespace: str

    def start(self) -> None:
        self._scale(1)
        self.run("rollout", "status", f"deployment/{self.deployment}", "--timeout=240s")

    def end(self) -> None:
        self._scale(0)
        until(lambda: not self._pods(), seconds=90)

    def replace(self) -> None:
        """Have its pod killed and made anew."""
        (pod,) = self._pods()
        self.installed.replace(pod)

    def resident(self) -> int:
        """Bytes of memory that its process holds."""
        status = self.exec("cat", "/proc/1/status")
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))

    def writes(self) -> dict[tuple[str, str], float]:
        """How often it has written to the API server, by verb and kind."""
        get = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8081/metrics').read().decode())"
        families = text_string_to_metric_families(self.exec("python", "-c", get))
        samples = (s for family in families for s in family.samples if s.name == "levada_operator_api_writes_total")
        return {(sample.labels["verb"], sample.labels["kind"]): sample.value for sample in samples}

    def exec(self, *command: str) -> str:
        return self.run("exec", f"deployment/{self.deployment}", "--", *command)

    def run(self, *arguments: str) -> str:
        return self.installed.run(*arguments, namespace=self.namespace)

    def _scale(self, replicas: int) -> None:
        self.run("scale", f"deployment/{self.deployment}", f"--replicas={replicas}")

    def _pods(self) -> list[Any]:
        deployment = self.installed.get("deployment", self.deployment, namespace=self.namespace)
        labels = deployment["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return self.installed.pods(selector, namespace=self.namespace)


def levada(installed: Installed) -> Operator:
    return Operator(installed, "levada-operator", RELEASE)


def twin(installed: Installed) -> Operator:
    """Make the twin, in the image and with the resources of Levada's operator, and without a pod."""
    (container,) = installed.get("deployment", "levada-operator", namespace=RELEASE)["spec"]["template"]["spec"][
        "containers"
    ]
    kopf = ["python", "-m", "kopf", "run", "--standalone", "--all-namespaces"]
    kopf += ["--liveness=http://0.0.0.0:8080/healthz", "/twin/twin.py"]
    template = {
        "serviceAccountName": TWIN,
        "containers": [
            {
                "name": "twin",
                "image": container["image"],
                "command": kopf,
                "env": [{"name": "HOME", "value": "/tmp"}, {"name": "USER", "value": "twin"}],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
                "resources": container["resources"],
                "volumeMounts": [{"name": "script", "mountPath": "/twin"}],
            }
        ],
        "volumes": [{"name": "script", "configMap": {"name": TWIN}}],
    }
    labels = {"app": TWIN}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "strategy": {"type": "Recreate"},
        "template": {"metadata": {"labels": labels}, "spec": template},
    }
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subjects = [{"kind": "ServiceAccount", "name": TWIN, "namespace": TWIN}]
    installed.kubectl.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TWIN}},
            _named("v1", "ServiceAccount"),
            _named("v1", "ConfigMap", data={"twin.py": _SCRIPT.read_text()}),
            _named("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", roleRef=role, subjects=subjects),
            _named("apps/v1", "Deployment", spec=spec),
        ]
    )
    return Operator(installed, TWIN, TWIN)


def remove_twin(installed: Installed) -> None:
    installed.run("delete", f"namespace/{TWIN}", f"clusterrolebinding/{TWIN}", "--ignore-not-found")


def _named(version: str, kind: str, **fields: Any) -> dict[str, Any]:
    metadata = {"name": TWIN} | ({} if kind.startswith("Cluster") else {"namespace": TWIN})
    document: dict[str, Any] = json.loads(json.dumps({"apiVersion": version, "kind": kind, **fields}))
    return document | {"metadata": metadata}
