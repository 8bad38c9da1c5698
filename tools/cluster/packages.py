"""Debian packages that the node and its images need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.cluster.layout import ClusterError

# A file of each, to look for: much faster than to ask dpkg, and true on other distributions as well.
FILES = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "iptables": "iptables",
    "iproute2": "ip",
    "conntrack": "conntrack",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing_packages() -> list[str]:
    """The packages that are not there."""
    return [package for package, file in FILES.items() if not _exists(file)]


def ensure_packages() -> None:
    """Install what is missing, as root and where there is apt-get; says what. Raises ClusterError otherwise."""
    missing = missing_packages()
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(
            f"these packages are missing, and only root on Debian can install them: {', '.join(missing)}"
        )
    print(f"installing Debian packages: {', '.join(missing)}", file=sys.stderr, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--quiet", "--quiet", "--no-install-recommends", *missing]
    done = subprocess.run(install, env=environment, capture_output=True, text=True)
    if done.returncode != 0:  # the lists of packages may be old, or there may be none
        subprocess.run(["apt-get", "update", "--quiet", "--quiet"], env=environment, capture_output=True)
        done = subprocess.run(install, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"apt-get could not install {', '.join(missing)}: {done.stderr.strip()[-500:]}")


def _exists(file: str) -> bool:
    return Path(file).exists() if file.startswith("/") else shutil.which(file, path=SYSTEM_PATH) is not None
