"""The examples on a real cluster: from `kubectl apply` to a score."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from levada.stores.open import open_catalogue
from tests.e2e.cluster.installed import Document, Installed
from tests.e2e.pipelines import condition
from tests.support.waiting import until

from .conftest import Cluster
from .jobs import job, run

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_x8_the_flights_example_is_applied_as_it_is_and_becomes_a_served_model(levada: Installed) -> None:
    subprocess.run([sys.executable, EXAMPLES / "data.py", "flights"], check=True, timeout=120)
    levada.upload(EXAMPLES / "flights")

    levada.run("apply", "-f", str(EXAMPLES / "flights"))

    ready = levada.wait("mdep/flights-late", "Ready", 280)
    url = ready["status"]["url"]
    assert url == f"http://flights-late-predictor.{levada.namespace}.svc.cluster.local/v2/models/flights-late"
    best = levada.get("train", "flights-late")["status"]["best"]
    assert (best["metric"], best["value"] >= 0.68) == ("rocAuc", True)

    answer = levada.ask(url.replace("/v2/", "/v1/") + ":predict", {"instances": [a_flight(levada.ask(url))]})
    catalogue = open_catalogue(levada.settings())
    try:
        nodes = until(lambda: catalogue.lineage(answer["score_ids"][0]))
        assert {"score", "candidate", "split", "features", "batch", "source"} <= {node.type for node in nodes}
    finally:
        catalogue.close()


def test_dep1_the_address_of_the_status_answers_in_any_pod(levada: Installed) -> None:
    url = levada.wait("mdep/flights-late", "Ready", 280)["status"]["url"]
    code = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=20).read().decode())"

    try:
        said = run(Cluster(levada.kubectl), job("anybody", levada.namespace, code))
    finally:
        levada.run("delete", "job", "anybody", "--ignore-not-found")

    assert json.loads(said)["name"] == "flights-late"


def test_k8s1_kubectl_shows_what_there_is(levada: Installed) -> None:
    shown = levada.run("get", "levada")

    for name in ("dataset.levada.dev/flights", "deployment.levada.dev/flights-late"):
        assert name in shown.replace("modeldeployment.levada.dev", "deployment.levada.dev")


def test_score4_all_of_the_example_ends_well(levada: Installed) -> None:
    run = levada.wait("srun/flights-test", "Complete", 280)

    assert run["status"]["scores"]["rows"] == 65_469
    for kind in ("datasets", "featuresets", "trainingruns", "modelcandidates", "modeldeployments"):
        for item in levada.get(f"{kind}.levada.dev")["items"]:
            assert condition(item, "Ready")["status"] == "True", item["status"]


def a_flight(model: Document) -> Document:
    """A flight of the last month, with the columns that the model asks for."""
    with gzip.open(EXAMPLES / "flights/data/flights/flights-2013-12.csv.gz", "rt", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    return {i["name"]: int(row[i["name"]]) if row[i["name"]].isdigit() else row[i["name"]] for i in model["inputs"]}
