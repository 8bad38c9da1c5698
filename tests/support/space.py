"""A namespace of a real API server with an operator of its own, as tests use it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from levada import names
from levada.engines.local.servers import Endpoints
from levada.names import PLURALS, Kind
from tests.conftest import s3_client
from tests.e2e.pipelines import PIPELINE, condition, orders, shops, write_csv
from tests.support.apiserver import ApiServer
from tests.support.controllers import PodRunner
from tests.support.waiting import until

Document = dict[str, Any]


@dataclass
class Space:
    """A namespace with the Secret of the stores, an operator of its own, and what looks at it."""

    namespace: str
    api: ApiServer
    core: client.CoreV1Api
    batch: client.BatchV1Api
    custom: client.CustomObjectsApi
    stores: Endpoints
    pods: PodRunner
    log: Path
    settings: dict[str, str] = field(default_factory=dict)  # of operators that are started from now on
    operator: subprocess.Popen[bytes] | None = None
    replicas: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start the operator."""
        self.operator = self.replica(self.log)

    def replica(self, log: Path, **settings: str) -> subprocess.Popen[bytes]:
        """Start an operator that logs to a file."""
        environment = self.stores.environment() | {
            "KUBECONFIG": str(self.api.kubeconfig),
            "LEVADA_STEPS_IMAGE": "levada/steps",
            "LEVADA_NAMESPACES": self.namespace,
        }
        with log.open("ab") as output:
            command = [sys.executable, "-m", "levada.cli", "operator"]
            environment = os.environ | environment | self.settings | settings
            self.replicas.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        return self.replicas[-1]

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the operator."""
        assert self.operator is not None
        self.operator.send_signal(number)
        self.operator.wait(60)

    def end_all(self) -> None:
        """End every operator that still runs."""
        for replica in self.replicas:
            if replica.poll() is None:
                replica.send_signal(signal.SIGCONT)
                replica.terminate()
        for replica in self.replicas:
            replica.wait(60)

    def apply(self, *documents: Document) -> None:
        for document in documents:
            plural = PLURALS[Kind(document["kind"])]
            where = (names.GROUP, names.VERSION, self.namespace, plural)
            self.custom.create_namespaced_custom_object(*where, document)

    def get(self, kind: Kind, name: str) -> Document:
        where = (names.GROUP, names.VERSION, self.namespace, PLURALS[kind], name)
        found: Document = self.custom.get_namespaced_custom_object(*where)
        return found

    def wait(self, kind: Kind, name: str, type: str) -> Document:
        """The resource once a condition of it is true."""

        def look() -> Document | None:
            found = self.get(kind, name)
            return found if condition_is_true(found, type) else None

        try:
            return until(look, self.operator)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.get(kind, name).get('status')}\n{self.log.read_text()}") from None

    def jobs(self) -> list[Any]:
        return list(self.batch.list_namespaced_job(self.namespace).items)


def condition_is_true(document: Document, type: str) -> bool:
    if document["status"].get("observedGeneration") != document["metadata"]["generation"]:
        return False
    return condition(document, type).get("status") == "True"


def done(space: Space, run: str) -> bool:
    """Whether a TrainingRun is complete."""
    return condition_is_true(space.get(Kind.TRAINING_RUN, run), "Complete")


def land(space: Space, folder: Path, rows: int = 200) -> None:
    """Raw files in the bucket, below the namespace's name."""
    data = orders(rows)
    write_csv(folder / "orders/a.csv", data[: rows // 2])
    write_csv(folder / "orders/b.csv", data[rows // 2 :])
    write_csv(folder / "shops.csv", shops())
    storage = s3_client(space.stores.objects)
    for path in sorted(folder.rglob("*.csv")):
        key = f"landing/{space.namespace}/{path.relative_to(folder)}"
        storage.fput_object(space.stores.objects.bucket, key, str(path))


def pipeline(space: Space, *kinds: Kind) -> list[Document]:
    """The resources of the small pipeline that are of these kinds, with their raw data in the bucket."""
    place = f"s3://{space.stores.objects.bucket}/landing/{space.namespace}/"
    documents = [d for d in yaml.safe_load_all(PIPELINE.replace("./data/", place)) if Kind(d["kind"]) in kinds]
    assert documents
    return documents
