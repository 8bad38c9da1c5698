"""What a pipeline has made in a namespace, without what differs from one run to the next: names of what is derived."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import psycopg
from kubernetes import client

from levada import names
from levada.engines.kubernetes.kube_events import CONTROLLER
from levada.names import PLURALS, Kind
from tests.support.space import Document, Space

Outcome = dict[str, Counter[Any]]


def outcome(space: Space) -> Outcome:
    """How many there are of what a pipeline makes: two are the same where the same has been done as often."""
    jobs = space.jobs()
    mine = tuple(f"{job.metadata.name}-" for job in jobs)
    starts = Counter(name.rpartition("-")[0] for name in space.pods.ran if name.startswith(mine))  # of each index
    return {
        "statuses": Counter(said for document in resources(space) for said in _said(document)),
        "jobs": Counter((j.metadata.labels[names.LABEL_KIND], j.spec.completions, j.status.succeeded) for j in jobs),
        "starts of an index": Counter(starts.values()),
        "events": Counter(map(_told, events(space))),
        "artifacts": _count(space, "artifacts", "type"),
        "audit": _count(space, "audit", "kind, action, reason"),
    }


def resources(space: Space) -> list[Document]:
    """All of Levada's resources in the namespace."""
    found = []
    for kind in Kind:
        where = (names.GROUP, names.VERSION, space.namespace, PLURALS[kind])
        found += space.custom.list_namespaced_custom_object(*where)["items"]
    return found


def _said(document: Document) -> list[tuple[Any, ...]]:
    """Its conditions, and what it came to."""
    kind, status = document["kind"], document.get("status", {})
    conditions = [(kind, c["type"], c["status"], c["reason"]) for c in status.get("conditions", ())]
    measures = [("latestBatch", "rows"), ("latestVersion", "rows"), ("best", "value")]
    return conditions + [(kind, of, what, status[of][what]) for of, what in measures if of in status]


def events(space: Space) -> list[Document]:
    """The operator's. As JSON, since those of the Job controller lack what the typed objects demand."""
    events = client.EventsV1Api(space.core.api_client)
    answer: Any = events.list_namespaced_event(space.namespace, _preload_content=False)
    return [event for event in json.loads(answer.data)["items"] if event.get("reportingController") == CONTROLLER]


def _told(event: Document) -> tuple[str, ...]:
    count = event.get("series", {}).get("count", 1)
    return event["regarding"]["kind"], event["type"], event["reason"], event["action"], str(count)


def _count(space: Space, table: str, columns: str) -> Counter[Any]:
    sql = f"SELECT {columns} FROM {table} WHERE namespace = %s"
    with psycopg.connect(space.stores.postgres) as connection:
        return Counter(connection.execute(sql.encode(), (space.namespace,)).fetchall())
