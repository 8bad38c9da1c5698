"""Values: what is unknown or contradictory is refused in one sentence, and everything is described."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from levada import __version__
from tests.support.chart import CLUSTER_VALUES, EXISTING, Chart, named, of_kind
from tools.chart import CHART, KUBE_VERSION, ROOT, outputs

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
STORES = ("minio", "postgres", "nats")


def blocks(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each object whose keys are known."""
    if "properties" in schema:
        yield path
        for name, field in schema["properties"].items():
            yield from blocks(field, (*path, name))


def own(store: str) -> dict[str, Any]:
    """The values of a store that the user brings with a Secret of its own."""
    return {"enabled": False, "existingSecret": f"my-{store}"}


def settings_from(objects: list[dict[str, Any]]) -> list[str]:
    """The Secrets of which operator, check, scorers and steps have their settings: for all of them the same."""
    (operator,) = named(objects, "Deployment", "levada-operator")["spec"]["template"]["spec"]["containers"]
    (check,) = named(objects, "Pod", "levada-check")["spec"]["containers"]
    (scorer,) = named(objects, "ClusterServingRuntime", "levada-scorer")["spec"]["containers"]
    found = [source["secretRef"]["name"] for source in operator["envFrom"]]
    assert check["envFrom"] == scorer["envFrom"] == operator["envFrom"]
    assert {"name": "LEVADA_STORES_SECRET", "value": ",".join(found)} in operator["env"]
    return found


def nested(path: tuple[str, ...], value: Any) -> Any:
    return {path[0]: nested(path[1:], value)} if path else value


@pytest.mark.parametrize("path", list(blocks(SCHEMA)), ids=lambda path: ".".join(path) or "top")
def test_k8s2_an_unknown_value_is_refused_wherever_it_stands(path: tuple[str, ...]) -> None:
    import jsonschema

    validator = jsonschema.Draft7Validator(SCHEMA)
    validator.validate(nested(path, {}))
    with pytest.raises(jsonschema.ValidationError, match="'unheardOf' was unexpected"):
        validator.validate(nested(path, {"unheardOf": 1}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"operatr": {}}, "'operatr' not allowed"),
        ({"operator": {"replica": 2}}, "'replica' not allowed"),
        ({"operator": {"replicas": "two"}}, "got string, want integer"),
        ({"minio": {"runAsUser": 0}}, "minimum"),
        ({"minio": {"storage": "much"}}, "does not match pattern"),
        ({"namespaces": ["Team A"]}, "does not match pattern"),
        ({"nats": {"resources": {"limit": {}}}}, "'limit' not allowed"),
    ],
)
def test_k8s2_helm_refuses_what_the_schema_does_not_know(chart: Chart, values: dict[str, Any], said: str) -> None:
    assert said in chart.refusal(values)


@pytest.mark.parametrize("store", STORES)
def test_k8s2_a_store_that_is_switched_off_needs_a_secret_that_says_where_another_is(chart: Chart, store: str) -> None:
    others = {other: own(other) for other in STORES if other != store} | {"models": {"existingSecret": "my-models"}}
    for values in ({}, others):
        said = chart.refusal(values | {store: {"enabled": False}})
        assert f"{store}.enabled is false" in said
        assert f"{store}.existingSecret" in said
        assert "stores.existingSecret" in said


@pytest.mark.parametrize("only", ["stores", "models"])
def test_k8s2_one_existing_secret_without_the_other_is_refused(chart: Chart, only: str) -> None:
    other = ({"stores", "models"} - {only}).pop()
    assert f"{other}.existingSecret: with {only}.existingSecret set" in chart.refusal(
        {only: {"existingSecret": "mine"}}
    )


def test_k8s2_an_object_store_of_ones_own_is_one_for_kserve_too(chart: Chart) -> None:
    said = chart.refusal({"minio": own("minio")})
    assert "models.existingSecret: with minio.existingSecret set" in said
    said = chart.refusal({"postgres": own("postgres"), "models": {"existingSecret": "my-models"}})
    assert "stores.existingSecret: with models.existingSecret set" in said


@pytest.mark.parametrize("store", STORES)
def test_k8s2_a_bundled_store_with_a_secret_of_another_is_refused(chart: Chart, store: str) -> None:
    said = chart.refusal({store: {"existingSecret": "mine"}})
    assert f"{store}.existingSecret is for a store of your own: set {store}.enabled to false" in said


def test_k8s2_namespaces_of_two_kinds_are_refused(chart: Chart) -> None:
    assert "leave workloadNamespaces out" in chart.refusal({"namespaces": ["a"], "workloadNamespaces": ["b"]})


