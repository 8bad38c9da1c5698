"""Alerts and dashboard speak of metrics that scorers and the operator really tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from levada.engines.kubernetes.metrics import WRITES, reconciling
from levada.names import Kind
from levada.serving.metrics import Exposition, Metrics, VersionInfo
from levada.serving.recorder import RecorderState
from tests.support.chart import Chart, Document, named, of_kind

ON: Document = {
    "monitoring": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    }
}
_METRIC = re.compile(r"\b(?:levada_|process_)\w+|\blevada:[\w:]+")
_SELECTOR = re.compile(r"\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """The labels of every sample that a scorer or the operator tells, by the sample's name."""
    metrics = Metrics("flights", "team")
    metrics.of(1).add("v2", 200, 3, 0.01)
    metrics.refused[503] += 1
    metrics.rows_left_out["planes"] += 1
    version = VersionInfo(1, "flights-boosted", "sha256:0", 100, 0.0)
    with reconciling(Kind.DATASET):
        WRITES.labels("create", "Job").inc(0)
    text = Exposition(metrics, lambda: [version], RecorderState()).render().decode() + generate_latest().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


@pytest.fixture
def rules(chart: Chart) -> list[dict[str, Any]]:
    groups = named(chart.objects(ON), "PrometheusRule", "levada")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(chart: Chart) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard(chart)["panels"]
    return found


def dashboard(chart: Chart) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        named(chart.objects(ON), "ConfigMap", "levada-dashboard")["data"]["levada.json"]
    )
    return document


def expressions(chart: Chart, rules: list[dict[str, Any]]) -> Iterator[str]:
    yield from (rule["expr"] for rule in rules)
    yield from (target["expr"] for panel in panels(chart) for target in panel.get("targets", ()))


def test_x4_every_metric_of_alerts_and_dashboard_is_one_that_is_told(
    chart: Chart, rules: list[dict[str, Any]], told: dict[str, set[str]]
) -> None:
    recorded = {rule["record"] for rule in rules if "record" in rule}
    used = {metric for expression in expressions(chart, rules) for metric in _METRIC.findall(expression)}
    assert used <= told.keys() | recorded
    assert recorded & used  # a rule that nobody uses would be recorded in vain
    for variable in dashboard(chart)["templating"]["list"]:
        if variable["type"] == "query":
            assert set(_METRIC.findall(variable["query"]["query"])) <= told.keys()


def test_x4_every_label_of_alerts_and_dashboard_is_one_that_the_metrics_have(
    chart: Chart, rules: list[dict[str, Any]], told: dict[str, set[str]]
) -> None:
    known = set.union(*told.values()) | {"le", "pod"}
    for expression in expressions(chart, rules):
        inside = _SELECTOR.findall(expression)
        labels = {re.split("[=!]", pair.strip())[0] for one in inside for pair in one.split(",") if pair}
        labels |= {label.strip() for one in _GROUPING.findall(expression) for label in one.split(",")}
        assert labels <= known, expression


def test_x4_expressions_are_whole(chart: Chart, rules: list[dict[str, Any]]) -> None:
    for expression in expressions(chart, rules):
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression


def test_x4_every_alert_says_what_is_wrong_where_and_what_to_do(rules: list[dict[str, Any]]) -> None:
    alerts = [rule for rule in rules if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 0
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning")
        where = "{{ $labels.namespace }}/{{ $labels.deployment }}"
        assert where in rule["annotations"]["summary"] or "levada_operator_" in rule["expr"]
        assert rule["annotations"]["description"].endswith(".")
    assert any("levada_operator_" in rule["expr"] for rule in alerts)


def test_x4_scorers_are_scraped_in_every_namespace_or_in_the_chosen_ones(chart: Chart) -> None:
    everywhere = named(chart.objects(ON), "PodMonitor", "levada-scorers")
    assert everywhere["metadata"]["labels"]["release"] == "prometheus"
    assert everywhere["spec"]["namespaceSelector"] == {"any": True}
    assert everywhere["spec"]["podMetricsEndpoints"][0]["portNumber"] == 8080
    chosen = named(chart.objects(ON | {"namespaces": ["b", "a"]}), "PodMonitor", "levada-scorers")
    assert chosen["spec"]["namespaceSelector"] == {"matchNames": ["a", "b"]}


def test_x4_monitoring_is_not_asked_for_unless_it_is_switched_on(chart: Chart) -> None:
    objects = chart.objects()
    assert not of_kind(objects, "PodMonitor", "PrometheusRule")
    assert "levada-dashboard" not in {one["metadata"]["name"] for one in of_kind(objects, "ConfigMap")}
