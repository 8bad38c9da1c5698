"""The operator with a real API server and the real Job controller; pods are processes (tests/support/controllers)."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from levada import names
from levada.names import PLURALS, Kind
from tests.e2e.pipelines import condition
from tests.support.space import Space, done, land, pipeline
from tests.support.waiting import until

MODELS = (Kind.DATASET, Kind.FEATURE_SET, Kind.TRAINING_RUN)


def test_k8s1_manifests_become_jobs_and_a_trained_candidate(space: Space, tmp_path: Path) -> None:
    land(space, tmp_path)

    space.apply(*reversed(pipeline(space, *MODELS)))  # manifests come in any order

    run = space.wait(Kind.TRAINING_RUN, "returns", "Complete")
    best = space.wait(Kind.MODEL_CANDIDATE, run["status"]["best"]["name"], "Ready")
    assert best["metadata"]["ownerReferences"][0]["uid"] == run["metadata"]["uid"]
    assert space.get(Kind.DATASET, "orders")["status"]["latestBatch"]["rows"] == 200
    steps = {job.metadata.labels[names.LABEL_KIND] for job in space.jobs()}
    assert steps == {"Dataset", "FeatureSet", "TrainingRun", "ModelCandidate"}


def test_x5_an_operator_that_is_killed_goes_on_with_the_same_jobs(space: Space, tmp_path: Path) -> None:
    land(space, tmp_path)
    space.apply(*pipeline(space, *MODELS))
    until(space.jobs)

    for _ in range(3):
        space.end(signal.SIGKILL)
        count = len(space.jobs())
        space.start()
        until(lambda count=count: len(space.jobs()) > count or done(space, "returns"))  # type: ignore[misc]
    space.wait(Kind.TRAINING_RUN, "returns", "Complete")

    made = [job.metadata.name for job in space.jobs()]
    # two datasets, two feature sets, a training and its two candidates: each once
    assert len(made) == len(set(made)) == 7
    assert all(job.status.succeeded == job.spec.completions for job in space.jobs())


def test_x5_a_pod_that_dies_is_replaced_and_the_resource_becomes_ready(space: Space, tmp_path: Path) -> None:
    land(space, tmp_path)
    space.pods.kill_next = 1

    space.apply(*[d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops"])

    space.wait(Kind.DATASET, "shops", "Ready")
    (job,) = space.jobs()
    assert (job.status.failed, job.status.succeeded) == (1, 1)


def test_x5_what_a_user_must_mend_fails_at_once_with_the_steps_own_sentence(space: Space) -> None:
    space.apply(*[d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops"])  # nothing has landed

    stalled = space.wait(Kind.DATASET, "shops", "Stalled")

    message = condition(stalled, "Stalled")["message"]
    assert f"landing/{space.namespace}/shops.csv" in message
    (job,) = space.jobs()
    assert job.status.failed == 1


def test_x5_deleting_a_resource_takes_its_jobs_and_candidates_along(space: Space, tmp_path: Path) -> None:
    land(space, tmp_path)
    space.apply(*pipeline(space, *MODELS))
    space.wait(Kind.TRAINING_RUN, "returns", "Complete")
    space.end()  # no finalizer waits for it

    where = (names.GROUP, names.VERSION, space.namespace, PLURALS[Kind.TRAINING_RUN])
    space.custom.delete_namespaced_custom_object(*where, "returns")

    until(lambda: {job.metadata.labels[names.LABEL_KIND] for job in space.jobs()} == {"Dataset", "FeatureSet"})
    candidates = (names.GROUP, names.VERSION, space.namespace, PLURALS[Kind.MODEL_CANDIDATE])
    until(lambda: not space.custom.list_namespaced_custom_object(*candidates)["items"])


def test_k8s3_the_operator_writes_no_spec_and_no_annotation(space: Space, tmp_path: Path) -> None:
    land(space, tmp_path)
    given = [d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops"]
    space.apply(*given)

    ready = space.wait(Kind.DATASET, "shops", "Ready")

    assert ready["metadata"]["generation"] == 1
    assert not ready["metadata"].get("annotations")
    assert not ready["metadata"].get("finalizers")
    written = {entry["manager"]: entry for entry in ready["metadata"]["managedFields"]}
    assert written["levada"]["subresource"] == "status"
    assert set(json.loads(json.dumps(written["levada"]["fieldsV1"]))) == {"f:status"}


def test_x2_what_the_operator_decided_is_audited_and_announced(space: Space, tmp_path: Path) -> None:
    from levada.settings import from_environment
    from levada.stores.open import open_catalogue

    land(space, tmp_path)
    space.apply(*[d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops"])
    space.wait(Kind.DATASET, "shops", "Ready")

    catalogue = open_catalogue(from_environment(space.stores.environment()))
    try:
        decisions = [entry for entry in catalogue.audit() if entry["namespace"] == space.namespace]
        assert [(entry["actor"], entry["action"]) for entry in decisions] == [("operator", "execution-started")]
        until(lambda: not catalogue.pending_events())
    finally:
        catalogue.close()


def test_x5_a_status_is_not_written_over_a_newer_resource(space: Space, tmp_path: Path) -> None:
    from levada.engines.kubernetes.cluster import Cluster, Conflict
    from levada.resources import Ref

    space.end()
    (shops_set,) = [d for d in pipeline(space, Kind.DATASET) if d["metadata"]["name"] == "shops"]
    space.apply({**shops_set, "spec": {**shops_set["spec"], "suspend": True}})
    old = space.get(Kind.DATASET, "shops")["metadata"]["resourceVersion"]
    where = (names.GROUP, names.VERSION, space.namespace, PLURALS[Kind.DATASET], "shops")
    space.custom.patch_namespaced_custom_object(*where, {"metadata": {"labels": {"changed": "yes"}}})

    cluster = Cluster(space.custom.api_client, (space.namespace,))
    with pytest.raises(Conflict):
        cluster.write_status(Ref(Kind.DATASET, space.namespace, "shops"), old, {"observedGeneration": 1})
