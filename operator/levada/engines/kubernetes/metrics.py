"""What Prometheus is told of the operator: how much it reconciles and writes, what waits, and whether it is active."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server

from levada.names import Kind

RECONCILES = Counter("levada_operator_reconciles", "Reconciliations that have ended.", ["kind", "result"])
SECONDS = Histogram(
    "levada_operator_reconcile_seconds",
    "How long a reconciliation took.",
    ["kind"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
QUEUE = Gauge("levada_operator_queue_length", "Resources that wait for a worker.")
WRITES = Counter("levada_operator_api_writes", "Requests to the API server that write.", ["verb", "kind"])
LEADER = Gauge("levada_operator_leader", "1 while this replica is the active one.")


def serve(port: int) -> None:
    """Answer Prometheus at a port, on all addresses; 0: do not."""
    if port:
        start_http_server(port, registry=REGISTRY)


@contextmanager
def reconciling(kind: Kind) -> Iterator[None]:
    """Counts and times a reconciliation; its result is `success`, or what it raised."""
    result = "success"
    try:
        with SECONDS.labels(kind.value).time():
            yield
    except Exception as error:
        result = type(error).__name__
        raise
    finally:
        RECONCILES.labels(kind.value, result).inc()
