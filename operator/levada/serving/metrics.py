"""Counters of the scorer, and how Prometheus sees them.

The hot path adds to plain numbers, which costs less than prometheus_client's own counters; a collector turns them into
metric families when somebody asks.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from levada.serving.recorder import RecorderState

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds in seconds."""
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class VersionCounters:
    """What one version has done. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: Counter[tuple[str, int]] = Counter()  # by protocol and HTTP status
        self.rows = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)

    def add(self, protocol: str, status: int, rows: int, seconds: float) -> None:
        """Count a request. Its time goes into the histogram if it was answered."""
        with self._lock:
            self.requests[protocol, status] += 1
            if status == 200:
                self.rows += rows
                self.seconds += seconds
                self.buckets[bisect_left(BUCKETS, seconds)] += 1


@dataclass(frozen=True)
class VersionInfo:
    """A version as metrics and the engine see it."""

    version: int
    candidate: str
    digest: str
    weight: int
    loaded_at: float


@dataclass
class Metrics:
    """All counters of a scorer."""

    deployment: str
    namespace: str
    versions: dict[int, VersionCounters] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)  # by HTTP status: requests that reached no version
    reloads_failed: int = 0
    rows_left_out: Counter[str] = field(default_factory=Counter)  # of the online store, by feature set

    def of(self, version: int) -> VersionCounters:
        """The counters of a version, which live as long as the process."""
        return self.versions.setdefault(version, VersionCounters())


class Exposition:
    """Renders the metrics."""

    def __init__(
        self, metrics: Metrics, serving: Callable[[], Iterable[VersionInfo]], recorder: RecorderState | None
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Scorer(metrics, serving, recorder))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class _Scorer(Collector):
    def __init__(
        self, metrics: Metrics, serving: Callable[[], Iterable[VersionInfo]], recorder: RecorderState | None
    ) -> None:
        self._metrics = metrics
        self._serving = serving
        self._recorder = recorder
        self._identity = [metrics.namespace, metrics.deployment]

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._versions()
        if self._recorder is not None:
            yield from self._recording(self._recorder)

    def _requests(self) -> Iterator[Metric]:
        requests = self._counter(
            "requests", "Requests by version, protocol and HTTP status.", "version", "protocol", "code"
        )
        rows = self._counter("rows", "Rows scored.", "version")
        seconds = HistogramMetricFamily(
            "levada_scorer_request_seconds",
            "Time from a whole request to its answer, of those answered with 200.",
            labels=["namespace", "deployment", "version"],
        )
        for version, counters in sorted(self._metrics.versions.items()):
            labels = [*self._identity, str(version)]
            for (protocol, status), count in sorted(counters.requests.items()):
                requests.add_metric([*labels, protocol, str(status)], count)
            rows.add_metric(labels, counters.rows)
            total, buckets = 0, []
            for bound, count in zip([*map(str, BUCKETS), "+Inf"], counters.buckets, strict=True):
                total += count
                buckets.append((bound, total))
            seconds.add_metric(labels, buckets, counters.seconds)
        refused = self._counter("refused", "Requests that reached no version, by HTTP status.", "code")
        for status, count in sorted(self._metrics.refused.items()):
            refused.add_metric([*self._identity, str(status)], count)
        yield from (requests, rows, seconds, refused)

    def _versions(self) -> Iterator[Metric]:
        info = self._gauge("model_info", "Versions that are served.", "version", "candidate", "digest")
        weight = self._gauge("weight", "Percent of the requests that name no version.", "version")
        since = self._gauge("loaded_timestamp_seconds", "When a version was loaded.", "version")
        for version in self._serving():
            labels = [*self._identity, str(version.version)]
            info.add_metric([*labels, version.candidate, version.digest], 1)
            weight.add_metric(labels, version.weight)
            since.add_metric(labels, version.loaded_at)
        failed = self._counter("reloads_failed", "Attempts to load a set of versions that failed.")
        failed.add_metric(self._identity, self._metrics.reloads_failed)
        left_out = self._counter(
            "online_rows_left_out", "Rows of the online store that do not fit a lookup.", "feature_set"
        )
        for feature_set, count in sorted(self._metrics.rows_left_out.items()):
            left_out.add_metric([*self._identity, feature_set], count)
        yield from (info, weight, since, failed, left_out)

    def _recording(self, state: RecorderState) -> Iterator[Metric]:
        figures: tuple[CounterMetricFamily | GaugeMetricFamily, ...] = (
            self._counter("scores_recorded", "Scores written to the catalogue."),
            self._counter("scores_dropped", "Scores lost: neither recorded nor spooled, or refused by the catalogue."),
            self._gauge("scores_waiting", "Scores in memory that are not yet recorded."),
            self._gauge("scores_spooled", "Scores on disk that are not yet recorded."),
            self._gauge("catalogue_away", "1 while the catalogue does not take scores."),
        )
        values = (state.recorded, state.dropped, state.waiting, state.spooled, float(state.catalogue_away))
        for family, value in zip(figures, values, strict=True):
            family.add_metric(self._identity, value)
            yield family

    def _counter(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"levada_scorer_{name}", text, labels=["namespace", "deployment", *labels])

    def _gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"levada_scorer_{name}", text, labels=["namespace", "deployment", *labels])
