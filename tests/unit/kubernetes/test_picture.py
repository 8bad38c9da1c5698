"""The operator's picture of a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from levada.engines.kubernetes.picture import Picture
from levada.names import Kind
from levada.resources import Dataset, Ref

SHOPS, SALES = Ref(Kind.DATASET, "team", "shops"), Ref(Kind.FEATURE_SET, "team", "sales")
RUN = Ref(Kind.TRAINING_RUN, "team", "run")
SPECS: dict[Kind, dict[str, Any]] = {
    Kind.DATASET: {"source": {"type": "object", "object": {"uri": "./data/"}}, "format": {"type": "csv"}},
    Kind.FEATURE_SET: {"inputs": [{"dataset": "shops"}], "query": "SELECT * FROM shops", "entity": {"keys": ["id"]}},
}


def document(ref: Ref, version: int = 1, **spec: Any) -> dict[str, Any]:
    metadata = {"name": ref.name, "namespace": ref.namespace, "uid": ref.name, "resourceVersion": f"{version}"}
    spec = SPECS[ref.kind] | spec
    return {"apiVersion": "levada.dev/v1alpha1", "kind": ref.kind.value, "metadata": metadata, "spec": spec}


def job(version: int = 1, uid: str = "u1", owner: Ref = SHOPS) -> dict[str, Any]:
    labels = {"levada.dev/kind": owner.kind.value, "levada.dev/name": owner.name}
    metadata = {"name": "ingest-1", "namespace": "team", "uid": uid, "resourceVersion": f"{version}", "labels": labels}
    return {"metadata": metadata, "spec": {"completions": 2, "template": {}}, "status": {"failed": version, "ready": 1}}


def pod(name: str, version: int = 1, phase: str = "Running") -> dict[str, Any]:
    labels = {"batch.kubernetes.io/job-name": "ingest-1"}
    annotations = {"levada.dev/input": "{}"}
    metadata = {"name": name, "namespace": "team", "labels": labels, "annotations": annotations, "managedFields": [{}]}
    return {
        "metadata": metadata | {"resourceVersion": f"{version}"},
        "spec": {"containers": []},
        "status": {
            "phase": phase,
            "podIP": "10.0.0.1",
            "containerStatuses": [{"name": "step", "state": {}, "image": "i"}],
        },
    }


@pytest.fixture
def picture() -> Picture:
    return Picture(lambda namespace, uri: f"s3://levada/{namespace}/{uri}")


def test_k8s1_a_change_concerns_the_resource_and_those_that_refer_to_it(picture: Picture) -> None:
    assert picture.put(Kind.FEATURE_SET, document(SALES)) == [SALES]
    assert picture.put(Kind.DATASET, document(SHOPS)) == [SHOPS, SALES]
    assert picture.drop(SHOPS) == [SHOPS, SALES]
    assert picture.drop(SALES) == [SALES]
    assert picture.put(Kind.DATASET, document(SHOPS)) == [SHOPS]


def test_k8s1_who_refers_to_something_else_by_now_is_not_concerned(picture: Picture) -> None:
    picture.put(Kind.FEATURE_SET, document(SALES))
    picture.put(Kind.FEATURE_SET, document(SALES, 2, inputs=[{"dataset": "other"}]))

    assert picture.put(Kind.DATASET, document(SHOPS)) == [SHOPS]


def test_k8s1_a_change_concerns_the_owner(picture: Picture) -> None:
    child = document(SHOPS)
    child["metadata"]["ownerReferences"] = [
        {"apiVersion": "levada.dev/v1alpha1", "kind": "TrainingRun", "name": "run", "controller": True}
    ]

    assert picture.put(Kind.DATASET, child) == [SHOPS, RUN]
    assert picture.drop(SHOPS) == [SHOPS, RUN]


def test_k8s1_what_is_older_or_says_the_same_concerns_nobody(picture: Picture) -> None:
    picture.put(Kind.DATASET, document(SHOPS, 5))

    assert not picture.put(Kind.DATASET, document(SHOPS, 4, suspend=True))
    assert not picture.put(Kind.DATASET, document(SHOPS, 6))
    seen = picture.seen(SHOPS)
    assert seen is not None
    assert seen.version == "6"
    assert isinstance(seen.resource, Dataset)
    assert seen.resource.spec.suspend is False


def test_k8s1_what_cannot_be_read_is_kept_with_what_is_wrong_until_it_can(picture: Picture) -> None:
    picture.put(Kind.DATASET, document(SHOPS))

    assert picture.put(Kind.DATASET, document(SHOPS, 2, format={"type": "csv", "json": {}})) == [SHOPS]
    assert SHOPS not in picture.resources
    assert picture.all_of(Kind.DATASET) == [SHOPS]
    assert "json" in picture.unreadable[SHOPS][1]
    picture.put(Kind.DATASET, document(SHOPS, 3))
    assert picture.all_of(Kind.DATASET) == [SHOPS]
    assert not picture.unreadable


def test_k8s1_what_is_not_ready_is_looked_at_again(picture: Picture) -> None:
    condition = {"status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ready = document(SHOPS) | {"status": {"conditions": [condition | {"type": "Ready", "observedGeneration": 1}]}}
    picture.put(Kind.DATASET, ready)
    picture.put(Kind.FEATURE_SET, document(SALES))

    assert picture.unready() == [SALES]


def test_k8s1_relative_uris_are_seen_as_absolute(picture: Picture) -> None:
    picture.put(Kind.DATASET, document(SHOPS))

    shops = picture.resources[SHOPS]
    assert isinstance(shops, Dataset)
    assert shops.spec.source.object is not None
    assert shops.spec.source.object.uri == "s3://levada/team/./data/"


def test_k8s1_jobs_and_their_pods_are_found_by_their_owner(picture: Picture) -> None:
    assert picture.put_job(job()) == (SHOPS,)
    assert picture.put_pod(pod("a")) == (SHOPS,)
    assert picture.put_pod(pod("b")) == (SHOPS,)
    picture.put_pod(pod("a"), gone=True)

    (found,) = picture.jobs_of(SHOPS).values()
    assert list(found.pods) == ["b"]
    assert picture.job_keys() == {("team", "ingest-1")}
    assert picture.drop_job(("team", "ingest-1")) == (SHOPS,)
    assert not picture.jobs_of(SHOPS)
    assert not picture.put_pod(pod("c"))


def test_k8s1_an_older_state_of_a_job_is_ignored_and_another_job_of_the_name_is_new(picture: Picture) -> None:
    picture.put_job(job(5))
    picture.put_pod(pod("a"))

    assert not picture.put_job(job(4))
    assert picture.jobs_of(SHOPS)["ingest-1"].document["status"] == {"failed": 5}
    picture.put_job(job(6, uid="u2", owner=SALES))
    assert not picture.jobs_of(SHOPS)
    assert not picture.jobs_of(SALES)["ingest-1"].pods
    assert not picture.put_job(job(5))  # the other's last state, from a list that was asked for before


def test_k8s1_an_older_state_of_a_pod_is_ignored(picture: Picture) -> None:
    picture.put_job(job())
    picture.put_pod(pod("a", 7, "Failed"))

    assert not picture.put_pod(pod("a", 6))
    assert picture.jobs_of(SHOPS)["ingest-1"].pods["a"]["status"]["phase"] == "Failed"


def test_k8s1_pods_that_a_look_does_not_find_are_gone(picture: Picture) -> None:
    picture.put_job(job())
    picture.put_pod(pod("a"))
    picture.put_pod(pod("b"))

    assert picture.pod_keys() == {("team", "a"), ("team", "b")}
    assert picture.drop_pods({("team", "a"), ("other", "b")}) == [SHOPS]
    assert picture.pod_keys() == {("team", "b")}
    assert not picture.drop_pods({("team", "a")})


def test_k8s1_of_jobs_and_pods_only_what_says_how_they_stand_is_kept(picture: Picture) -> None:
    picture.put_job(job())
    picture.put_pod(pod("a"))

    (found,) = picture.jobs_of(SHOPS).values()
    assert found.document["spec"] == {"completions": 2}
    kept = found.pods["a"]
    assert kept["metadata"] == {"name": "a", "namespace": "team", "resourceVersion": "1"}
    assert not kept["spec"]
    assert kept["status"] == {"phase": "Running", "containerStatuses": [{"name": "step", "state": {}}]}
