"""Making a whole cluster, filling one, using one, removing ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tools.build import BuildError, cache_root, ensure, lock
from tools.cluster import addons, given, images, node
from tools.cluster.components import PROGRAMS
from tools.cluster.layout import ClusterError, Layout, own_state
from tools.cluster.packages import ensure_packages, missing_packages
from tools.cluster.supervisor import api_is_ready

API_SECONDS = 120
TESTS_USE = "LEVADA_TEST_CLUSTER"
"""Environment variable: `given` lets tests use a cluster that was not made here; they get its KUBECONFIG."""


def up() -> Path:
    """Say which cluster is used, and make one if it is to be our own; the kubeconfig of its administrator."""
    if found := given.find():
        say(f"using {found}; nothing is installed in it: export KUBECONFIG={found.kubeconfig}")
        return found.kubeconfig
    return up_own()


def up_own() -> Path:
    """Make our own cluster, or bring the one that runs up to date; the kubeconfig of its administrator."""
    if reason := impossible():
        raise ClusterError(reason)
    ensure_packages()
    kubectl_path, helm, *paths = ensure(["kubectl", "helm", *PROGRAMS])
    archives = images.ensure_archives(images.all_images())
    state = own_state()
    with lock(cache_root() / f"cluster-{state.name}.lock"):
        layout = _own_node(state, dict(zip(PROGRAMS, paths, strict=True)))
        kubectl = addons.Kubectl(kubectl_path, layout.kubeconfig)
        with ThreadPoolExecutor() as pool, step("installed and ready"):
            imported = pool.submit(import_images, layout, archives)
            await_api(layout)
            addons.install_node(kubectl, layout)
            addons.install_stores(kubectl)
            addons.install_kserve(kubectl, helm)
            imported.result()
            addons.await_node(kubectl)
            addons.await_ready(kubectl)
    say(f"the cluster is ready: export KUBECONFIG={layout.kubeconfig}   (kubectl: {kubectl_path})")
    return layout.kubeconfig


def install() -> None:
    """Install the stores and KServe in the cluster that is given, as this was asked for."""
    found = given.find()
    if found is None:
        raise ClusterError("no cluster is given: set KUBECONFIG, or make one of kind's; 'up' installs in our own")
    kubectl_path, helm = ensure(["kubectl", "helm"])
    with step(f"installed the stores and KServe in {found}"):
        if found.kind:
            found.load(images.ensure_archives(images.all_images()).values())
        kubectl = addons.Kubectl(kubectl_path, found.kubeconfig)
        addons.install_stores(kubectl)
        addons.install_kserve(kubectl, helm)
        addons.await_ready(kubectl)


def run(command: list[str]) -> int:
    """Run a command with a cluster up; our own goes down afterwards if it was not up before. Its exit code."""
    if os.environ.get(TESTS_USE) == "given":
        found = given.find()
        if found is None:
            raise ClusterError(f"{TESTS_USE}=given, but no cluster is given: set KUBECONFIG")
        say(f"using {found}")
        return _run(command, found.kubeconfig)
    reason = impossible() or _unbuilt()
    if reason:
        say(f"skipped '{' '.join(command)}': {reason}; with KUBECONFIG and {TESTS_USE}=given it uses another one")
        return 0
    was_up = node.is_running(own_state())
    try:
        return _run(command, up_own())
    finally:
        if not was_up:
            down()


def down() -> None:
    """Remove this checkout's own cluster."""
    with step("removed this checkout's own cluster"):
        if not node.stop(own_state()):
            say("this checkout has no cluster of its own")


def impossible() -> str:
    """Why this machine can't have a cluster of our own; empty when it can."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return "a cluster of our own needs root on Linux"
    if (missing := missing_packages()) and shutil.which("apt-get") is None:
        return f"a cluster of our own needs {', '.join(missing)}, and there is no apt-get to install them"
    made = subprocess.run(["unshare", *node.NAMESPACES, "--fork", "true"], capture_output=True, text=True)
    return f"a cluster of our own needs namespaces: {made.stderr.strip()}" if made.returncode else ""


def import_images(layout: Layout, archives: dict[str, Path]) -> None:
    """Import the archives as soon as containerd listens."""
    wait_for(layout.containerd_socket.is_socket, "containerd", layout)
    images.import_archives(layout.containerd_socket, archives)


def await_api(layout: Layout) -> None:
    """Wait until the API server is ready."""
    wait_for(lambda: api_is_ready(layout), "kube-apiserver", layout)


def wait_for(ready: Callable[[], bool], name: str, layout: Layout) -> None:
    """Poll until a process is ready; raises ClusterError with the end of its log."""
    deadline = time.monotonic() + API_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{name} was not ready in {API_SECONDS} s: {node.last_words(layout, name)}")
        time.sleep(0.1)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what was done, and how long it took."""
    started = time.monotonic()
    yield
    say(f"{what} in {time.monotonic() - started:.1f} s")


def say(text: str) -> None:
    """One line for the user."""
    print(f"cluster: {text}", flush=True)


def _own_node(state: Path, programs: dict[str, Path]) -> Layout:
    if node.is_running(state):
        layout = node.find(state)
        assert layout
        say("this checkout's own cluster is running already")
        return layout
    if node.stop(state):
        say("removed what a cluster left that had crashed")
    with step("started the node's processes"):
        return node.start(state, programs)


def _unbuilt() -> str:
    """Build the programs; why that is not possible here, empty when they are there."""
    try:
        ensure(["kubectl", "helm", *PROGRAMS, *images.PROGRAMS])
    except BuildError as error:
        return str(error)
    return ""


def _run(command: list[str], kubeconfig: Path) -> int:
    return subprocess.run(command, env=os.environ | {"KUBECONFIG": str(kubeconfig)}).returncode
