"""The flights pipeline on a real cluster against the local engine: what Jobs, pods and KServe cost.

`KUBECONFIG=… python -m benchmarks cluster.pipeline`, in a cluster of tools/cluster that has nothing else to do.

Warm: the raw files are uploaded, and the operator runs; from `kubectl apply` until the Deployment serves and the
ScoringRun is complete. Each round starts from nothing that was made. The twin is `levada run` on the same files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench_pipeline import FLIGHTS, levada_run
from benchmarks.cluster.installation import installed
from benchmarks.report import Measured, Ratio, Report
from tests.e2e.cluster.installed import Installed

ROUNDS = 3
ALLOWED, ALLOWED_A_POD = 1.3, 4.0  # times the local engine, and seconds


def on_the_cluster(there: Installed) -> tuple[float, int]:
    """Seconds, and how many pods there were."""
    there.clear()
    there.forget()
    started = time.perf_counter()
    there.run("apply", "-f", str(FLIGHTS))
    there.wait("mdep/flights-late", "Ready", 300)
    there.wait("srun/flights-test", "Complete", 300)
    took = time.perf_counter() - started
    return took, len(there.pods("levada.dev/kind"))


def locally() -> float:
    """Seconds of the local engine, its servers' start included."""
    with tempfile.TemporaryDirectory(prefix="levada-bench-") as folder:
        return levada_run(Path(folder) / "home")


def run() -> Report:
    subprocess.run([sys.executable, FLIGHTS.parent / "data.py", "flights"], check=True, timeout=120)
    report = Report("The flights pipeline on a cluster")
    rounds, pods = [], []
    locally()
    with installed() as there:
        there.upload(FLIGHTS)
        on_the_cluster(there)
        for _ in range(ROUNDS):
            local = locally()
            took, number = on_the_cluster(there)
            rounds.append((took, local))
            pods.append(float(number))
    allowed = [(took, ALLOWED * local + ALLOWED_A_POD * n) for (took, local), n in zip(rounds, pods, strict=True)]
    report.add(Ratio("flights on the cluster against the local engine, s", rounds))
    report.add(Measured("… pods", pods))
    report.add(Ratio(f"… against {ALLOWED} × the local engine + {ALLOWED_A_POD:g} s a pod, s", allowed, "≤ 1"))
    return report


if __name__ == "__main__":
    print(run().markdown())
