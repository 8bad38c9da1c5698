"""Deployments as InferenceServices, on a real API server with KServe's real definitions.

What KServe and the kubelet would write into statuses is written by the tests; they do it themselves in
tests/e2e/cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from levada.engines.kubernetes import inference
from levada.names import Kind
from levada.serving.config import GivenUp
from tests.e2e.pipelines import condition
from tests.support.space import Space, land, pipeline
from tests.support.waiting import until
from tools.build import BuildError, module_folder

ALL = (Kind.DATASET, Kind.FEATURE_SET, Kind.TRAINING_RUN, Kind.DEPLOYMENT)
NAME = "inferenceservices.serving.kserve.io"
URL = "http://returns-predictor.example.svc.cluster.local"

Document = dict[str, Any]


@pytest.fixture(scope="module")
def definition() -> Document:
    """KServe's definition of InferenceServices, as the version that the test cluster runs has it."""
    try:
        sources = module_folder("kserve", "github.com/kserve/kserve")
    except BuildError as error:
        pytest.skip(str(error))
    read: Document = yaml.safe_load((sources / "config/crd/full/serving.kserve.io_inferenceservices.yaml").read_text())
    return read


@contextmanager
def installed(definition: Document, connection: client.ApiClient) -> Iterator[None]:
    """The definition in the cluster, while the block runs."""
    api = client.ApiextensionsV1Api(connection)
    api.create_custom_resource_definition(definition)
    try:
        until(lambda: _established(api))
        yield
    finally:
        api.delete_custom_resource_definition(NAME)
        until(lambda: NAME not in [d.metadata.name for d in api.list_custom_resource_definition().items])


def _established(api: client.ApiextensionsV1Api) -> bool:
    conditions = api.read_custom_resource_definition(NAME).status.conditions or []
    return any(c.type == "Established" and c.status == "True" for c in conditions)


