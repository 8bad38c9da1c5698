"""`make bench`: every benchmark, one after the other; writes benchmarks/results.md.

`python -m benchmarks [NAME …]` runs some of them and prints what they measured without writing.
"""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.report import Report

NAMES = ("bench_pipeline", "bench_ingest", "bench_prepare", "bench_score", "bench_scores_copy", "serving.bench")


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


def main(names: list[str]) -> None:
    reports: list[Report] = []
    for name in names or NAMES:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        report = importlib.import_module(f"benchmarks.{name}").run()
        print(report.markdown(), flush=True)
        reports.append(report)
    if not names:
        head = f"# Results\n\nCommit {commit()}, {datetime.now(UTC):%Y-%m-%d}, on {machine()}.\n"
        head += f"Homes and scratch files lay on {file_system()}. "
        head += "Figures are min / median / max over the rounds; subject and twin take turns in the same run.\n"
        path = Path(__file__).parent / "results.md"
        path.write_text("\n".join([head, *(report.markdown() for report in reports)]))


if __name__ == "__main__":
    main(sys.argv[1:])
