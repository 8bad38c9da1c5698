"""First process of a cluster's own namespaces (processes, mounts, network, host name): starts the node's processes as
its children and starts each again that ends.

The kernel takes everything with it when it ends, in whatever way: every process and container, every mount, the
network with its rules. So nothing of a cluster outlives its supervisor, killed or not, but files and empty cgroups.

    unshare <namespaces> python -m tools.cluster.supervisor <state>
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

from tools.cluster.components import Component, write_components
from tools.cluster.layout import Layout

LINK = "node0"
"""The node's end of the link to the machine."""

POLICY_QUEUE = "100"
"""Where the enforcer of network policies takes new connections from: manifests/network-policies.yaml."""

RESTART_SECONDS = 1.0
POLL_SECONDS = 0.2
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}


def prepare_mounts(layout: Layout) -> None:
    """Give the node a /run, a /var/log and a CNI cache of its own: all that has a fixed place on a machine."""
    _run("mount", "-t", "tmpfs", "tmpfs", "/run")
    _run("mount", "--bind", str(layout.logs), "/var/log")
    cache = layout.state / "cni" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    _run("mount", "--bind", str(cache), "/var/lib/cni")


def prepare_network(layout: Layout) -> None:
    """Set up the node's end of the link once the machine has moved it in. There is no way out of the machine."""
    _run("ip", "link", "set", "lo", "up")
    deadline = time.monotonic() + 10
    while not (Path("/proc/sys/net/ipv4/conf") / LINK).exists():
        if time.monotonic() > deadline:
            sys.exit(f"the machine gave the node no link {LINK}")
        time.sleep(0.01)
    _run("ip", "address", "add", f"{layout.node}/32", "dev", LINK)
    _run("ip", "link", "set", LINK, "up")
    _run("ip", "route", "add", f"{layout.machine}/32", "dev", LINK, "src", str(layout.node))
    # Without a default route, the node's own way to Services: kube-proxy only sees what is routed somewhere.
    _run("ip", "route", "add", str(layout.services), "dev", LINK, "src", str(layout.node))
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # Each new connection of pods waits for the enforcer's word; until the enforcer is there, it passes. Those from the
    # machine are the administrator's, and pass as the node's do.
    new = ["-m", "conntrack", "--ctstate", "NEW", "!", "--source", str(layout.machine)]
    queue = ["-j", "NFQUEUE", "--queue-num", POLICY_QUEUE, "--queue-bypass"]
    _run("iptables", "--table", "mangle", "--append", "FORWARD", *new, *queue)


class Supervisor:
    """Keeps the components running until it is told to end."""

    def __init__(self, layout: Layout, components: list[Component]) -> None:
        self._layout = layout
        self._components = components
        self._running: dict[int, Component] = {}
        self._due: dict[str, float] = {}
        self._api_ready = False

    def run(self) -> None:
        """Return when SIGTERM or SIGINT has come."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        while True:
            self._start_what_is_due()
            received = signal.sigtimedwait(SIGNALS, POLL_SECONDS)
            if received is not None and received.si_signo != signal.SIGCHLD:
                return
            self._collect()

    def _start_what_is_due(self) -> None:
        running = {component.name for component in self._running.values()}
        if not self._api_ready and "kube-apiserver" in running:
            self._api_ready = api_is_ready(self._layout)
        for component in self._components:
            due = self._due.get(component.name, 0.0) <= time.monotonic()
            if component.name not in running and due and (self._api_ready or not component.needs_api):
                self._start(component)

    def _start(self, component: Component) -> None:
        log = os.open(self._layout.logs / f"{component.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        streams = ((null, 0), (log, 1), (log, 2))
        try:
            pid = os.posix_spawnp(
                component.command[0],
                component.command,
                ENVIRONMENT | {"HOME": str(self._layout.state)},
                file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for source, target in streams],
                setpgroup=0,
                setsigmask=[],
            )
        finally:
            os.close(log)
            os.close(null)
        self._running[pid] = component
        self._record()

    def _collect(self) -> None:
        """Collect every process that has ended: our own, and orphans such as containerd's shims."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            component = self._running.pop(pid, None)
            if component is not None:
                print(f"{component.name} ended with {os.waitstatus_to_exitcode(status)}: starts again", flush=True)
                self._due[component.name] = time.monotonic() + RESTART_SECONDS
                self._record()

    def _record(self) -> None:
        """Tell the ids of the processes, as they are within the namespace."""
        known = {component.name: pid for pid, component in self._running.items()}
        new = self._layout.state / "processes.json.new"
        new.write_text(json.dumps(known))
        new.rename(self._layout.state / "processes.json")


def api_is_ready(layout: Layout) -> bool:
    """Whether the API server says so; asks once."""
    pki = layout.certificates
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "kubelet-client.crt", pki / "kubelet-client.key")
    connection = http.client.HTTPSConnection(str(layout.node), 6443, timeout=2, context=context)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")


def main() -> None:
    """Run the node whose state lies in the folder named on the command line."""
    state = Path(sys.argv[1])
    known = json.loads((state / "cluster.json").read_text())
    layout = Layout(state, known["number"])
    socket.sethostname(layout.name)
    prepare_mounts(layout)
    prepare_network(layout)
    programs = {name: Path(path) for name, path in known["programs"].items()}
    Supervisor(layout, write_components(layout, programs)).run()


if __name__ == "__main__":
    main()
