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
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.bench_pipeline import FLIGHTS, levada_run
from benchmarks.cluster.installation import installed
from benchmarks.report import Measured, Ratio, Report
from tests.e2e.cluster.installed import Document, Installed
from tests.support.waiting import until

ROUNDS = 3
SCORERS = "levada.dev/kind=Deployment"
ALLOWED, ALLOWED_A_POD = 1.3, 4.0  # times the local engine, and seconds


@dataclass(frozen=True)
class Passed:
    """A run of the pipeline on the cluster."""

    seconds: float
    pods: int
    scorer: float  # seconds from its pod's start to its being ready, which the kubelet tells in whole ones


def on_the_cluster(there: Installed) -> Passed:
    there.clear()
    there.forget()
    started = time.perf_counter()
    there.run("apply", "-f", str(FLIGHTS))
    there.wait("mdep/flights-late", "Ready", 300)
    there.wait("srun/flights-test", "Complete", 300)
    took = time.perf_counter() - started
    (scorer,) = there.pods(SCORERS)
    return Passed(took, len(there.pods("levada.dev/kind")), start_to_ready(scorer))


def begun_anew(there: Installed) -> float:
    """Seconds from start to ready of a scorer's pod that has the node to itself."""
    for pod in there.pods(SCORERS):
        there.run("delete", "pod", pod["metadata"]["name"], "--wait")
    there.wait("mdep/flights-late", "Ready", 120)
    return start_to_ready(until(lambda: next(filter(is_ready, there.pods(SCORERS)), None)))


def is_ready(pod: Document) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def start_to_ready(pod: Document) -> float:
    """Seconds, the storage initializer's included."""
    status = pod["status"]
    ready = next(c for c in status["conditions"] if c["type"] == "Ready" and c["status"] == "True")
    started = datetime.fromisoformat(status["startTime"])
    return (datetime.fromisoformat(ready["lastTransitionTime"]) - started).total_seconds()


def locally() -> float:
    """Seconds of the local engine, its servers' start included."""
    with tempfile.TemporaryDirectory(prefix="levada-bench-") as folder:
        return levada_run(Path(folder) / "home")


def run() -> Report:
    subprocess.run([sys.executable, FLIGHTS.parent / "data.py", "flights"], check=True, timeout=120)
    report = Report("The flights pipeline on a cluster")
    passed, local = [], []
    locally()
    with installed() as there:
        there.upload(FLIGHTS)
        on_the_cluster(there)
        for _ in range(ROUNDS):
            local.append(locally())
            passed.append(on_the_cluster(there))
        alone = [begun_anew(there) for _ in range(ROUNDS)]
    rounds = list(zip(passed, local, strict=True))
    allowed = [(one.seconds, ALLOWED * seconds + ALLOWED_A_POD * one.pods) for one, seconds in rounds]
    report.add(Ratio("flights on the cluster against the local engine, s", [(p.seconds, s) for p, s in rounds]))
    report.add(Measured("… pods", [one.pods for one in passed]))
    report.add(Measured("… the scorer's pod from its start to ready, beside a step, s", [one.scorer for one in passed]))
    report.add(Measured("a scorer's pod from its start to ready, alone, s", alone, "≤ 5"))
    report.add(Ratio(f"… against {ALLOWED} × the local engine + {ALLOWED_A_POD:g} s a pod, s", allowed, "≤ 1"))
    return report


if __name__ == "__main__":
    print(run().markdown())
