"""Starting and ending a node from outside: the namespaces, the link into them, and what they leave behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import psutil

from tools.cluster.components import write_credentials
from tools.cluster.kernel import make_cgroup, read_settings, remove_cgroup, restore_settings
from tools.cluster.layout import CHECKOUT, NUMBERS, STATES, ClusterError, Layout, preferred_number
from tools.cluster.supervisor import LINK, api_is_ready

NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")
STOP_SECONDS = 15.0
CNI_CACHE = Path("/var/lib/cni")
"""A fixed path of the CNI library's: the node's own is mounted over it."""


def find(state: Path) -> Layout | None:
    """The cluster whose state this is, running or crashed; None when there is none."""
    record = _read(state)
    return Layout(state, record["number"]) if record else None


def is_running(state: Path) -> bool:
    """Whether the supervisor lives and its API server is ready."""
    record = _read(state)
    return bool(record) and _supervisor(record) is not None and api_is_ready(Layout(state, record["number"]))


def start(state: Path, programs: Mapping[str, Path]) -> Layout:
    """Start a node with fresh state. What an earlier one left must have been removed."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(state.iterdir()):
        raise ClusterError(f"{state} is not empty and holds no cluster: remove it, or set LEVADA_CLUSTER_STATE")
    settings = _settings_of_others(state) or read_settings()
    layout = _claim_link(state)
    record = {"number": layout.number, "checkout": str(CHECKOUT), "settings": settings}
    record["programs"] = {name: str(path) for name, path in programs.items()}
    _write(state, record)
    layout.logs.mkdir()
    CNI_CACHE.mkdir(exist_ok=True)
    write_credentials(layout)
    make_cgroup(layout.cgroup)
    process = _spawn(layout)
    record["supervisor"] = {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
    _write(state, record)
    _connect(layout, process)
    process.returncode = 0  # it outlives this process on purpose: no warning when the object goes
    return layout


def stop(state: Path) -> bool:
    """End the cluster with this state, if there is one, and remove all that it left; whether there was one."""
    record = _read(state)
    if not record:
        return False
    layout = Layout(state, record["number"])
    _end(record)
    _ip("link", "delete", layout.name, check=False)  # else it goes a moment after its other end
    left = remove_cgroup(layout.cgroup)
    shutil.rmtree(state)
    if not _settings_of_others(state):
        restore_settings(record["settings"])
    if left:
        raise ClusterError(f"processes are still in these cgroups: {', '.join(map(str, left[:3]))}")
    return True


def processes(state: Path) -> dict[str, int]:
    """The ids, within their namespace, of the node's processes that run now, by name."""
    known: dict[str, int] = json.loads((state / "processes.json").read_text())
    return known


def kill_component(state: Path, name: str) -> None:
    """Kill a process of the node (etcd, kube-apiserver, …); its supervisor starts it again."""
    record = _read(state)
    supervisor = _supervisor(record) if record else None
    known = processes(state) if supervisor else {}
    if supervisor is None or name not in known:
        raise ClusterError(f"no process {name!r} is running; running are: {', '.join(known) or 'none'}")
    # The id is the one within the namespace, where it can be nobody else's.
    inner = supervisor.children()[0].pid
    subprocess.run(["nsenter", f"--target={inner}", "--pid", "kill", "-KILL", str(known[name])], check=True)


def _spawn(layout: Layout) -> subprocess.Popen[bytes]:
    command = ["unshare", *NAMESPACES, "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    command += [sys.executable, "-m", "tools.cluster.supervisor", str(layout.state)]
    with (layout.logs / "supervisor.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
        )


def _connect(layout: Layout, process: subprocess.Popen[bytes]) -> None:
    """Move one end of the link into the node's namespace, and route the cluster's addresses to it."""
    ours, theirs = Path("/proc/self/ns/net"), Path(f"/proc/{process.pid}/ns/net")
    deadline = time.monotonic() + STOP_SECONDS
    while process.poll() is None and theirs.readlink() == ours.readlink():
        if time.monotonic() > deadline:
            raise ClusterError("the node's namespaces were not made in time")
        time.sleep(0.01)
    if process.poll() is not None:
        raise ClusterError(f"the node ended while it started: {last_words(layout, 'supervisor')}")
    _ip("address", "add", f"{layout.machine}/32", "dev", layout.name)
    _ip("link", "set", layout.name, "up")
    _ip("link", "set", f"{layout.name}n", "netns", str(process.pid), "name", LINK)
    way = ["via", str(layout.node), "dev", layout.name, "onlink"]
    _ip("route", "add", str(layout.slice), *way, "src", str(layout.machine))


def last_words(layout: Layout, name: str) -> str:
    """The end of a process' log."""
    path = layout.logs / f"{name}.log"
    lines = path.read_text(errors="replace").strip().split("\n") if path.exists() else [""]
    return f"{lines[-1] or 'it said nothing'} (log: {path})"


def _claim_link(state: Path) -> Layout:
    """Make the link of the first number whose addresses nobody uses; its name belongs to one cluster only."""
    used = [IPv4Network(route["dst"]) for route in _routes() if route["dst"] != "default"]
    first = preferred_number(state)
    for offset in range(NUMBERS):
        layout = Layout(state, (first + offset) % NUMBERS)
        if any(network.overlaps(layout.slice) for network in used):
            continue
        if _ip("link", "add", layout.name, "type", "veth", "peer", "name", f"{layout.name}n", check=False):
            return layout
    raise ClusterError("no network is free for the cluster: see 'ip route'")


def _end(record: dict[str, Any]) -> None:
    """End the supervisor, and with it everything in its namespaces."""
    outer = _supervisor(record)
    if outer is None:
        return
    processes = [outer, *outer.children()]
    for process in processes[1:]:
        process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=STOP_SECONDS)


def _supervisor(record: dict[str, Any]) -> psutil.Process | None:
    """The process that holds the namespaces; None when it has ended, whoever has its id now."""
    try:
        process = psutil.Process(record["supervisor"]["pid"])
        if abs(process.create_time() - record["supervisor"]["started"]) < 2 and process.name() == "unshare":
            return process if process.status() != psutil.STATUS_ZOMBIE else None
    except (KeyError, psutil.NoSuchProcess):
        pass
    return None


def _settings_of_others(state: Path) -> dict[str, str]:
    """What another cluster found before it started: with one running, the settings of now are not the machine's."""
    for path in STATES.glob("*/cluster.json"):
        if path.parent != state and (record := _read(path.parent)) and _supervisor(record):
            return dict(record["settings"])
    return {}


def _routes() -> list[dict[str, Any]]:
    shown = subprocess.run(["ip", "-json", "-4", "route", "show", "table", "all"], capture_output=True, check=True)
    return [route for route in json.loads(shown.stdout) if route.get("type", "unicast") == "unicast"]


def _ip(*arguments: str, check: bool = True) -> bool:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise ClusterError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.returncode == 0


def _read(state: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((state / "cluster.json").read_text())
    except FileNotFoundError:
        return {}
    return record


def _write(state: Path, record: Mapping[str, Any]) -> None:
    new = state / "cluster.json.new"
    new.write_text(json.dumps(record, indent=1))
    new.rename(state / "cluster.json")
