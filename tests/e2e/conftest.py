"""The flights example takes longest of all: it is run once for all tests that look at what comes of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Demo:
    """`make demo` without a terminal, with its home in a folder, and what came of it the first time."""

    folder: Path
    first: subprocess.CompletedProcess[str]

    @property
    def home(self) -> Path:
        return self.folder / ".levada/flights"

    def again(self) -> subprocess.CompletedProcess[str]:
        return _demo(self.folder)


def _demo(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, run. Tests that use it are of the xdist group `flights`."""
    folder = tmp_path_factory.mktemp("demo")
    return Demo(folder, _demo(folder))
