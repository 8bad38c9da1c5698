"""What becomes a Kubernetes Event, and what it says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from levada.engines.kubernetes.kube_events import (
    Occurrence,
    counted_up,
    event_document,
    of_decision,
    of_warnings,
    to_tell,
)
from levada.names import Kind
from levada.planners.plan import Action, Decision
from levada.resources import Dataset, Ref
from levada.resources.conditions import Reason
from levada.resources.dataset import DatasetStatus

NOW = datetime(2026, 1, 2, 3, 4, 5, 0, tzinfo=UTC)
SPEC = {"source": {"type": "object", "object": {"uri": "s3://a/b"}}, "format": {"type": "csv"}}


def dataset() -> Dataset:
    metadata = {"name": "shops", "namespace": "here", "uid": "u1"}
    return Dataset.model_validate(
        {"apiVersion": "levada.dev/v1alpha1", "kind": "Dataset", "metadata": metadata, "spec": SPEC}
    )


def occurrence(id: str = "1", note: str = "no rows", action: str = "Stalled") -> Occurrence:
    return Occurrence(Ref(Kind.DATASET, "here", "shops"), "u1", id, True, "NoRows", action, note, NOW)


def test_k8s1_an_event_is_about_the_resource_and_says_what_was_decided() -> None:
    decision = Decision(Action.EXECUTION_STARTED, Reason.PROGRESSING, "ingest-1 was started", key="k")

    document = event_document(of_decision(dataset(), decision, "id"), "pod-1")

    assert document["regarding"] == {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": "Dataset",
        "namespace": "here",
        "name": "shops",
        "uid": "u1",
    }
    said = {key: document[key] for key in ("type", "reason", "action", "note")}
    assert said == {
        "type": "Normal",
        "reason": "Progressing",
        "action": "ExecutionStarted",
        "note": "ingest-1 was started",
    }


def test_k8s1_a_warning_is_told_when_it_is_new() -> None:
    old, new = "7 rows were set aside", "there is no test part"
    resource = dataset()
    resource = resource.model_copy(update={"status": DatasetStatus(warnings=[old])})

    (told,) = of_warnings(resource, "1", DatasetStatus(warnings=[old, new]))
    (again,) = of_warnings(resource, "2", DatasetStatus(warnings=[new]))

    document = event_document(told, "pod")
    assert {key: document[key] for key in ("type", "reason", "note")} == {
        "type": "Warning",
        "reason": "Warning",
        "note": new,
    }
    assert told.id != again.id  # so that it counts up


def test_k8s1_the_same_said_again_has_the_same_name_and_anything_else_another() -> None:
    names = [
        event_document(what, "pod")["metadata"]["name"]
        for what in (occurrence(), occurrence("2"), occurrence(note="other"), occurrence(action="Failed"))
    ]

    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_k8s1_a_repeated_event_counts_up_and_the_same_occurrence_does_not() -> None:
    known = event_document(occurrence("1"), "pod")
    known["metadata"]["resourceVersion"] = "7"

    assert counted_up(known, occurrence("1")) is None
    second = counted_up(known, occurrence("2"))
    assert second is not None
    assert second["metadata"]["resourceVersion"] == "7"
    assert second["series"] == {"count": 2, "lastObservedTime": "2026-01-02T03:04:05.000000Z"}
    third = counted_up({**known, "series": {"count": 2}}, occurrence("3"))
    assert third is not None
    assert third["series"]["count"] == 3


def test_k8s1_a_standstill_that_another_decision_explains_is_not_told_twice() -> None:
    failed = Decision(Action.EXECUTION_FAILED, Reason.NO_ROWS, "no rows", key="k")
    stalled = Decision(Action.STALLED, Reason.NO_ROWS, "no rows", key="k")
    other = Decision(Action.STALLED, Reason.INVALID_SPEC, "no such column", key="k")

    assert list(to_tell([failed, stalled])) == [failed]
    assert list(to_tell([stalled])) == [stalled]
    assert list(to_tell([failed, other])) == [failed, other]


def test_k8s1_that_something_was_started_is_the_jobs_own_event() -> None:
    started = Decision(Action.EXECUTION_STARTED, Reason.PROGRESSING, "ingest-1 was started", key="k")
    created = Decision(Action.VERSION_CREATED, Reason.PROGRESSING, "version 1", key="k")

    assert list(to_tell([started, created])) == [created]


@pytest.mark.parametrize(
    ("action", "type"),
    [(Action.STALLED, "Warning"), (Action.EXECUTION_FAILED, "Warning"), (Action.BEST_CHOSEN, "Normal")],
)
def test_k8s1_bad_news_is_a_warning(action: Action, type: str) -> None:
    decision = Decision(action, Reason.NO_ROWS, "no rows", key="k")

    assert event_document(of_decision(dataset(), decision, "id"), "pod")["type"] == type


def test_k8s1_a_note_is_as_long_as_the_api_allows() -> None:
    decision = Decision(Action.EXECUTION_FAILED, Reason.NO_ROWS, "ü" * 2000, key="k")

    note = of_decision(dataset(), decision, "id").note

    assert len(note.encode()) <= 1024
    assert note.endswith("ü …")
