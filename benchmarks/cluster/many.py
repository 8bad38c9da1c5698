"""Many Datasets on a real cluster: 1,000 suspended and 200 that run, beside an operator that does next to nothing.

`KUBECONFIG=… python -m benchmarks cluster.many`, in a cluster of tools/cluster that has nothing else to do.

- rate: all 1,000 specs are changed while no operator runs; one is started, and a watch sees the first and the last
  status that has the new generation. Levada's operator and the twin (twin/twin.py, in the same image with the same
  limits, on the same Datasets) take turns.
- latency: one spec is changed; from the API server's answer to the watch's sight of its generation in the status.
- the 200: one step each; the operator counts its writes itself, and the watch tells whether each changed something.
- restart: the operator's pod is killed, and 50 specs are changed; until the last of them is level. A new pod waits
  until the Lease of the old one has run out (15 s).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from kubernetes import client, config

from benchmarks.cluster.installation import installed
from benchmarks.cluster.operators import Operator, levada, remove_twin, twin
from benchmarks.cluster.statuses import Sighting, Statuses
from benchmarks.report import Measured, Ratio, Report
from levada import names
from levada.names import PLURALS, Kind
from levada.stores.open import open_objects
from tests.e2e.cluster.installed import Installed

SUSPENDED, RUNNING = 1000, 200
ROUNDS, LATENCIES, RESTARTS, CHANGED = 3, 300, 3, 50
SETTLED_SECONDS, RUN_SECONDS = 300, 1800
WRITERS = 8  # threads that change specs


class Bench:
    """The Datasets of the team's namespace, and what is done to them."""

    def __init__(self, installed: Installed, custom: client.CustomObjectsApi, statuses: Statuses) -> None:
        self._installed = installed
        self._custom = custom
        self._statuses = statuses
        self._where = (names.GROUP, names.VERSION, installed.namespace, PLURALS[Kind.DATASET])
        self._random = random.Random(4)
        self.suspended = [f"suspended-{number:04}" for number in range(SUSPENDED)]
        self.running = [f"running-{number:03}" for number in range(RUNNING)]

    def make(self, names: Iterable[str], *, suspend: bool) -> None:
        documents = [_dataset(name, suspend=suspend) for name in names]
        self._each(lambda document: self._custom.create_namespaced_custom_object(*self._where, document), documents)

    def remove_all(self) -> None:
        """In one request: kubectl would make one for each, and allow itself only a few a second."""
        self._custom.delete_collection_namespaced_custom_object(*self._where)

    def change(self, name: str) -> int:
        """Change a spec in a field that a suspended Dataset does nothing about; its generation then."""
        seen = self._statuses.of(name)[-1]
        body = {"spec": {"retries": seen.generation % 20}}
        answer: Any = self._custom.patch_namespaced_custom_object(*self._where, name, body)
        return int(answer["metadata"]["generation"])

    def change_all(self, names: list[str]) -> dict[str, int]:
        return dict(zip(names, self._each(self.change, names), strict=True))

    def rate(self, operator: Operator) -> float:
        """Statuses a second of an operator that finds every spec changed."""
        generations = self.change_all(self.suspended)
        operator.start()
        try:
            self._wait(generations, SETTLED_SECONDS)
        finally:
            operator.end()
        times = [self._statuses.level_at(name, generation) for name, generation in generations.items()]
        return (len(times) - 1) / (max(times) - min(times))

    def latencies(self) -> list[float]:
        """Seconds from the change of a spec to its generation in the status, one after the other."""
        found = []
        for _ in range(LATENCIES):
            name = self._random.choice(self.suspended)
            generation = self.change(name)
            changed = time.monotonic()
            self._wait({name: generation}, 60)
            found.append(max(0.0, self._statuses.level_at(name, generation) - changed))
        return found

    def restart(self, operator: Operator) -> float:
        """Seconds until an operator that was killed is level with what was changed meanwhile."""
        killed = time.monotonic()
        operator.replace()
        generations = self.change_all(self._random.sample(self.suspended, CHANGED))
        self._wait(generations, SETTLED_SECONDS)
        return max(self._statuses.level_at(name, g) for name, g in generations.items()) - killed

    def settle(self) -> None:
        self._statuses.wait(self.suspended, lambda sighting: sighting.is_level, SETTLED_SECONDS)

    def run_all(self) -> float:
        """Seconds until the running Datasets have run."""
        started = time.monotonic()
        self.make(self.running, suspend=False)
        self._statuses.wait(self.running, lambda sighting: sighting.is_ready, RUN_SECONDS)
        return time.monotonic() - started

    def useless_writes(self) -> int:
        """Statuses of the running Datasets that were written and said nothing new."""
        return sum(len(_statuses(self._statuses.of(name))) - _changes(self._statuses.of(name)) for name in self.running)

    def pods(self) -> int:
        return len(self._installed.pods("levada.dev/kind=Dataset"))

    def _wait(self, generations: dict[str, int], seconds: float) -> None:
        for name, generation in generations.items():
            self._statuses.wait([name], lambda s, wanted=generation: s.is_level and s.generation == wanted, seconds)  # type: ignore[misc]

    def _each(self, do: Any, things: Iterable[Any]) -> list[Any]:
        with ThreadPoolExecutor(WRITERS) as pool:
            return list(pool.map(do, things))


