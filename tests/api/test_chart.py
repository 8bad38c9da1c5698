"""The chart against a real API server: its objects are valid, its pods restricted, its rights enough and no more."""

from __future__ import annotations

import os
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.config import kube_config

from levada import names
from levada.engines.kubernetes.check import checks, problem_of
from levada.engines.kubernetes.cluster import Cluster
from levada.names import Kind
from levada.settings import Settings
from tests.api.conftest import Kubectl
from tests.support.apiserver import ApiServer
from tests.support.chart import EXISTING, BuildError, Chart, Document, named, of_kind, pod_templates
from tests.support.space import Space, land, pipeline
from tests.support.waiting import until
from tools.build import module_folder
from tools.chart import CHART

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
KINDS = ("datasets", "featuresets", "trainingruns", "modelcandidates", "modeldeployments", "scoringruns")
NOT_SERVED = ("PodMonitor", "PrometheusRule")  # the Prometheus operator's own


@pytest.fixture(scope="module")
def chart() -> Chart:
    try:
        return Chart()
    except BuildError as error:
        pytest.skip(f"Helm cannot be built here: {error}")


@pytest.fixture(scope="module")
def core(connection: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(connection)


@pytest.fixture(scope="module")
def kserve(kubectl: Kubectl, connection: client.ApiClient) -> Iterator[None]:
    """The API server knows KServe's kinds, too, as long as these tests run."""
    try:
        folder = module_folder("kserve", "github.com/kserve/kserve") / "charts/kserve-crd"
    except BuildError as error:
        pytest.skip(f"KServe's definitions cannot be had here: {error}")
    plurals = ("clusterservingruntimes", "servingruntimes", "inferenceservices")
    kinds = {f"{plural}.serving.kserve.io" for plural in plurals}
    for plural, _, group in (kind.partition(".") for kind in kinds):
        kubectl("apply", "--server-side", "-f", str(folder / f"templates/{group}_{plural}.yaml"))
    served = ("api-resources", "--api-group=serving.kserve.io", "-o=name")
    until(lambda: set(kubectl(*served).split()) >= kinds)
    yield
    kubectl("delete", "crd", *kinds)


@pytest.fixture
def namespace(core: client.CoreV1Api) -> str:
    """A namespace in which only restricted pods may run."""
    made = core.create_namespace({"metadata": {"generateName": "chart-", "labels": RESTRICTED}})
    return str(made.metadata.name)


def everything(namespace: str) -> Document:
    """All that can be switched on."""
    on = {"enabled": True}
    return {
        "workloadNamespaces": [namespace],
        "operator": {"replicas": 2},
        "monitoring": {"podMonitor": on, "prometheusRule": on, "dashboard": on},
    }


@pytest.mark.usefixtures("kserve")
@pytest.mark.parametrize("variant", ["clusterwide", "namespaced", "existing"])
def test_k8s2_the_api_server_takes_every_object_of_the_chart(
    chart: Chart, kubectl: Kubectl, namespace: str, tmp_path: Path, variant: str
) -> None:
    values = {
        "clusterwide": everything(namespace),
        "namespaced": {"namespaces": [namespace]},
        "existing": EXISTING | {store: {"enabled": False} for store in ("minio", "postgres", "nats")},
    }[variant]
    objects = [one for one in chart.objects(values, namespace=namespace) if one["kind"] not in NOT_SERVED]
    file = tmp_path / "chart.yaml"
    file.write_text(yaml.safe_dump_all(objects))

    said = kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", f"-f={file}")

    assert len(said.splitlines()) == len(objects), said
    assert "Warning" not in said


def pods(objects: list[Document]) -> dict[str, Document]:
    """A pod of each workload, and one of a scorer, by name."""
    found = dict(pod_templates(objects))
    runtime = named(objects, "ClusterServingRuntime", "levada-scorer")["spec"]
    found["scorer"] = {"spec": {"containers": runtime["containers"], "volumes": runtime["volumes"]}}
    for template in found.values():
        claims = template["spec"].setdefault("volumes", [])
        mounted = {mount["name"] for c in template["spec"]["containers"] for mount in c.get("volumeMounts", ())}
        claims += [{"name": name, "emptyDir": {}} for name in mounted - {volume["name"] for volume in claims}]
    return found


def test_k8s2_restricted_pod_security_lets_every_pod_in(chart: Chart, core: client.CoreV1Api, namespace: str) -> None:
    made = pods(chart.objects(everything(namespace)))
    assert len(made) == 6
    for name, template in made.items():
        core.create_namespaced_pod(namespace, {"metadata": {"name": name}, "spec": template["spec"]}, dry_run="All")

    loose = made["levada-nats"]
    del loose["spec"]["containers"][0]["securityContext"]["capabilities"]
    with pytest.raises(client.ApiException, match="violates PodSecurity"):
        core.create_namespaced_pod(namespace, {"metadata": {"name": "x"}, "spec": loose["spec"]}, dry_run="All")


# --- rights ----------------------------------------------------------------------------------------------------------

# What the operator asks of the API server: group, resource, verbs.
NEEDED = [
    *((("levada.dev", kind), ("list", "watch")) for kind in KINDS),
    *((("levada.dev", f"{kind}/status"), ("patch",)) for kind in KINDS),
    (("levada.dev", "modelcandidates"), ("create", "patch")),
    (("batch", "jobs"), ("list", "watch", "create", "delete")),
    (("", "pods"), ("list", "watch")),
    (("events.k8s.io", "events"), ("create", "patch")),
    (("", "events"), ("list",)),
    (("serving.kserve.io", "inferenceservices"), ("list", "watch", "create", "patch", "delete")),
]
READ, WRITE = ("get", "list", "watch"), ("create", "update", "patch", "delete", "deletecollection")
FORBIDDEN = [
    (("", "secrets"), (*READ, *WRITE)),
    (("", "configmaps"), (*READ, *WRITE)),
    (("", "pods"), WRITE),
    (("", "pods/exec"), ("create", "get")),
    (("", "pods/log"), ("get",)),
    (("", "serviceaccounts/token"), ("create",)),
    (("", "namespaces"), (*READ, *WRITE)),
    (("", "nodes"), READ),
    (("batch", "jobs"), ("update", "patch")),
    (("apps", "deployments"), (*READ, *WRITE)),
    (("rbac.authorization.k8s.io", "roles"), (*READ, *WRITE, "bind", "escalate")),
    (("rbac.authorization.k8s.io", "clusterroles"), (*READ, *WRITE, "bind", "escalate")),
    (("apiextensions.k8s.io", "customresourcedefinitions"), (*READ, *WRITE)),
    *((("levada.dev", kind), WRITE) for kind in KINDS if kind != "modelcandidates"),
    (("", "users"), ("impersonate",)),
]


class Rights:
    """What a service account may do, as the API server's authorizer says."""

    def __init__(self, connection: client.ApiClient, account: str, home: str) -> None:
        self._api = client.AuthorizationV1Api(connection)
        self._user = f"system:serviceaccount:{home}:{account}"
        self._groups = ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"]

    def may(self, resource: tuple[str, str], verb: str, namespace: str, name: str = "") -> bool:
        group, plural = resource
        plural, _, subresource = plural.partition("/")
        asked = {"group": group, "resource": plural, "subresource": subresource, "verb": verb, "name": name}
        spec = {"user": self._user, "groups": self._groups, "resourceAttributes": asked | {"namespace": namespace}}
        return bool(self._api.create_subject_access_review({"spec": spec}).status.allowed)

    def missing(self, matrix: list[Any], namespace: str) -> list[tuple[Any, str]]:
        return [(r, verb) for r, verbs in matrix for verb in verbs if not self.may(r, verb, namespace)]

    def had(self, matrix: list[Any], namespace: str) -> list[tuple[Any, str]]:
        return [(r, verb) for r, verbs in matrix for verb in verbs if self.may(r, verb, namespace)]


def grant(kubectl: Kubectl, objects: list[Document], folder: Path) -> None:
    """Apply the rights of a rendering, and whom they are for."""
    kinds = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ServiceAccount")
    file = folder / "rights.yaml"
    file.write_text(yaml.safe_dump_all(of_kind(objects, *kinds)))
    kubectl("apply", "--server-side", "--force-conflicts", f"-f={file}")


@pytest.fixture
def clusterwide(
    chart: Chart, kubectl: Kubectl, connection: client.ApiClient, namespace: str, tmp_path: Path
) -> Iterator[Rights]:
    """The operator's rights everywhere; its namespace is `namespace`."""
    grant(kubectl, chart.objects({}, namespace=namespace), tmp_path)
    yield Rights(connection, "levada-operator", namespace)
    kubectl("delete", "clusterrolebinding", "levada-operator")


def test_k8s2_the_operator_may_do_what_it_does_in_every_namespace_and_nothing_else(
    clusterwide: Rights, namespace: str
) -> None:
    for where in (namespace, "default"):
        assert clusterwide.missing(NEEDED, where) == []
        assert clusterwide.had(FORBIDDEN, where) == []
    assert clusterwide.had(FORBIDDEN, "") == []


def test_k8s2_chosen_namespaces_are_the_only_ones_with_rights(
    chart: Chart, kubectl: Kubectl, core: client.CoreV1Api, connection: client.ApiClient, namespace: str, tmp_path: Path
) -> None:
    chosen = core.create_namespace({"metadata": {"generateName": "chosen-"}}).metadata.name
    grant(kubectl, chart.objects({"namespaces": [chosen]}, namespace=namespace), tmp_path)
    operator = Rights(connection, "levada-operator", namespace)

    assert operator.missing(NEEDED, chosen) == []
    assert operator.had(FORBIDDEN, chosen) == []
    for elsewhere in (namespace, "default", ""):
        assert operator.had(NEEDED, elsewhere) == []
        assert operator.had(FORBIDDEN, elsewhere) == []


def test_k8s3_the_operator_has_one_lease_in_its_own_namespace(clusterwide: Rights, namespace: str) -> None:
    leases = ("coordination.k8s.io", "leases")
    for verb in ("get", "update"):
        assert clusterwide.may(leases, verb, namespace, "levada-operator")
        assert not clusterwide.may(leases, verb, namespace, "another")
        assert not clusterwide.may(leases, verb, "kube-system", "levada-operator")
    assert clusterwide.may(leases, "create", namespace)
    assert not any(clusterwide.may(leases, verb, namespace) for verb in ("list", "watch", "delete"))


@pytest.mark.usefixtures("clusterwide")
@pytest.mark.parametrize("account", ["levada-steps", "levada-scorer"])
def test_k8s2_steps_and_scorers_may_do_nothing(connection: client.ApiClient, namespace: str, account: str) -> None:
    rights = Rights(connection, account, namespace)
    resources = {resource for resource, _ in (*NEEDED, *FORBIDDEN)}
    allowed = [(r, v) for r, v in product(resources, (*READ, *WRITE)) if rights.may(r, v, namespace)]
    assert allowed == []


def test_k8s2_an_operator_with_these_rights_alone_does_its_work(
    chart: Chart, kubectl: Kubectl, empty_space: Space, tmp_path: Path
) -> None:
    space, namespace = empty_space, empty_space.namespace
    grant(kubectl, chart.objects({"namespaces": [namespace]}, namespace=namespace), tmp_path)
    token = kubectl("create", "token", "levada-operator", f"--namespace={namespace}").strip()
    login = yaml.safe_load(space.api.kubeconfig.read_text())
    login["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(login))
    space.settings = {"KUBECONFIG": str(kubeconfig), "LEVADA_LEASE_NAMESPACE": namespace}
    land(space, tmp_path)
    space.start()

    space.apply(*[d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops"])
    space.wait(Kind.DATASET, "shops", "Ready")
    space.end()

    # What a TrainingRun makes, without waiting for one.
    candidate = {
        "apiVersion": names.API_VERSION,
        "kind": "ModelCandidate",
        "metadata": {"name": "made", "namespace": namespace},
        "spec": {
            "model": {"uri": "s3://levada/models/made/model.onnx", "digest": f"sha256:{0:064}"},
            "task": "regression",
        },
    }
    with config.new_client_from_config(str(kubeconfig)) as operator:
        cluster = Cluster(operator, (namespace,))
        made = cluster.apply(candidate, None)["metadata"]
        cluster.apply(candidate, (made["uid"], made["resourceVersion"]))
    log = space.log.read_text()
    assert "forbidden" not in log.lower(), log


def test_k8s2_levada_check_says_whether_the_api_server_serves_the_kinds_to_it(
    connection: client.ApiClient, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    look = checks(Settings(), ())["API server"]
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(api_server.kubeconfig))
    assert problem_of(look) is None

    login = yaml.safe_load(api_server.kubeconfig.read_text())
    login["users"][0]["user"] = {"token": "wrong"}
    stranger = tmp_path / "kubeconfig"
    stranger.write_text(yaml.safe_dump(login))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(stranger))
    assert "Unauthorized" in str(problem_of(look))


# --- life of a release -----------------------------------------------------------------------------------------------


class Release:
    """A release of the chart in a namespace, by the real Helm."""

    def __init__(self, chart: Chart, api: ApiServer, namespace: str, folder: Path) -> None:
        self._command = [str(chart.helm), f"--kubeconfig={api.kubeconfig}", f"--namespace={namespace}"]
        homes = ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")
        self._environment = os.environ | {home: str(folder / home) for home in homes}

    def run(self, verb: str, *arguments: str) -> str:
        command = [*self._command, verb, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, chart: Path = CHART, *flags: str) -> str:
        # The definitions may have been applied by another test, without Helm.
        common = ("--take-ownership", "--set=rbac.aggregate=false")
        return self.run("upgrade", "--install", "levada", str(chart), *common, *flags)


@pytest.fixture
def release(chart: Chart, api_server: ApiServer, kserve: None, namespace: str, tmp_path: Path) -> Iterator[Release]:
    made = Release(chart, api_server, namespace, tmp_path)
    yield made
    made.run("uninstall", "levada", "--ignore-not-found")


def passwords(core: client.CoreV1Api, namespace: str) -> dict[str, str]:
    data = core.read_namespaced_secret("levada-stores", namespace).data
    return {key: b64decode(value).decode() for key, value in data.items() if "PASSWORD" in key or "SECRET" in key}


def test_k8s2_passwords_are_made_once_and_outlive_upgrade_and_reinstallation(
    release: Release, core: client.CoreV1Api, namespace: str
) -> None:
    notes = release.install()
    first = passwords(core, namespace)
    assert f"helm test levada --namespace {namespace}" in notes
    assert not any(password in notes for password in first.values())

    release.install(CHART, "--set=commonLabels.team=data")
    assert passwords(core, namespace) == first
    release.run("uninstall", "levada")
    assert passwords(core, namespace) == first
    release.install()
    assert passwords(core, namespace) == first


def test_k8s2_a_store_that_is_switched_off_and_on_again_has_the_password_that_its_volume_knows(
    release: Release, core: client.CoreV1Api, namespace: str
) -> None:
    release.install()
    first = passwords(core, namespace)

    notes = release.install(CHART, "--set=postgres.enabled=false", "--set=postgres.existingSecret=my-postgres")
    assert f"and {namespace}, needs your Secrets with the settings of stores: my-postgres." in notes
    assert "LEVADA_POSTGRES_DSN" not in core.read_namespaced_secret("levada-stores", namespace).data

    release.install()
    assert passwords(core, namespace) == first
    assert "LEVADA_POSTGRES_DSN" in core.read_namespaced_secret("levada-stores", namespace).data


def test_k8s2_an_upgrade_upgrades_the_definitions_and_an_uninstall_keeps_them_with_all_resources(
    release: Release, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    subprocess.run(["cp", "-r", str(CHART), str(older)], check=True)
    file = older / "files/crds.yaml"
    definitions = list(yaml.safe_load_all(file.read_text()))
    for definition in definitions:
        definition["spec"]["versions"][0]["additionalPrinterColumns"].pop()
    file.write_text(yaml.safe_dump_all(definitions, sort_keys=False))
    columns = ("get", "crd", "datasets.levada.dev", "-o=jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}")

    release.install(older)
    assert "Age" not in kubectl(*columns)
    resource = tmp_path / "dataset.yaml"
    resource.write_text(
        "{apiVersion: levada.dev/v1alpha1, kind: Dataset, metadata: {name: kept}, spec: {suspend: true, format: "
        "{type: csv}, source: {type: object, object: {uri: 's3://landing/'}}}}"
    )
    kubectl("apply", f"--namespace={namespace}", f"-f={resource}")
    release.install()
    assert "Age" in kubectl(*columns)
    release.run("uninstall", "levada")

    assert "Age" in kubectl(*columns)
    assert kubectl("get", "dset", "kept", f"--namespace={namespace}", "-o=name") == "dataset.levada.dev/kept\n"
    assert "No resources found" in kubectl("get", "deployments", f"--namespace={namespace}")


def test_k8s2_kubectl_builds_the_kustomize_base_with_and_without_the_bundled_stores(
    chart: Chart, kubectl: Kubectl, tmp_path: Path
) -> None:
    kustomize = CHART.parent / "kustomize"
    base = list(yaml.safe_load_all(kubectl("kustomize", str(kustomize / "base"))))
    assert not of_kind(base, "StatefulSet", "Secret")
    overlay = tmp_path / "kustomization.yaml"
    parts = {"resources": "base", "components": "stores"}
    relative = {field: [os.path.relpath(kustomize / name, tmp_path)] for field, name in parts.items()}
    overlay.write_text(yaml.safe_dump(relative))
    whole = list(yaml.safe_load_all(kubectl("kustomize", str(tmp_path))))

    rendered = chart.objects(EXISTING | {"stores": {"existingSecret": "levada-stores"}})
    known = {(one["kind"], one["metadata"]["name"]) for one in rendered if one["kind"] != "Pod"}
    assert {(one["kind"], one["metadata"]["name"]) for one in whole} == known | {("Namespace", "levada")}
    assert len(of_kind(whole, "StatefulSet")) == 3