class KServe:
    """Writes what KServe, the Deployment controller and the kubelet would."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._where = (inference.GROUP, inference.VERSION, space.namespace, inference.PLURAL)

    def service(self) -> Document | None:
        found = self._space.custom.list_namespaced_custom_object(*self._where)["items"]
        return found[0] if found else None

    def set(self) -> str:
        """Digest of the set of versions that is wanted."""
        service = self.service()
        annotations = service["spec"]["predictor"]["annotations"] if service else {}
        return str(annotations.get(inference.SET_ANNOTATION, ""))

    def address(self) -> None:
        status = {"status": {"address": {"url": URL}, "url": "http://returns.example.com"}}
        self._space.custom.patch_namespaced_custom_object_status(*self._where, "returns", status)

    def pod(self, name: str, *, ready: bool = True, message: str = "") -> None:
        """A pod of what is wanted now, and how it stands."""
        service = self.service()
        assert service is not None
        metadata = {
            "name": name,
            "labels": service["metadata"]["labels"],
            "annotations": service["spec"]["predictor"]["annotations"],
        }
        container = {
            "name": inference.CONTAINER,
            "image": "scorer",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        spec = {
            "containers": [container],
            "securityContext": service["spec"]["predictor"]["securityContext"],
            "automountServiceAccountToken": False,
            "nodeName": "node",
        }
        self._space.core.create_namespaced_pod(self._space.namespace, {"metadata": metadata, "spec": spec})
        ended = {"terminated": {"exitCode": 3, "message": message}} if message else {"running": {}}
        state = {"name": inference.CONTAINER, "ready": ready, "restartCount": 0, "image": "scorer", "imageID": ""}
        status = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [state | {"state": ended}],
        }
        self._space.core.patch_namespaced_pod_status(name, self._space.namespace, {"status": status})

    def end(self, name: str) -> None:
        self._space.core.delete_namespaced_pod(name, self._space.namespace, grace_period_seconds=0)


def versions(space: Space) -> list[tuple[int, str]]:
    return [(v["version"], v["state"]) for v in space.get(Kind.DEPLOYMENT, "returns")["status"]["versions"]]


def pin(space: Space, candidate: str) -> None:
    where = ("levada.dev", "v1alpha1", space.namespace, "modeldeployments", "returns")
    space.custom.patch_namespaced_custom_object(
        *where, {"spec": {"model": {"candidate": candidate, "trainingRun": None}}}
    )


def candidates(space: Space) -> list[str]:
    """The candidates of the run, the best one first."""
    best = space.get(Kind.TRAINING_RUN, "returns")["status"]["best"]["name"]
    where = ("levada.dev", "v1alpha1", space.namespace, "modelcandidates")
    others = [c["metadata"]["name"] for c in space.custom.list_namespaced_custom_object(*where)["items"]]
    return [best, *(name for name in others if name != best)]


def test_dep1_versions_come_into_service_and_make_way_as_the_pods_say(
    space: Space, connection: client.ApiClient, definition: Document, tmp_path: Path
) -> None:
    land(space, tmp_path)
    space.apply(*pipeline(space, *ALL))
    with_out = until(lambda: said(space, "KServe is not installed"))
    assert with_out["status"] != "True"

    with installed(definition, connection):
        space.end()
        space.start()  # as the kubelet does when it has ended, having seen that KServe came
        kserve = KServe(space)
        until(kserve.service)
        kserve.address()
        kserve.pod("first")
        ready = space.wait(Kind.DEPLOYMENT, "returns", "Ready")
        assert (versions(space), ready["status"]["url"]) == ([(1, "Serving")], f"{URL}/v2/models/returns")

        # Another version: the old pod answers until the new one is ready and the old one is gone.
        best, second, *_ = candidates(space)
        before = kserve.set()
        pin(space, second)
        until(lambda: kserve.set() not in ("", before))
        until(lambda: versions(space) == [(2, "Pending"), (1, "Serving")])
        kserve.pod("second")
        until(
            lambda: "1 of 1 new scorers" in condition(space.get(Kind.DEPLOYMENT, "returns"), "Reconciling")["message"]
        )
        wanted = kserve.set()
        kserve.end("first")
        until(lambda: versions(space) == [(2, "Serving"), (1, "Previous")])
        assert kserve.set() == wanted, "taking over is no second rollout"

        # Back, but its scorers give up: it is rejected, and the scorers that serve are wanted again.
        pin(space, best)
        until(lambda: kserve.set() != wanted)
        failing = kserve.set()
        kserve.pod("third", ready=False, message=GivenUp(failed={1: "model.onnx is another"}).to_bytes().decode())
        until(lambda: (1, "Rejected") in versions(space))
        until(lambda: kserve.set() != failing)
        stalled = space.wait(Kind.DEPLOYMENT, "returns", "Stalled")
        assert "model.onnx is another" in condition(stalled, "Stalled")["message"]
        assert (2, "Serving") in versions(space)

        # Somebody changes the InferenceService: it becomes again what it should be.
        where = (inference.GROUP, inference.VERSION, space.namespace, inference.PLURAL, "returns")
        space.custom.patch_namespaced_custom_object(*where, {"spec": {"predictor": {"minReplicas": 7}}})
        until(lambda: (kserve.service() or {})["spec"]["predictor"]["minReplicas"] == 1)

        # It goes with its Deployment.
        space.end()
        where = ("levada.dev", "v1alpha1", space.namespace, "modeldeployments", "returns")
        space.custom.delete_namespaced_custom_object(*where)
        until(lambda: kserve.service() is None)


def test_dep1_a_kserve_that_is_too_old_is_said(
    empty_space: Space, connection: client.ApiClient, definition: Document, tmp_path: Path
) -> None:
    old = deepcopy(definition)
    for version in old["spec"]["versions"]:
        predictor = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["predictor"]
        del predictor["properties"]["deploymentStrategy"]
    land(empty_space, tmp_path)
    with installed(old, connection):
        empty_space.start()
        empty_space.apply(*pipeline(empty_space, *ALL))

        until(lambda: said(empty_space, "this KServe is too old, install 0.17 or later"))


def said(space: Space, words: str) -> Document | None:
    """The Ready condition of the Deployment once it says this."""
    found = space.get(Kind.DEPLOYMENT, "returns")
    ready = condition(found, "Ready")
    return ready if words in ready.get("message", "") else None
