"""The cluster does what every later test of it builds on."""

from __future__ import annotations

import io
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from levada import names
from levada.serving.config import ScorerConfig, ScorerVersion
from tests.support.waiting import until
from tests.unit.serving import small
from tools.cluster.addons import STORES
from tools.cluster.layout import ClusterError
from tools.cluster.node import is_running, kill_component, processes

from .conftest import Cluster
from .jobs import RESTRICTED, WAIT, job, run

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]


def test_the_node_is_ready_and_tells_the_version_it_was_built_from(cluster: Cluster, own_node: Path) -> None:
    (node,) = cluster.get("nodes")["items"]
    assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.34.4"


def test_an_indexed_job_runs_and_its_logs_are_read(cluster: Cluster, namespace: str) -> None:
    printed = run(cluster, job("count", namespace, "import os; print(os.environ['JOB_COMPLETION_INDEX'])", 3))
    assert sorted(printed.split()) == ["0", "1", "2"]


def test_pods_reach_the_stores_by_name_and_nothing_outside_the_machine(cluster: Cluster, namespace: str) -> None:
    ports = {"postgres": 5432, "nats": 4222, "minio": 9000}
    script = f"""
import socket
for name, port in {ports}.items():
    socket.create_connection((f"{{name}}.{STORES}.svc", port), 10)
try:
    socket.create_connection(("192.0.2.1", 443), 5)
except OSError:
    pass
else:
    raise SystemExit(1)
"""
    run(cluster, job("reach", namespace, script))


@pytest.mark.parametrize("how", [["--force", "--grace-period=0"], ["--wait"]], ids=["killed", "deleted"])
@pytest.mark.parametrize("store", ["postgres", "nats", "minio"])
def test_a_store_whose_pod_goes_away_comes_back(cluster: Cluster, store: str, how: list[str]) -> None:
    before = cluster.get("pod", f"{store}-0", f"--namespace={STORES}")["metadata"]["uid"]
    cluster.kubectl.run("delete", "pod", f"{store}-0", f"--namespace={STORES}", *how)
    try:
        cluster.kubectl.run("rollout", "status", f"statefulset/{store}", f"--namespace={STORES}", WAIT)
    except ClusterError as error:
        told = [
            cluster.kubectl.run(*asked, f"{store}-0", f"--namespace={STORES}")
            for asked in (["describe", "pod"], ["logs"])
        ]
        pytest.fail("\n".join([str(error), *told]))
    assert cluster.get("pod", f"{store}-0", f"--namespace={STORES}")["metadata"]["uid"] != before


@pytest.mark.parametrize("component", ["etcd", "kube-apiserver", "containerd"])
def test_a_killed_process_of_the_node_is_started_again(
    cluster: Cluster, own_node: Path, namespace: str, component: str
) -> None:
    killed = processes(own_node)[component]
    kill_component(own_node, component)
    until(lambda: processes(own_node).get(component, killed) != killed and is_running(own_node))
    assert run(cluster, job("after", namespace, "print('here')")) == "here\n"


def test_dep1_an_inference_service_with_a_model_in_minio_becomes_ready_and_answers(
    cluster: Cluster, namespace: str
) -> None:
    onnx = small.graph()
    store_model(cluster, onnx, f"{namespace}/small")
    cluster.kubectl.apply(serving(cluster, namespace, onnx))
    cluster.kubectl.run("wait", "--for=condition=Ready", "inferenceservice/small", f"--namespace={namespace}", WAIT)
    url = f"http://{cluster.address('small-predictor', namespace)}/v2/models/small/infer"
    with urllib.request.urlopen(url, json.dumps(small.v2_request(small.ROW)).encode(), timeout=30) as response:
        outputs = {output["name"]: output["data"] for output in json.load(response)["outputs"]}
    assert outputs["label"] == [1]
    assert sum(outputs["probabilities"]) == pytest.approx(1)


def store_model(cluster: Cluster, onnx: bytes, prefix: str) -> None:
    """Put the small model into MinIO's bucket `levada`, which is made when it is missing."""
    client = cluster.minio()
    if not client.bucket_exists("levada"):
        client.make_bucket("levada")
    for name, content in {"model.onnx": onnx, names.MANIFEST: small.manifest(onnx).to_bytes()}.items():
        client.put_object("levada", f"{prefix}/{name}", io.BytesIO(content), len(content))


def serving(cluster: Cluster, namespace: str, onnx: bytes) -> list[dict[str, Any]]:
    """A runtime of Levada's scorer, and an InferenceService that chooses it by the model's format."""
    version = ScorerVersion(
        version=1, candidate="small", folder="/mnt/models", onnx_digest=names.digest(onnx), weight=100
    )
    config = ScorerConfig(name="small", namespace=namespace, versions=[version], recording=False)
    container = {
        "name": "kserve-container",
        "image": "localhost/levada/scorer:cluster",
        "args": ["--config", "/etc/levada/config.json", "--host", "0.0.0.0", "--port", "8080"],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "config", "mountPath": "/etc/levada"}, {"name": "scratch", "mountPath": "/tmp"}],
    }
    volumes = [{"name": "config", "configMap": {"name": "scorer"}}, {"name": "scratch", "emptyDir": {}}]
    runtime = {
        "supportedModelFormats": [{"name": "levada", "version": "1", "autoSelect": True}],
        "protocolVersions": ["v2"],
        "containers": [container],
        "volumes": volumes,
    }
    model = {"modelFormat": {"name": "levada"}, "protocolVersion": "v2", "storageUri": f"s3://levada/{namespace}/small"}
    annotations = {
        "serving.kserve.io/s3-endpoint": f"minio.{STORES}.svc:9000",
        "serving.kserve.io/s3-usehttps": "0",
        "serving.kserve.io/s3-region": "us-east-1",
    }
    keys = {"AWS_ACCESS_KEY_ID": "levada", "AWS_SECRET_ACCESS_KEY": cluster.password("minio")}

    def named(kind: str, api: str, name: str, **more: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": namespace, "annotations": more.pop("annotations", {})}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **more}

    return [
        named("ConfigMap", "v1", "scorer", data={"config.json": config.to_bytes().decode()}),
        named("Secret", "v1", "models", annotations=annotations, stringData=keys),
        named("ServiceAccount", "v1", "scorer", secrets=[{"name": "models"}]),
        named("ServingRuntime", "serving.kserve.io/v1alpha1", "levada", spec=runtime),
        named(
            "InferenceService",
            "serving.kserve.io/v1beta1",
            "small",
            spec={"predictor": {"serviceAccountName": "scorer", "model": model}},
        ),
    ]