def _statuses(sightings: list[Sighting]) -> list[str]:
    return [json.dumps(sighting.status, sort_keys=True) for sighting in sightings if sighting.status]


def _changes(sightings: list[Sighting]) -> int:
    texts = _statuses(sightings)
    return sum(before != after for before, after in zip(["", *texts], texts, strict=False))


def _dataset(name: str, *, suspend: bool) -> dict[str, Any]:
    spec = {
        "source": {"type": "object", "object": {"uri": "./small.csv"}},
        "format": {"type": "csv"},
        "suspend": suspend,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    }
    return {"apiVersion": names.API_VERSION, "kind": "Dataset", "metadata": {"name": name}, "spec": spec}


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def run() -> Report:
    config.load_kube_config()
    custom = client.CustomObjectsApi()
    report = Report("Many Datasets on a cluster")
    with installed() as there, ExitStack() as ending:
        open_objects(there.settings()).put(f"sources/{there.namespace}/small.csv", b"a,b\n1,2\n3,4\n")
        ending.callback(remove_twin, there)
        operator, other = levada(there), twin(there)
        statuses = ending.enter_context(Statuses(custom, there.namespace))
        bench = Bench(there, custom, statuses)
        ending.callback(bench.remove_all)
        _measure(report, bench, operator, other)
    return report


def _measure(report: Report, bench: Bench, operator: Operator, other: Operator) -> None:
    operator.end()  # it may have seen more before
    operator.start()
    empty = operator.resident()
    bench.make(bench.suspended, suspend=True)
    bench.settle()
    with_suspended = operator.resident()
    report.add(Measured("change of a spec to its generation in the status, s, each", latencies := bench.latencies()))
    report.add(Measured("… 99th percentile", [_p99(latencies)], "< 1"))

    before, took = operator.writes(), bench.run_all()
    after = operator.writes()
    written = {what: number - before.get(what, 0.0) for what, number in after.items()}
    full = operator.resident()
    report.add(Measured(f"{RUNNING} Datasets applied at once until all are ready, s", [took]))
    report.add(Measured("API writes for each of them", [sum(written.values()) / RUNNING], "≤ 3: 2 and its Job"))
    report.add(Measured("… pods", [bench.pods() / RUNNING], "1"))
    report.add(Measured("… statuses written that said nothing new", [bench.useless_writes() / RUNNING], "0"))
    report.add(Measured("operator without resources, MB", [empty / 1e6]))
    report.add(Measured(f"operator with {SUSPENDED} suspended, MB", [with_suspended / 1e6]))
    report.add(Measured(f"operator with these and {RUNNING} that ran, MB", [full / 1e6], "≤ 300"))
    report.add(Measured("… KB a resource", [(full - empty) / 1e3 / (SUSPENDED + RUNNING)], "≤ 30"))

    restarts = [bench.restart(operator) for _ in range(RESTARTS)]
    report.add(Measured("killed operator until it is level, s", restarts, "< 60"))

    operator.end()
    rates = list(_rates(bench, operator, other))
    report.add(Ratio(f"statuses a second, {SUSPENDED} specs changed", rates, "≥ 0.5"))
    operator.start()
    report.notes.append(f"Writes of the {RUNNING}: {_listed(written)}.")


def _rates(bench: Bench, operator: Operator, other: Operator) -> Iterator[tuple[float, float]]:
    for number in range(ROUNDS):
        if number % 2:
            beside = bench.rate(other)
            yield bench.rate(operator), beside
        else:
            yield bench.rate(operator), bench.rate(other)


def _listed(written: dict[tuple[str, str], float]) -> str:
    return ", ".join(f"{verb} {kind} {number:.0f}" for (verb, kind), number in sorted(written.items()) if number)


def main() -> None:
    print(run().markdown())


if __name__ == "__main__":
    main()
