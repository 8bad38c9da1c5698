"""What a watch sees of the Datasets of a namespace: when each status came, and of which generation it was."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client, watch

from levada import names
from levada.names import PLURALS, Kind
from tests.e2e.pipelines import condition


@dataclass(frozen=True)
class Sighting:
    """A state of a Dataset; `at`: seconds of the monotonic clock."""

    at: float
    version: str  # resourceVersion
    generation: int
    status: dict[str, Any]

    @property
    def is_level(self) -> bool:
        """Whether the status is about the spec."""
        return self.status.get("observedGeneration") == self.generation

    @property
    def is_ready(self) -> bool:
        return self.is_level and condition({"status": self.status}, "Ready").get("status") == "True"


class Statuses:
    """A watch of the Datasets of a namespace, until the block ends."""

    def __init__(self, custom: client.CustomObjectsApi, namespace: str) -> None:
        self._custom = custom
        self._where = (names.GROUP, names.VERSION, namespace, PLURALS[Kind.DATASET])
        self._watch = watch.Watch()
        self._ended = False
        self._seen: defaultdict[str, list[Sighting]] = defaultdict(list)
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Statuses:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._watch.stop()
        self._thread.join(5)

    def of(self, name: str) -> list[Sighting]:
        """All that was seen of a Dataset, oldest first."""
        with self._news:
            return list(self._seen[name])

    def level_at(self, name: str, generation: int) -> float:
        """When the status of a generation was first seen."""
        return next(s.at for s in self.of(name) if s.is_level and s.generation == generation)

    def wait(self, names: Iterable[str], is_so: Callable[[Sighting], bool], seconds: float) -> None:
        """Wait until something is so of each of these Datasets as it was last seen. Raises TimeoutError."""
        missing, deadline = set(names), time.monotonic() + seconds
        with self._news:
            while missing := {name for name in missing if not self._seen[name] or not is_so(self._seen[name][-1])}:
                if not self._news.wait(deadline - time.monotonic()):
                    some = sorted(missing)[:3]
                    raise TimeoutError(f"{len(missing)} Datasets are not settled: {[self._seen[n][-1:] for n in some]}")

    def _run(self) -> None:
        while not self._ended:
            with suppress(urllib3.exceptions.HTTPError, client.ApiException):  # begun anew, from what there is then
                for event in self._watch.stream(self._custom.list_namespaced_custom_object, *self._where):
                    self._see(event["object"])

    def _see(self, document: dict[str, Any]) -> None:
        metadata = document["metadata"]
        version, generation = metadata["resourceVersion"], metadata["generation"]
        with self._news:
            seen = self._seen[metadata["name"]]
            if not seen or seen[-1].version != version:
                seen.append(Sighting(time.monotonic(), version, generation, document.get("status") or {}))
                self._news.notify_all()
