"""Nothing is reported to anybody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOADS_THE_RUNTIME = """
import os
import levada.features.model
print(os.environ["ORT_DISABLE_TELEMETRY"], len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in Linux' /proc")
def test_x3_the_model_runtime_is_told_to_report_nothing_before_it_is_loaded() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", LOADS_THE_RUNTIME]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["1", "1"]  # its uploader would be a second thread
