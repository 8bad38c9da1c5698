"""The API server that the other tests of this folder stand on is a real one."""

from __future__ import annotations

import json

from kubernetes import client, config

from tests.support.apiserver import ApiServer


def test_k8s4_a_real_api_server_is_ready_and_tells_its_version(api_server: ApiServer) -> None:
    assert api_server.get("/readyz") == (200, "ok")
    status, body = api_server.get("/version")
    assert status == 200
    assert json.loads(body)["gitVersion"].startswith("v1.34.")


def test_k8s4_the_kubeconfig_is_a_cluster_admins(api_server: ApiServer) -> None:
    with config.new_client_from_config(str(api_server.kubeconfig)) as connection:
        core = client.CoreV1Api(connection)
        core.create_namespace({"metadata": {"name": "made-by-admin"}})
        assert core.read_namespace("made-by-admin").status.phase == "Active"


def test_k8s4_nobody_gets_in_without_the_token(api_server: ApiServer) -> None:
    stranger = ApiServer(api_server.url, "wrong", api_server.ca, api_server.kubeconfig)
    status, _ = stranger.get("/api/v1/namespaces")
    assert status == 401
