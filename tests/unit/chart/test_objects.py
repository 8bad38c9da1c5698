"""What the chart makes: who runs as what, with which passwords, in which namespaces."""

from __future__ import annotations

import re
from base64 import b64decode
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from levada.settings import Settings, from_environment
from tests.support.chart import NAMESPACED, Chart, Document, named, of_kind, pod_templates
from tools.chart import ROOT


def secret(objects: list[Document], name: str, namespace: str) -> dict[str, str]:
    data = named(objects, "Secret", name, namespace)["data"]
    return {key: b64decode(value).decode() for key, value in data.items()}


def environment(container: Document) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


def test_k8s2_every_pod_is_restricted_and_cannot_write_to_its_image(chart: Chart) -> None:
    objects = chart.objects()
    templates = [template["spec"] for _, template in pod_templates(objects)]
    runtime = named(objects, "ClusterServingRuntime", "levada-scorer")["spec"]
    assert len(templates) == 5
    for spec in templates:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["enableServiceLinks"] is False
    for container in chain.from_iterable(spec["containers"] for spec in [*templates, runtime]):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]


def test_k8s2_only_the_operator_gets_a_token_of_the_api_server(chart: Chart) -> None:
    objects = chart.objects()
    assert all(account["automountServiceAccountToken"] is False for account in of_kind(objects, "ServiceAccount"))
    with_token = {n for n, template in pod_templates(objects) if template["spec"]["automountServiceAccountToken"]}
    assert with_token == {"levada-operator", "levada-check"}


@pytest.mark.parametrize("values", [{}, NAMESPACED], ids=["clusterwide", "namespaced"])
def test_k8s2_only_the_operator_has_rights_and_none_is_a_wildcard(chart: Chart, values: Document) -> None:
    objects = chart.objects(values)
    subjects = [s for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding") for s in binding["subjects"]]
    assert {(s["kind"], s["name"], s["namespace"]) for s in subjects} == {
        ("ServiceAccount", "levada-operator", "levada")
    }
    rules = [rule for role in of_kind(objects, "Role", "ClusterRole") for rule in role["rules"]]
    assert not [rule for rule in rules if "*" in str(rule)]
    assert not [rule for rule in rules if "secrets" in rule["resources"]]


def test_k8s2_chosen_namespaces_get_roles_and_the_cluster_gets_none_for_the_operator(chart: Chart) -> None:
    objects = chart.objects(NAMESPACED)
    assert not of_kind(objects, "ClusterRoleBinding", "ClusterServingRuntime")
    assert {role["metadata"]["name"] for role in of_kind(objects, "ClusterRole")} == {"levada-view", "levada-edit"}
    for kind, name in [("Role", "levada-operator"), ("RoleBinding", "levada-operator"), ("Secret", "levada-stores")]:
        for namespace in ("team-a", "team-b"):
            assert named(objects, kind, name, namespace)
    runtimes = of_kind(objects, "ServingRuntime")
    assert {runtime["metadata"]["namespace"] for runtime in runtimes} == {"team-a", "team-b"}
    (operator,) = named(objects, "Deployment", "levada-operator")["spec"]["template"]["spec"]["containers"]
    assert environment(operator)["LEVADA_NAMESPACES"] == "team-b,team-a"


def test_x3_every_namespace_has_the_same_settings_of_the_stores_and_they_are_what_levada_reads(chart: Chart) -> None:
    objects = chart.objects({"workloadNamespaces": ["team-a", "team-b"]})
    here = secret(objects, "levada-stores", "levada")
    assert secret(objects, "levada-stores", "team-a") == secret(objects, "levada-stores", "team-b") == here
    settings = from_environment(here)
    assert settings.objects_endpoint == "http://levada-minio.levada.svc:9000"
    assert settings.objects_bucket == "levada"
    dsn = urlsplit(settings.postgres_dsn.get_secret_value())
    assert (dsn.hostname, dsn.username, dsn.path) == ("levada-postgres.levada.svc", "levada", "/levada")
    assert dsn.password == here["LEVADA_POSTGRES_PASSWORD"]
    assert settings.nats_url == "nats://levada-nats.levada.svc:4222"
    assert settings.nats_user == "levada"
    passwords = {
        dsn.password,
        settings.nats_password.get_secret_value(),
        settings.objects_secret_key.get_secret_value(),
    }
    assert len(passwords) == 3
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9]{31}", str(password)) for password in passwords)
    assert here.keys() - {"LEVADA_POSTGRES_PASSWORD"} <= {f"LEVADA_{name}".upper() for name in Settings.model_fields}
    for namespace in ("team-a", "team-b"):
        models = secret(objects, "levada-models", namespace)
        assert models["AWS_ACCESS_KEY_ID"] == here["LEVADA_OBJECTS_ACCESS_KEY"]
        assert models["AWS_SECRET_ACCESS_KEY"] == here["LEVADA_OBJECTS_SECRET_KEY"]


