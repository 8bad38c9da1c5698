"""Levada in the cluster that KUBECONFIG names, installed from its chart for as long as a benchmark takes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.cluster.installed import RELEASE, Installed, install
from tools.build import ensure
from tools.cluster.addons import Kubectl


@contextmanager
def installed() -> Iterator[Installed]:
    """An installation with nothing in it, which is taken away when the block ends."""
    if not (kubeconfig := os.environ.get("KUBECONFIG")):
        raise SystemExit("set KUBECONFIG to a cluster that has nothing else to do, or run 'make bench-cluster'")
    kubectl, helm = ensure(["kubectl", "helm"])
    found = install(Kubectl(kubectl, Path(kubeconfig)), helm, Path(kubeconfig), None)
    found.clear()
    found.forget()
    try:
        yield found
    finally:
        found.clear()
        command = [str(helm), f"--kubeconfig={kubeconfig}", f"--namespace={RELEASE}", "uninstall", RELEASE, "--wait"]
        subprocess.run(command, check=True, capture_output=True, timeout=200)
