"""The connections that the components really make are allowed by the NetworkPolicies, and others are not."""

from __future__ import annotations

from typing import Any

import pytest

from levada import names
from tests.support.chart import EXISTING, NAMESPACED, Chart, named, of_kind, pod_templates
from tests.support.network import End, Outside, Pod, allowed
from tests.unit.kubernetes.test_jobs import made

OUTSIDE = Outside("203.0.113.7")
STORES = {"levada-minio": 9000, "levada-postgres": 5432, "levada-nats": 4222}
STEP = made()["spec"]["template"]["metadata"]["labels"]  # as the engine labels the pods of a step
# KServe hands the labels of an InferenceService down to its pods.
SCORER = {names.LABEL_KIND: "Deployment", names.LABEL_NAME: "flights", "component": "predictor"}


class Network:
    """The pods of an installation, and what its policies let them do."""

    def __init__(self, objects: list[dict[str, Any]], workload: str = "levada") -> None:
        self._policies = of_kind(objects, "NetworkPolicy")
        self._pods = {name: Pod("levada", t["metadata"]["labels"]) for name, t in pod_templates(objects)}
        self._pods["step"] = Pod(workload, STEP)
        self._pods["scorer"] = Pod(workload, SCORER)
        self._pods["stranger"] = Pod(workload, {"app": "else"})

    def end(self, who: str | End) -> End:
        return self._pods[who] if isinstance(who, str) else who

    def may(self, source: str | End, target: str | End, port: int, protocol: str = "TCP") -> bool:
        return allowed(self._policies, self.end(source), self.end(target), port, protocol)


@pytest.fixture(params=[({}, "levada"), ({"workloadNamespaces": ["team-a"]}, "team-a"), (NAMESPACED, "team-a")])
def network(chart: Chart, request: pytest.FixtureRequest) -> Network:
    values, workload = request.param
    return Network(chart.objects(values), workload)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("source", ["levada-operator", "levada-check", "step", "scorer"])
def test_k8s2_each_component_reaches_each_store_at_its_port_only(network: Network, source: str, store: str) -> None:
    assert network.may(source, store, STORES[store])
    assert not network.may(source, store, 22)


@pytest.mark.parametrize("source", ["levada-operator", "step", "scorer"])
def test_k8s2_names_are_resolved(network: Network, source: str) -> None:
    assert network.may(source, OUTSIDE, 53, "UDP")
    assert network.may(source, OUTSIDE, 53)


def test_k8s2_the_operator_reaches_the_api_server_and_nothing_else_outside(network: Network) -> None:
    assert network.may("levada-operator", OUTSIDE, 443)
    assert network.may("levada-operator", OUTSIDE, 6443)
    assert not network.may("levada-operator", OUTSIDE, 80)


def test_k8s2_anyone_may_ask_a_scorer_and_it_asks_nobody_but_the_stores(network: Network) -> None:
    assert network.may("stranger", "scorer", 8080)
    assert network.may(OUTSIDE, "scorer", 8080)
    assert not network.may("stranger", "scorer", 9090)
    assert not network.may("scorer", OUTSIDE, 443)
    assert not network.may("scorer", "step", 8080)


def test_k8s2_steps_reach_sources_over_https_and_nobody_reaches_a_step(network: Network) -> None:
    assert network.may("step", OUTSIDE, 443)
    assert not network.may("step", OUTSIDE, 80)
    for source in ("stranger", "scorer", "levada-operator"):
        assert not network.may(source, "step", 8080)


@pytest.mark.parametrize("target", ["levada-operator", *STORES])
def test_k8s2_a_stranger_reaches_neither_operator_nor_stores(network: Network, target: str) -> None:
    for stranger in ("stranger", Pod("levada", {"app": "else"}), OUTSIDE):
        for port in (8080, *STORES.values()):
            assert not network.may(stranger, target, port)


@pytest.mark.parametrize("store", STORES)
def test_k8s2_a_store_begins_no_connection(network: Network, store: str) -> None:
    for target, port in (("levada-operator", 8080), ("stranger", 80), (OUTSIDE, 443), (OUTSIDE, 53)):
        assert not network.may(store, target, port)


def test_k8s2_a_namespace_that_was_not_chosen_does_not_reach_the_stores(chart: Chart) -> None:
    other = Pod("team-c", STEP)
    chosen, everywhere = Network(chart.objects(NAMESPACED), "team-a"), Network(chart.objects())
    for store, port in STORES.items():
        assert not chosen.may(other, store, port)
        assert everywhere.may(other, store, port)
        assert not everywhere.may(other, store, 22)  # though nothing holds it back where it is


def test_k8s2_what_may_be_reached_is_the_users_to_say(chart: Chart) -> None:
    values = {
        "networkPolicies": {
            "sources": [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 1433}]}],
            "scorerClients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}],
        }
    }
    network = Network(chart.objects(values))
    assert network.may("step", OUTSIDE, 1433)
    assert not network.may("step", Outside("198.51.100.1"), 1433)
    assert not network.may("step", OUTSIDE, 443)
    assert network.may(Pod("shop"), "scorer", 8080)
    assert not network.may("stranger", "scorer", 8080)


@pytest.mark.parametrize(
    "values",
    [EXISTING | {"postgres": {"enabled": False}}, {"postgres": {"enabled": False, "existingSecret": "mine"}}],
    ids=["secret of all", "own secret"],
)
def test_k8s2_stores_of_ones_own_are_reached_outside(chart: Chart, values: dict[str, Any]) -> None:
    network = Network(chart.objects(values))
    for source in ("levada-operator", "step", "scorer"):
        assert network.may(source, OUTSIDE, 5432)
        assert network.may(source, "levada-minio", 9000)


def test_k8s2_network_policies_can_be_left_out(chart: Chart) -> None:
    objects = chart.objects({"networkPolicies": {"enabled": False}})
    assert not of_kind(objects, "NetworkPolicy")
    assert named(objects, "Deployment", "levada-operator")