def test_x3_the_secrets_that_the_page_shows_have_the_keys_of_those_that_the_chart_makes(chart: Chart) -> None:
    page = (ROOT / "docs/install.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    stores, models = (yaml.safe_load(text) for text in blocks if "kind: Secret" in text)
    made = chart.objects()
    own = secret(made, "levada-stores", "levada").keys() - {"LEVADA_POSTGRES_PASSWORD"}  # only for the bundled server
    assert stores["stringData"].keys() == own
    example = named(made, "Secret", "levada-models")
    assert models["stringData"].keys() == example["data"].keys()
    assert models["metadata"]["annotations"].keys() == example["metadata"]["annotations"].keys()


def test_k8s2_the_secret_that_opens_the_volumes_outlives_an_uninstall_as_they_do(chart: Chart) -> None:
    objects = chart.objects({"workloadNamespaces": ["team-a"]})
    keep = {"helm.sh/resource-policy": "keep"}
    assert named(objects, "Secret", "levada-stores", "levada")["metadata"]["annotations"] == keep
    assert "annotations" not in named(objects, "Secret", "levada-stores", "team-a")["metadata"]


@pytest.mark.parametrize("replicas", [1, 2])
def test_k8s2_a_disruption_budget_never_holds_up_a_drain(chart: Chart, replicas: int) -> None:
    budgets = of_kind(chart.objects({"operator": {"replicas": replicas}}), "PodDisruptionBudget")
    assert [budget["spec"]["maxUnavailable"] for budget in budgets] == [1] * (replicas > 1)


def test_k8s2_an_operator_ends_before_the_next_one_begins(chart: Chart) -> None:
    assert named(chart.objects(), "Deployment", "levada-operator")["spec"]["strategy"] == {"type": "Recreate"}


def test_x3_every_setting_that_the_operator_gets_is_one_that_it_has(chart: Chart) -> None:
    (operator,) = named(chart.objects(), "Deployment", "levada-operator")["spec"]["template"]["spec"]["containers"]
    given = {name for name in environment(operator) if name.startswith("LEVADA_")}
    assert given <= {f"LEVADA_{name}".upper() for name in Settings.model_fields}
    settings = from_environment({n: v for n, v in environment(operator).items() if isinstance(v, str)})
    assert settings.steps_image == "docker.io/levada/steps:0.1.0"
    assert settings.liveness == "http://0.0.0.0:8080/healthz"


def test_k8s2_a_new_version_of_the_chart_does_not_restart_the_stores(chart: Chart) -> None:
    for name, template in pod_templates(of_kind(chart.objects(), "StatefulSet")):
        assert "0.1.0" not in str(template), name


def test_k8s2_what_is_asked_of_pods_reaches_them(chart: Chart) -> None:
    values = {
        "commonLabels": {"team": "data"},
        "commonAnnotations": {"cost": "low"},
        "imagePullSecrets": [{"name": "registry"}],
        "operator": {
            "priorityClassName": "high",
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "podLabels": {"a": "b"},
            "podAnnotations": {"c": "d"},
        },
    }
    objects = chart.objects(values)
    for one in objects:
        if one["kind"] != "CustomResourceDefinition":
            assert one["metadata"]["labels"]["team"] == "data", one["metadata"]["name"]
            assert one["metadata"]["annotations"]["cost"] == "low", one["metadata"]["name"]
    for _, template in pod_templates(objects):
        assert template["metadata"]["labels"]["team"] == "data"
    operator = named(objects, "Deployment", "levada-operator")["spec"]["template"]
    assert operator["metadata"]["labels"]["a"] == "b"
    assert operator["metadata"]["annotations"]["c"] == "d"
    given = values["operator"]
    assert isinstance(given, dict)
    for field in ("priorityClassName", "nodeSelector", "tolerations", "affinity"):
        assert operator["spec"][field] == given[field]
    for account in of_kind(objects, "ServiceAccount"):
        assert account["imagePullSecrets"] == [{"name": "registry"}]
    assert named(objects, "ClusterServingRuntime", "levada-scorer")["spec"]["imagePullSecrets"] == [
        {"name": "registry"}
    ]
