"""Where a cluster keeps its state, and which addresses, names and cgroups are its own: all derived in one place."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
STATES = Path("/var/lib/levada/clusters")
"""Folders of state; short, since paths of sockets may have 107 characters only."""

RANGE = IPv4Network("10.192.0.0/10")
SLICE_BITS = 20
NUMBERS = 1 << (SLICE_BITS - RANGE.prefixlen)
"""How many clusters fit beside each other: each number has its own slice of the range."""


class ClusterError(Exception):
    """The cluster can't be made, used or removed; the message says why in one sentence."""


@dataclass(frozen=True)
class Layout:
    """One cluster: the folder of its state and the number that its addresses and names come from."""

    state: Path
    number: int

    @property
    def slice(self) -> IPv4Network:
        """All its addresses; the machine routes them to the node."""
        return IPv4Network((int(RANGE.network_address) + self.number * 2 ** (32 - SLICE_BITS), SLICE_BITS))

    @property
    def services(self) -> IPv4Network:
        """Addresses of Services."""
        return self._part(0)

    @property
    def pods(self) -> IPv4Network:
        """Addresses of pods."""
        return self._part(1)

    @property
    def machine(self) -> IPv4Address:
        """The machine as the node sees it."""
        return self._part(2)[1]

    @property
    def node(self) -> IPv4Address:
        """The node: the API server, the DNS server and node ports listen here."""
        return self._part(2)[2]

    def _part(self, index: int) -> IPv4Network:
        return list(self.slice.subnets(new_prefix=22))[index]

    @property
    def name(self) -> str:
        """Name of the node, and of the machine's end of the link to it."""
        return f"levada{self.number}"

    @property
    def cgroup(self) -> str:
        """The cgroup below which all pods are."""
        return self.name

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.node}:6443"

    @property
    def certificates(self) -> Path:
        """Folder of keys and certificates."""
        return self.state / "pki"

    @property
    def kubeconfigs(self) -> Path:
        """Folder of the kubeconfigs of the components."""
        return self.state / "kubeconfigs"

    @property
    def kubeconfig(self) -> Path:
        """The cluster administrator's."""
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        """A log for each process, and the logs of the pods below `pods/`."""
        return self.state / "logs"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens."""
        return self.state / "containerd.sock"

    @property
    def record(self) -> Path:
        """What is known about the running cluster: its number, its supervisor, the kernel settings before it."""
        return self.state / "cluster.json"


def own_state() -> Path:
    """The folder of this checkout's cluster: $LEVADA_CLUSTER_STATE, or one named after the checkout's path."""
    if chosen := os.environ.get("LEVADA_CLUSTER_STATE"):
        return Path(chosen).resolve()
    return STATES / _digest(str(CHECKOUT))[:8]


def preferred_number(state: Path) -> int:
    """The number that a cluster with this state tries first."""
    return int(_digest(str(state))[:8], 16) % NUMBERS


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
