"""Commands for the cluster of this checkout.

python -m tools.cluster up           a cluster of this checkout's own, or the one that is there already
python -m tools.cluster down         remove the cluster that `up` has made, and nothing else
python -m tools.cluster kill NAME    kill one of the node's processes, which its supervisor starts again
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tools.build import BuildError, ensure
from tools.cluster import addons, images, node
from tools.cluster.components import PROGRAMS
from tools.cluster.layout import ClusterError, Layout, own_state
from tools.cluster.packages import ensure_packages
from tools.cluster.supervisor import api_is_ready

API_SECONDS = 120


def up() -> None:
    """Say which cluster is used, and make it if it is to be one of our own."""
    state = own_state()
    given = os.environ.get("KUBECONFIG")
    if given and Path(given).absolute() != state / "kubeconfig":
        say(f"using the cluster of KUBECONFIG={given}; nothing is installed in it")
        return
    if os.geteuid() != 0 or sys.platform != "linux":
        hint = "kind is there: 'kind create cluster', then set KUBECONFIG" if shutil.which("kind") else "set KUBECONFIG"
        raise ClusterError(f"a cluster of our own needs root on Linux; {hint} to use another one")
    ensure_packages()
    kubectl_path, helm, *paths = ensure(["kubectl", "helm", *PROGRAMS])
    archives = images.ensure_archives(images.all_images())
    if node.is_running(state):
        layout = node.find(state)
        assert layout
        say("this checkout's own cluster is running already")
    else:
        if node.stop(state):
            say("removed what a cluster left that had crashed")
        with step("started the node's processes"):
            layout = node.start(state, dict(zip(PROGRAMS, paths, strict=True)))
    kubectl = addons.Kubectl(kubectl_path, layout.kubeconfig)
    with ThreadPoolExecutor() as pool, step("installed and ready"):
        imported = pool.submit(import_images, layout, archives)
        await_api(layout)
        kubectl.apply_file("dns.yaml")
        addons.install_volumes(kubectl, layout)
        addons.install_stores(kubectl)
        addons.install_kserve(kubectl, helm)
        imported.result()
        addons.await_ready(kubectl)
    say(f"the cluster is ready: export KUBECONFIG={layout.kubeconfig}   (kubectl: {kubectl_path})")


def down() -> None:
    """Remove this checkout's own cluster."""
    with step("removed this checkout's own cluster"):
        if not node.stop(own_state()):
            say("this checkout has no cluster of its own")


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


def main() -> None:
    """Run the command named on the command line."""
    try:
        match sys.argv[1:]:
            case ["up"]:
                up()
            case ["down"]:
                down()
            case ["kill", name]:
                node.kill_component(own_state(), name)
            case _:
                sys.exit(__doc__)
    except (ClusterError, BuildError) as error:
        sys.exit(f"cluster: {error}")


if __name__ == "__main__":
    main()
