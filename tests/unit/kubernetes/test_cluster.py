"""What answers of the API server mean to the engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client

from levada.engines.kubernetes.cluster import Cluster, Conflict, Missing, Refused, Unavailable
from levada.engines.local.embedded import free_ports
from levada.names import Kind
from levada.resources import Ref

REF = Ref(Kind.DATASET, "here", "shops")


@pytest.fixture
def answering() -> Iterator[Callable[[int, str], tuple[Cluster, list[str]]]]:
    """Makes a cluster whose API server always gives the same answer, and a list of what it was asked."""
    servers: list[ThreadingHTTPServer] = []

    def make(status: int, body: str) -> tuple[Cluster, list[str]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append(f"{self.command} {self.path.partition('?')[0]}")
                data = body.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return Cluster(api(server.server_port), ("here",)), asked

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def api(port: int) -> client.ApiClient:
    configuration = client.Configuration(host=f"http://127.0.0.1:{port}")
    configuration.retries = False
    return client.ApiClient(configuration)


def status(message: str, reason: str = "") -> str:
    return json.dumps({"kind": "Status", "message": message, "reason": reason})


@pytest.mark.parametrize(
    ("code", "body", "error"),
    [
        (409, status("the object has been modified"), Conflict),
        (410, status("the provided continue parameter is too old"), Unavailable),
        (429, status("too many requests, please try again later"), Unavailable),
        (500, status("etcdserver: request timed out"), Unavailable),
        (503, "no backend", Unavailable),
        (403, status("exceeded quota"), Refused),
        (422, status("spec is invalid"), Refused),
        (404, status("not found"), Refused),
        (404, "404 page not found", Missing),
    ],
)
def test_x5_answers_say_what_happens_next(answering: Any, code: int, body: str, error: type[Exception]) -> None:
    cluster, asked = answering(code, body)

    with pytest.raises(error):
        cluster.write_status(REF, "1", {})

    assert len(asked) == 1  # the queue tries again, after it has looked


def test_x5_a_job_of_that_name_is_the_same_and_any_other_conflict_has_made_none(answering: Any) -> None:
    document = {"metadata": {"name": "shops-ingest-1", "namespace": "here"}}

    cluster, _ = answering(409, status("it exists", "AlreadyExists"))
    assert cluster.make_job(document) is None

    cluster, _ = answering(409, status("Operation cannot be fulfilled on resourcequotas", "Conflict"))
    with pytest.raises(Conflict, match="resourcequotas"):
        cluster.make_job(document)


def test_k8s1_without_the_definitions_it_is_said_what_to_apply(answering: Any) -> None:
    cluster, _ = answering(404, "404 page not found")

    with pytest.raises(Missing, match="is not installed: apply Levada's definitions first"):
        list(cluster.resources(Kind.DATASET))


def test_x5_no_answer_means_patience() -> None:
    (port,) = free_ports(1)

    with pytest.raises(Unavailable, match="does not answer"):
        list(Cluster(api(port)).resources(Kind.DATASET))


def test_x5_deleting_what_is_gone_is_well(answering: Any) -> None:
    for code in (404, 409):
        cluster, asked = answering(code, status("another by now"))

        cluster.delete_job({"metadata": {"name": "shops-ingest-1", "namespace": "here", "uid": "uid"}})

        assert len(asked) == 1
