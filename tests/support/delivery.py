"""A namespace that Flux fills from a Git repository: the example repository, with an operator beside it."""

from __future__ import annotations

import gzip
import io
import random
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from levada import names
from levada.names import Kind
from tests.conftest import s3_client
from tests.support.gitserver import GitServer
from tests.support.space import Space
from tests.support.waiting import until

Document = dict[str, Any]

EXAMPLE = Path(__file__).parents[2] / "deploy" / "gitops"
OVERLAY = "apps/overlays/production"
NAME = "flights"  # of the GitRepository and of the Kustomization
SOURCE = ("source.toolkit.fluxcd.io", "v1", "gitrepositories")
KUSTOMIZATION = ("kustomize.toolkit.fluxcd.io", "v1", "kustomizations")
KINDS = {Kind.DATASET: "flights", Kind.FEATURE_SET: "flights", Kind.TRAINING_RUN: "flights-late"}

GIVE_UP = 240.0  # seconds; a guard, not a measurement: it takes several steps, one after the other

_tokens = count(1)


@dataclass
class Delivery:
    """The example repository on its way into a namespace. `git.clone` is where it can be changed."""

    space: Space
    git: GitServer

    def prepare(self) -> None:
        """Put raw flights, and the Secret that reads them, where the manifests look; and the example into the clone."""
        store = self.space.stores.objects
        data = gzip.compress(_flights(300).encode(), mtime=0)
        key = f"landing/{self.space.namespace}/flights/2013-01.csv.gz"
        s3_client(store).put_object(store.bucket, key, io.BytesIO(data), len(data))
        secret = {"accessKey": store.access_key, "secretKey": store.secret_key}
        document = {"metadata": {"name": "landing"}, "stringData": secret}
        self.space.core.create_namespaced_secret(self.space.namespace, document)
        shutil.copytree(EXAMPLE, self.git.clone, dirs_exist_ok=True)

    def start(self) -> None:
        """Tell Flux about the repository, as the example does for production, but here and with this data.

        Flux looks when it is asked to, so that nothing waits for an interval.
        """
        source, kustomization = yaml.safe_load_all((EXAMPLE / "clusters/flux/production/flights.yaml").read_text())
        assert kustomization["spec"]["path"] == f"./{OVERLAY}"
        place = f"s3://{self.space.stores.objects.bucket}/landing/{self.space.namespace}/flights/"
        uri = [{"op": "replace", "path": "/spec/source/object/uri", "value": place}]
        source["spec"] |= {"url": self.git.url, "interval": "1h"}
        kustomization["spec"] |= {
            "interval": "1h",
            "retryInterval": "1h",
            "timeout": "4m",
            "targetNamespace": self.space.namespace,
            "patches": [{"target": {"kind": "Dataset", "name": "flights"}, "patch": yaml.safe_dump(uri)}],
        }
        for (group, version, plural), document in ((SOURCE, source), (KUSTOMIZATION, kustomization)):
            document["metadata"]["namespace"] = self.space.namespace
            self.space.custom.create_namespaced_custom_object(
                group, version, self.space.namespace, plural, document, field_validation="Strict"
            )

    def end(self) -> None:
        """Take the repository away, and with it all that came from it."""
        for group, version, plural in (KUSTOMIZATION, SOURCE):
            where = (group, version, self.space.namespace, plural)
            items = self.space.custom.list_namespaced_custom_object(*where)["items"]
            for item in items:
                self.space.custom.delete_namespaced_custom_object(*where, item["metadata"]["name"])
            until(lambda where=where: not self.space.custom.list_namespaced_custom_object(*where)["items"])  # type: ignore[misc]

    def status(self) -> Document:
        """The status of Flux's Kustomization."""
        found: Document = self._get(KUSTOMIZATION)
        return dict(found.get("status", {}))

    def ready(self) -> Document:
        """The condition Ready of Flux's Kustomization; empty as long as there is none."""
        conditions = self.status().get("conditions", ())
        return next((c for c in conditions if c["type"] == "Ready"), {})

    def pull(self) -> None:
        """Have Flux look into the repository."""
        self._request(SOURCE)

    def reconcile(self) -> None:
        """Have Flux apply the revision that it knows once more, and wait until it has."""
        token = self._request(KUSTOMIZATION)
        until(lambda: self.status().get("lastHandledReconcileAt") == token)

    def wait_for(self, commit: str) -> None:
        """Wait until all that a commit asks for is carried out, and Flux says so."""

        def look() -> bool:
            return commit in self.status().get("lastAppliedRevision", "") and self.ready().get("status") == "True"

        try:
            until(look, self.space.operator, GIVE_UP)
        except AssertionError as error:
            found = [(kind, self.there(kind)) for kind in KINDS]
            raise AssertionError(f"{error}\n{self.status()}\n{found}\n{self.space.log.read_text()}") from None

    def there(self, kind: Kind) -> list[str]:
        """The names of the resources of a kind."""
        where = (names.GROUP, names.VERSION, self.space.namespace, names.PLURALS[kind])
        found = self.space.custom.list_namespaced_custom_object(*where)["items"]
        return [resource["metadata"]["name"] for resource in found]

    def changes(self) -> list[str]:
        """What Flux says that it has changed, in its events."""
        events = self.space.core.list_namespaced_event(self.space.namespace).items
        ours = [event for event in events if event.involved_object.kind == "Kustomization"]
        lines = [line for event in ours for line in event.message.splitlines()]
        return [line for line in lines if line.endswith((" configured", " created", " deleted"))]

    def _get(self, type: tuple[str, str, str]) -> Document:
        group, version, plural = type
        found: Document = self.space.custom.get_namespaced_custom_object(
            group, version, self.space.namespace, plural, NAME
        )
        return found

    def _request(self, type: tuple[str, str, str]) -> str:
        group, version, plural = type
        token = f"request-{next(_tokens)}"
        body = {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": token}}}
        self.space.custom.patch_namespaced_custom_object(group, version, self.space.namespace, plural, NAME, body)
        return token


def _flights(rows: int) -> str:
    """Flights as CSV: the later in the day and the shorter, the more of them are late."""
    dice = random.Random(7)
    start = datetime(2013, 1, 1, 5, tzinfo=UTC)
    lines = ["carrier,flight,origin,time_hour,sched_dep_time,distance,arr_delay"]
    for number in range(rows):
        time = start + timedelta(minutes=37 * number)
        distance = dice.randrange(100, 2500)
        likely = 0.1 + 0.4 * (time.hour > 15) + 0.3 * (distance < 800)
        delay = dice.randrange(20, 90) if dice.random() < likely else dice.randrange(-20, 10)
        carrier, origin = dice.choice(["UA", "DL", "B6"]), dice.choice(["EWR", "JFK", "LGA"])
        hour = time.replace(minute=0).isoformat().replace("+00:00", "Z")
        lines.append(f"{carrier},{number},{origin},{hour},{time.hour * 100 + time.minute},{distance},{delay}")
    return "\n".join(lines) + "\n"


def edited(path: Path, old: str, new: str) -> None:
    """Change a text in a file that holds it once."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def labels_of_flux(document: Document) -> set[str]:
    """The labels by which Flux knows what it has applied."""
    return {label for label in document["metadata"].get("labels", {}) if label.endswith("toolkit.fluxcd.io/name")}
