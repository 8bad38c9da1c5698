"""`make bench`: every benchmark, one after the other; writes benchmarks/results.md.

`python -m benchmarks [NAME …]` runs some of them, and replaces what stands there of these.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psutil

HEAD = """# Results

Figures are min / median / max over the rounds; subject and twin take turns in the same run. Goals are for the median.
"""
_SECTION = re.compile(r"^<!-- (.+) -->$", re.MULTILINE)
NAMES = ("bench_pipeline", "bench_ingest", "bench_prepare", "bench_score", "bench_scores_copy", "serving.bench")
CLUSTER = ("cluster.pipeline", "cluster.many")  # these want a cluster: make bench-cluster


def machine() -> str:
    """What this was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    )


def file_system() -> str:
    """On what homes and scratch files lay."""
    folder = os.path.realpath(tempfile.gettempdir())
    holding = [part for part in psutil.disk_partitions(all=True) if Path(folder).is_relative_to(part.mountpoint)]
    return max(holding, key=lambda part: len(part.mountpoint)).fstype if holding else "an unknown file system"


def commit() -> str:
    """The commit that was measured."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def sections(path: Path) -> dict[str, str]:
    """What was measured so far, by benchmark."""
    parts = _SECTION.split(path.read_text())[1:] if path.exists() else []
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def main(names: list[str]) -> None:
    path = Path(__file__).parent / "results.md"
    for name in names or NAMES:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        report = importlib.import_module(f"benchmarks.{name}").run()
        print(report.markdown(), flush=True)
        head, _, body = report.markdown().partition("\n")
        where = f"Commit {commit()}, {datetime.now(UTC):%Y-%m-%d}, on {machine()}; homes and scratch files on "
        where += f"{file_system()}."
        known = sections(path) | {name: f"{head}\n\n{where}\n{body}".strip()}
        found = [f"<!-- {name} -->\n{known[name]}\n" for name in (*NAMES, *CLUSTER) if name in known]
        path.write_text("\n".join([HEAD, *found]))


if __name__ == "__main__":
    main(sys.argv[1:])
