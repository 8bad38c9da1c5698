"""What makes Jobs run where there is an API server but no node: the real Job controller, and a runner of pods.

The runner does for pods of steps what kubelet does, as far as steps can tell: annotations as files, environment from
Secrets, the command, the termination message, restartPolicy Never. Its pods are processes of this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes import client

from levada.engines.local.embedded import free_ports
from levada.engines.local.keeper import Keeper, stop
from tests.support.apiserver import ApiServer

Document = dict[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"


class ControllerManager:
    """kube-controller-manager with the controllers that Jobs need; ends when the block ends."""

    def __init__(self, program: Path, api: ApiServer, folder: Path) -> None:
        self._program = program
        self._api = api
        self._folder = folder
        self._keeper = Keeper()

    def __enter__(self) -> None:
        (port,) = free_ports(1)
        flags = {
            "kubeconfig": self._api.kubeconfig,
            "authentication-kubeconfig": self._api.kubeconfig,
            "authorization-kubeconfig": self._api.kubeconfig,
            "bind-address": "127.0.0.1",
            "secure-port": port,
            "cert-dir": self._folder / "controllers",
            "controllers": "job-controller,garbage-collector-controller,ttl-after-finished-controller",
            "leader-elect": "false",
            "profiling": "false",
        }
        self._process = self._keeper.spawn(
            [self._program, *(f"--{name}={value}" for name, value in flags.items())],
            record=self._folder / "controllers.json",
            log=self._folder / "controllers.log",
            environment={"PATH": "/usr/bin:/bin", "HOME": str(self._folder)},
            cwd=self._folder,
            stop_signal=signal.SIGTERM,
        )

    def __exit__(self, *_: object) -> None:
        stop(self._process, signal.SIGTERM)
        self._keeper.close()


class PodRunner:
    """Runs the pods of a cluster without nodes, until the block ends. `ran`: names of those that were started."""

    def __init__(self, api: client.ApiClient, folder: Path) -> None:
        self._core = client.CoreV1Api(api)
        self._folder = folder
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pod-runner")
        self._running: dict[str, threading.Thread] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ran: list[str] = []
        self.kill_next = 0  # so many of the next pods are killed as they start, as a node may do
        self.hold_next = 0  # so many of the next pods get no further, until they are released
        self.held: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> PodRunner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.kill()
        for thread in self._running.values():
            thread.join()

    def release(self) -> None:
        """Let the pods go on that are held."""
        while self.held:
            self.held.pop().send_signal(signal.SIGCONT)

    def _run(self) -> None:
        while not self._ended.wait(0.2):
            # From the API server's cache, and not as typed objects: it is asked often.
            answer = self._core.list_pod_for_all_namespaces(resource_version="0", _preload_content=False)
            pods: list[Document] = json.loads(answer.data)["items"]
            for pod in pods:
                uid = pod["metadata"]["uid"]
                waiting = pod.get("status", {}).get("phase") == "Pending" and "deletionTimestamp" not in pod["metadata"]
                waiting = waiting and _is_of_a_job(pod)
                if waiting and uid not in self._running:
                    self._running[uid] = threading.Thread(target=self._run_pod, args=(pod,))
                    self._running[uid].start()
            there = {pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
            for uid, process in list(self._processes.items()):
                if uid not in there and process.poll() is None:
                    process.kill()
            for pod in pods:
                if "deletionTimestamp" in pod["metadata"]:
                    self._forget(pod)

    def _forget(self, pod: Document) -> None:
        """As kubelet does once the containers of a deleted pod have ended."""
        process = self._processes.get(pod["metadata"]["uid"])
        if process is not None and process.poll() is None:
            process.kill()
            return
        with suppress(client.ApiException):
            where = (pod["metadata"]["name"], pod["metadata"]["namespace"])
            self._core.delete_namespaced_pod(*where, grace_period_seconds=0)

    def _run_pod(self, pod: Document) -> None:
        metadata, (container,) = pod["metadata"], pod["spec"]["containers"]
        folder = self._folder / metadata["uid"]
        mounts = self._mount(pod, folder)
        environment = self._environment(pod, container, mounts, folder)
        command = [_mounted(part, mounts) for part in (*container["command"], *container.get("args", ()))]
        command[0] = sys.executable if command[0] == "python" else command[0]
        self.ran.append(metadata["name"])
        self._report(pod, "Running", {"running": {"startedAt": _now()}})
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        self._processes[metadata["uid"]] = process
        if self.kill_next > 0:
            self.kill_next -= 1
            process.kill()
        if self.hold_next > 0:
            self.hold_next -= 1
            process.send_signal(signal.SIGSTOP)
            self.held.append(process)
        code = process.wait()
        message = folder / "termination"
        ended = {
            "exitCode": code if code >= 0 else 128 - code,
            "finishedAt": _now(),
            "message": message.read_text() if message.exists() else "",
            "reason": "Completed" if code == 0 else "Error",
        }
        self._report(pod, "Succeeded" if code == 0 else "Failed", {"terminated": ended})
        shutil.rmtree(folder / "scratch", ignore_errors=True)

    def _mount(self, pod: Document, folder: Path) -> dict[str, Path]:
        """The folders of a pod's mounts by their paths in its container."""
        (container,) = pod["spec"]["containers"]
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        mounts = {}
        for mount in container["volumeMounts"]:
            place = mounts[mount["mountPath"]] = folder / mount["name"]
            place.mkdir(parents=True)
            for item in volumes[mount["name"]].get("downwardAPI", {}).get("items", ()):
                annotation = item["fieldRef"]["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
                (place / item["path"]).write_text(pod["metadata"]["annotations"][annotation])
        return mounts

    def _environment(self, pod: Document, container: Document, mounts: dict[str, Path], folder: Path) -> dict[str, str]:
        namespace = pod["metadata"]["namespace"]
        values = {"PATH": os.environ["PATH"], "LEVADA_TERMINATION_LOG": str(folder / "termination")}
        for source in container.get("envFrom", ()):
            values |= self._secret(source["secretRef"]["name"], namespace)
        for variable in container.get("env", ()):
            origin = variable.get("valueFrom", {})
            if "fieldRef" in origin:
                values[variable["name"]] = pod["metadata"]["annotations"][INDEX]
            elif "secretKeyRef" in origin:
                reference = origin["secretKeyRef"]
                secret = self._secret(reference["name"], namespace, optional=reference.get("optional", False))
                if reference["key"] in secret:
                    values[variable["name"]] = secret[reference["key"]]
            elif "value" in variable:
                values[variable["name"]] = _mounted(variable["value"], mounts)
        return values

    def _secret(self, name: str, namespace: str, *, optional: bool = False) -> dict[str, str]:
        from base64 import b64decode

        try:
            secret = self._core.read_namespaced_secret(name, namespace)
        except client.ApiException as error:
            if optional and error.status == 404:
                return {}
            raise
        return {key: b64decode(value).decode() for key, value in (secret.data or {}).items()}

    def _report(self, pod: Document, phase: str, state: Document) -> None:
        (container,) = pod["spec"]["containers"]
        ready = "running" in state
        told = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "restartCount": 0,
            "state": state,
        }
        status = {"status": {"phase": phase, "startTime": _now(), "containerStatuses": [told]}}
        with suppress(client.ApiException):  # it may be gone
            where = (pod["metadata"]["name"], pod["metadata"]["namespace"])
            self._core.patch_namespaced_pod_status(*where, status)


def _mounted(text: str, mounts: dict[str, Path]) -> str:
    for path, place in mounts.items():
        if text == path or text.startswith(f"{path}/"):
            return str(place) + text[len(path) :]
    return text


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_of_a_job(pod: Document) -> bool:
    """Others are the tests' own to bring up."""
    return "batch.kubernetes.io/job-name" in pod["metadata"].get("labels", {})