def test_k8s2_every_value_has_a_default_and_a_description() -> None:
    def compare(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        assert set(schema["properties"]) - {"global"} == set(values), path
        for name, field in schema["properties"].items():
            assert field["description"].endswith("."), f"{path}{name}"
            if "properties" in field:
                compare(field, values[name], f"{path}{name}.")

    compare(SCHEMA, VALUES, "")


@pytest.mark.parametrize("values", [{}, EXISTING, "cluster"], ids=["defaults", "existing", "cluster"])
def test_k8s2_the_chart_is_clean(chart: Chart, values: Any) -> None:
    text = CLUSTER_VALUES.read_text() if values == "cluster" else yaml.safe_dump(values)
    command = [str(chart.helm), "lint", "--strict", f"--kube-version={KUBE_VERSION}", "--values=-", str(CHART)]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


def test_k8s2_generated_files_are_current(chart: Chart) -> None:
    for name, text in outputs(chart.helm).items():
        assert (ROOT / name).read_text() == text, f"{name}: run 'make generate'"


def test_k8s2_without_kserve_a_cluster_is_told_so_before_anything_is_made(chart: Chart) -> None:
    command = [str(chart.helm), "template", "levada", str(CHART), f"--kube-version={KUBE_VERSION}"]
    live = [*command, "--api-versions=apiregistration.k8s.io/v1"]
    done = subprocess.run(live, capture_output=True, text=True)
    assert "KServe is not installed in this cluster" in done.stderr
    for there in ("--api-versions=serving.kserve.io/v1beta1", "--set=servingRuntime.enabled=false"):
        subprocess.run([*live, there], capture_output=True, text=True, check=True)


def test_k8s2_stores_of_ones_own_replace_the_bundled_ones(chart: Chart) -> None:
    objects = chart.objects(EXISTING | {store: {"enabled": False} for store in STORES})
    assert not of_kind(objects, "StatefulSet", "Service", "Secret")
    assert settings_from(objects) == ["mine"]
    assert named(objects, "ServiceAccount", "levada-scorer")["secrets"] == [{"name": "my-models"}]


@pytest.mark.parametrize(
    ("store", "prefix"), [("minio", "LEVADA_OBJECTS_"), ("postgres", "LEVADA_POSTGRES_"), ("nats", "LEVADA_NATS_")]
)
def test_k8s2_one_store_of_ones_own_comes_with_its_own_secret_and_the_chart_makes_that_of_the_others(
    chart: Chart, store: str, prefix: str
) -> None:
    models = {"models": {"existingSecret": "my-models"}} if store == "minio" else {}
    objects = chart.objects({store: own(store)} | models)
    assert settings_from(objects) == ["levada-stores", f"my-{store}"]
    bundled = chart.objects()
    expected = {key for key in named(bundled, "Secret", "levada-stores")["data"] if not key.startswith(prefix)}
    assert named(objects, "Secret", "levada-stores")["data"].keys() == expected
    assert {one["metadata"]["name"] for one in of_kind(objects, "Secret")} == {
        "levada-stores",
        *(["levada-models"] if not models else []),
    }
    kept = {f"levada-{other}" for other in STORES if other != store}
    assert of_kind(objects, "StatefulSet") == [
        one for one in of_kind(bundled, "StatefulSet") if one["metadata"]["name"] in kept
    ]


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        (["my-minio", "my-postgres", "my-nats"], ["my-minio", "my-postgres", "my-nats"]),
        (["mine", "mine", "mine"], ["mine"]),
    ],
)
def test_k8s2_where_each_store_has_a_secret_of_its_own_the_chart_makes_none(
    chart: Chart, secrets: list[str], expected: list[str]
) -> None:
    stores = {store: {"enabled": False, "existingSecret": name} for store, name in zip(STORES, secrets, strict=True)}
    objects = chart.objects({"models": {"existingSecret": "my-models"}} | stores)
    assert settings_from(objects) == expected
    assert not of_kind(objects, "Secret", "StatefulSet")


def test_k8s2_a_stores_own_secret_goes_before_that_of_all_stores(chart: Chart) -> None:
    objects = chart.objects(EXISTING | {"postgres": own("postgres")})
    assert settings_from(objects) == ["mine", "my-postgres"]  # of those with the same key, the last is taken
    assert not of_kind(objects, "Secret")
    for store in ("levada-minio", "levada-nats"):
        (server,) = named(objects, "StatefulSet", store)["spec"]["template"]["spec"]["containers"]
        sources = [entry["valueFrom"]["secretKeyRef"] for entry in server["env"] if "valueFrom" in entry]
        assert {source["name"] for source in sources} == {"mine"}


@pytest.mark.parametrize("store", STORES)
def test_k8s2_one_value_switches_one_store_off(chart: Chart, store: str) -> None:
    objects = chart.objects(EXISTING | {store: {"enabled": False}})
    kept = {one["metadata"]["name"] for one in of_kind(objects, "StatefulSet")}
    assert kept == {f"levada-{other}" for other in STORES if other != store}


def test_k8s2_definitions_are_kept_on_uninstall_unless_told_otherwise(chart: Chart) -> None:
    keep = {"annotations": {"helm.sh/resource-policy": "keep"}}
    committed = {d["metadata"]["name"]: d for d in yaml.safe_load_all((CHART / "files/crds.yaml").read_text())}
    for definition in (kept := of_kind(chart.objects(), "CustomResourceDefinition")):
        assert definition["metadata"].items() >= keep.items()
        assert definition["spec"] == committed[definition["metadata"]["name"]]["spec"]
    assert len(kept) == 6
    for definition in of_kind(chart.objects({"crds": {"keep": False}}), "CustomResourceDefinition"):
        assert "annotations" not in definition["metadata"]
    assert not of_kind(chart.objects({"crds": {"install": False}}), "CustomResourceDefinition")


def test_k8s2_the_chart_installs_the_version_of_the_package() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
