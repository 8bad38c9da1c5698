"""What the operator tells Prometheus."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from levada.engines.local.embedded import free_ports
from levada.names import Kind
from tests.support.space import Space, land, pipeline
from tests.support.waiting import until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Samples:
    """Samples by name and labels; none while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except urllib.error.URLError:
        return {}
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"levada_operator_{name}", frozenset(labels.items())))


def test_x4_the_operator_tells_what_it_does(empty_space: Space, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    space = empty_space
    space.settings |= {"LEVADA_METRICS_PORT": str(port), "LEVADA_LEASE_NAMESPACE": space.namespace}
    land(space, tmp_path)
    space.start()
    until(lambda: value(scrape(port), "leader") == 1, space.operator)
    space.apply(*[d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops"])
    space.wait(Kind.DATASET, "shops", "Ready")

    samples = until(lambda: s if value(s := scrape(port), "queue_length") == 0 else None)

    # The Job's own, and what is said of the resource: that it runs, and that it is done.
    assert value(samples, "api_writes_total", verb="create", kind="Job") == 1
    assert value(samples, "api_writes_total", verb="status", kind="Dataset") == 2
    writes = sum(number for (name, _), number in samples.items() if name == "levada_operator_api_writes_total")
    assert writes == 3
    done = value(samples, "reconciles_total", kind="Dataset", result="success")
    assert done is not None
    assert done >= 2
    assert value(samples, "reconcile_seconds_count", kind="Dataset") == sum(
        number for (name, _), number in samples.items() if name == "levada_operator_reconciles_total"
    )
