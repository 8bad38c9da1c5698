"""Nodes are started and ended beside each other, and leave nothing, whether they end or are killed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import until
from tools.build import binary_path, ensure
from tools.cluster import images, node
from tools.cluster.addons import Kubectl
from tools.cluster.components import PROGRAMS
from tools.cluster.kernel import CGROUPS, read_settings
from tools.cluster.layout import STATES, Layout

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]


@pytest.fixture
def states() -> Iterator[list[Path]]:
    """Folders for the state of two nodes; whatever runs in them is ended."""
    folders = [STATES / "test-a", STATES / "test-b"]
    for folder in folders:
        node.stop(folder)
    yield folders
    for folder in folders:
        node.stop(folder)


def start(state: Path) -> Layout:
    return node.start(state, dict(zip(PROGRAMS, ensure(list(PROGRAMS)), strict=True)))


def run_pod(layout: Layout) -> None:
    """Run a pod on the node and wait until it is there."""
    kubectl = Kubectl(binary_path("kubectl"), layout.kubeconfig)
    until(lambda: layout.containerd_socket.is_socket() and node.is_running(layout.state))
    pause = images.of_program("pause", *ensure(["pause"]))
    images.import_archives(layout.containerd_socket, images.ensure_archives([pause]))
    kubectl.run("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    kubectl.run("run", "here", f"--image={pause.reference}", "--image-pull-policy=Never")
    kubectl.run("wait", "--for=condition=Ready", "pod/here", "--timeout=120s")


def traces(layout: Layout) -> dict[str, list[str]]:
    """All that a machine shows of a node."""
    links = json.loads(subprocess.run(["ip", "-json", "link"], capture_output=True, check=True).stdout)
    routes = subprocess.run(["ip", "route", "show", "table", "all"], capture_output=True, text=True, check=True).stdout
    return {
        "processes": [p.name() for p in psutil.process_iter() if str(layout.state) in " ".join(command_line(p))],
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if str(layout.state) in line],
        "links": [link["ifname"] for link in links if link["ifname"].startswith(layout.name)],
        "routes": [line for line in routes.splitlines() if layout.name in line],
        "cgroups": [str(path) for path in CGROUPS.glob(f"**/{layout.cgroup}")],
        "files": [str(layout.state)] if layout.state.exists() else [],
    }


def command_line(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except psutil.NoSuchProcess:
        return []
    return words


def test_a_killed_node_leaves_nothing_once_it_is_stopped(states: list[Path]) -> None:
    settings = read_settings()
    layout = start(states[0])
    run_pod(layout)
    before = traces(layout)
    assert all(before[kind] for kind in ("processes", "links", "routes", "cgroups", "files")), before
    supervisor = json.loads(layout.record.read_text())["supervisor"]["pid"]
    psutil.Process(supervisor).kill()
    until(lambda: not traces(layout)["processes"])
    node.stop(layout.state)
    assert not any(traces(layout).values()), traces(layout)
    assert read_settings() == settings


def test_two_nodes_run_beside_each_other_and_the_end_of_one_is_not_the_others(states: list[Path]) -> None:
    first, second = map(start, states)
    assert not first.slice.overlaps(second.slice)
    run_pod(first)
    run_pod(second)
    node.stop(first.state)
    assert not any(traces(first).values()), traces(first)
    kubectl = Kubectl(binary_path("kubectl"), second.kubeconfig)
    kubectl.run("run", "later", f"--image={images.REGISTRY}/pause:{images.TAG}", "--image-pull-policy=Never")
    kubectl.run("wait", "--for=condition=Ready", "pod/later", "--timeout=120s")
