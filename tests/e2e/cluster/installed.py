"""Levada, installed from its chart into the real cluster, and a team's namespace that it works in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import yaml

from levada.settings import Settings, from_environment
from levada.stores.open import open_objects
from tests.support.waiting import until
from tools.cluster.addons import Kubectl

RELEASE, TEAM = "levada", "team"
ROOT = Path(__file__).parents[3]

Document = dict[str, Any]


@dataclass(frozen=True)
class Installed:
    """What a user of the installation and an administrator of the node can do."""

    kubectl: Kubectl
    helm: Path
    kubeconfig: Path
    containerd: Path | None  # the socket of our own node
    namespace: str = TEAM

    def get(self, *what: str, namespace: str | None = None) -> Any:
        """An object, or a list of them, as `kubectl get` finds it."""
        return json.loads(self.run("get", *what, "--output=json", namespace=namespace))

    def run(self, *arguments: str, namespace: str | None = None, text: str = "") -> str:
        """kubectl in the team's namespace, or another one."""
        return self.kubectl.run(f"--namespace={namespace or self.namespace}", *arguments, text=text)

    def apply(self, *documents: Document) -> None:
        """Apply as users do, on the client's side."""
        self.run("apply", "-f", "-", text=yaml.safe_dump_all(documents))

    def wait(self, what: str, condition: str, seconds: int = 240) -> Document:
        """The object once a condition is true; what it says instead, if that never comes."""
        try:
            self.run("wait", f"--for=condition={condition}", what, f"--timeout={seconds}s")
        except Exception as error:
            status = self.get(what).get("status")
            raise AssertionError(f"{error}\n{json.dumps(status, indent=1)}\n{self.operator_log()}") from None
        found: Document = self.get(what)
        return found

    def operator_log(self) -> str:
        return self.run("logs", "deployment/levada-operator", "--tail=40", namespace=RELEASE)

    def settings(self) -> Settings:
        """The stores as this machine reaches them: by the addresses of their Services."""
        return from_environment(self.environment())

    def environment(self) -> dict[str, str]:
        data = self.get("secret", "levada-stores")["data"]
        environment = {key: b64decode(value).decode() for key, value in data.items()}
        services = {
            f"{s['metadata']['name']}.{RELEASE}": s["spec"]["clusterIP"]
            for s in self.get("services", namespace=RELEASE)["items"]
        }
        for key, value in environment.items():
            for name in sorted(services, key=len, reverse=True):
                for host in (f"{name}.svc.cluster.local", f"{name}.svc", name):
                    value = value.replace(host, services[name])
            environment[key] = value
        return environment

    def upload(self, folder: Path) -> None:
        """Put the raw data of a folder's manifests where the operator looks, as the README says."""
        command = [sys.executable, "-m", "levada.cli", "upload", "-f", str(folder), "-n", self.namespace]
        done = subprocess.run(command, env=os.environ | self.environment(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    def ask(self, url: str, body: Document | None = None) -> Document:
        """The answer at a Service's URL, which names it as pods do; posts if there is a body."""
        return self.asker(url)(body)

    def asker(self, url: str) -> Callable[[Document | None], Document]:
        """Asks a Service over a new connection each time, and the API server for its address just once."""
        place = urlsplit(url)
        service, namespace, *_ = (place.hostname or "").split(".")
        address = self.get("service", service, namespace=namespace)["spec"]["clusterIP"]

        def ask(body: Document | None) -> Document:
            data = json.dumps(body).encode() if body is not None else None
            request = urllib.request.Request(f"http://{address}{place.path}", data)
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: Document = json.load(response)
            return answer

        return ask

    def pods(self, selector: str, namespace: str | None = None) -> list[Document]:
        found: list[Document] = self.get("pods", f"--selector={selector}", namespace=namespace)["items"]
        return found

    def upgrade(self, *options: str) -> None:
        """`helm upgrade --install`, with the images of the test cluster; done when the operator is ready."""
        values = ROOT / "tests" / "support" / "cluster-values.yaml"
        command = [str(self.helm), f"--kubeconfig={self.kubeconfig}", f"--namespace={RELEASE}", "upgrade", "--install"]
        command += [RELEASE, str(ROOT / "charts" / "levada"), "--values", str(values)]
        command += ["--set", f"workloadNamespaces={{{self.namespace}}}"]
        # Another test may have applied the definitions without Helm.
        command += ["--take-ownership", "--wait", "--timeout", "4m", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr

    def kill(self, pod: Document, container: str = "", signal: str = "SIGKILL") -> bool:
        """Send a signal to a pod's container, from the node; whether there was something to get it."""
        for status in pod.get("status", {}).get("containerStatuses", ()):
            if container in ("", status["name"]) and "running" in status["state"]:
                identity = status["containerID"].removeprefix("containerd://")
                command = ["ctr", "--address", str(self.containerd), "--namespace", "k8s.io", "tasks", "kill"]
                done = subprocess.run([*command, "--signal", signal, identity], capture_output=True, timeout=60)
                return done.returncode == 0
        return False

    def replace(self, pod: Document) -> None:
        """Have a pod made anew, whose container would be started again only after a pause that grows each time."""
        metadata = pod["metadata"]
        options = ("--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
        self.run("delete", "pod", metadata["name"], *options, namespace=metadata["namespace"])

    def clear(self) -> None:
        """Remove all of the team's resources, and wait until what they own is gone."""
        kinds = "datasets,featuresets,trainingruns,modelcandidates,modeldeployments,scoringruns"
        self.run("delete", f"{kinds}.levada.dev".replace(",", ".levada.dev,"), "--all", "--timeout=60s")
        until(lambda: not self.pods("levada.dev/kind"))

    def forget(self) -> None:
        """Take away all that has been made of the team's sources, so that the same work is done anew."""
        settings = self.settings()
        objects = open_objects(settings)
        for folder in {info.key.partition("/")[0] for info in objects.list("")} - {"sources"}:
            assert objects.delete_prefix(f"{folder}/")
        with psycopg.connect(settings.postgres_dsn.get_secret_value()) as connection:
            connection.execute("DELETE FROM artifacts WHERE namespace = %s", (self.namespace,))


def install(kubectl: Kubectl, helm: Path, kubeconfig: Path, containerd: Path | None) -> Installed:
    """Levada's namespace and the team's, and the chart in the first."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for name in (RELEASE, TEAM)
    ]
    kubectl.apply(namespaces)
    installed = Installed(kubectl, helm, kubeconfig, containerd)
    installed.upgrade()
    return installed
