"""A cluster that somebody else has made: the one of $KUBECONFIG, or one of kind. Used instead of one of our own, and
left as it is unless `install` is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.build import cache_root
from tools.cluster.certificates import write_secret
from tools.cluster.layout import ClusterError, own_state
from tools.cluster.node import is_running


@dataclass(frozen=True)
class Given:
    """A cluster, by the kubeconfig of its administrator. `kind`: its name, where kind has made it."""

    kubeconfig: Path
    kind: str = ""

    def __str__(self) -> str:
        return f"kind's cluster {self.kind!r}" if self.kind else f"the cluster of KUBECONFIG={self.kubeconfig}"

    def load(self, archives: Iterable[Path]) -> None:
        """Give its nodes images from archives. Nothing but kind can do that: elsewhere they are there already."""
        for archive in archives if self.kind else ():
            _kind("load", "image-archive", str(archive), "--name", self.kind)


def find() -> Given | None:
    """The cluster to use instead of one of our own: $KUBECONFIG comes first, our own one if it runs, then kind's."""
    own = own_state()
    named = os.environ.get("KUBECONFIG")
    if named and Path(named).absolute() != own / "kubeconfig":
        return Given(Path(named).absolute())
    if is_running(own) or not shutil.which("kind"):
        return None
    clusters = _kind("get", "clusters").split()
    if not clusters:
        return None
    kubeconfig = cache_root() / f"kind-{clusters[0]}.kubeconfig"
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    write_secret(kubeconfig, _kind("get", "kubeconfig", "--name", clusters[0]).encode())
    return Given(kubeconfig, clusters[0])


def _kind(*arguments: str) -> str:
    done = subprocess.run(["kind", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"kind {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
