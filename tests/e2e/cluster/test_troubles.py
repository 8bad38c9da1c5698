"""What goes wrong on a cluster is said in the status, by a sentence that names it and what to do."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from tests.e2e.cluster.installed import Document, Installed
from tests.e2e.pipelines import condition, manifest, small_pipeline
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

NODE_IS_FULL = {"resources": {"requests": {"cpu": "900"}}}
TOO_LITTLE_MEMORY = {"resources": {"limits": {"memory": "24Mi"}}}
NO_SUCH_IMAGE = {"podTemplate": {"spec": {"containers": [{"name": "step", "image": "localhost/levada/none:none"}]}}}
PASSWORD = "let-me-in-please"
SOON = {"deadline": "1s", "podTemplate": {"spec": {"nodeSelector": {"levada.dev/none": "here"}}}}
WAITS, ENDED = ("Ready", "Unknown"), ("Stalled", "True")


@pytest.fixture
def shops(levada: Installed, tmp_path: Path) -> Iterator[Document]:
    """A Dataset whose data is there."""
    levada.clear()
    levada.forget()
    levada.upload(small_pipeline(tmp_path, 20).folder)
    yield manifest("Dataset", "shops")
    levada.clear()


def says(levada: Installed, *words: str, type: str = "Ready") -> Document:
    """A condition of the Dataset once it says all of this."""
    found: Document = {}

    def look() -> Document | None:
        nonlocal found
        dataset = levada.get("dset/shops")
        found = condition(dataset, type) if "status" in dataset else {}
        return found if all(word in found.get("message", "") for word in words) else None

    try:
        return until(look)
    except AssertionError:
        raise AssertionError(f"it says: {found}\n{levada.operator_log()}") from None


@pytest.mark.parametrize(
    ("spec", "stands", "words"),
    [
        pytest.param(NO_SUCH_IMAGE, WAITS, ["does not start", "image cannot be pulled"], id="no such image"),
        pytest.param(NODE_IS_FULL, WAITS, ["fits on no node", "Insufficient cpu"], id="fits on no node"),
        pytest.param(
            TOO_LITTLE_MEMORY, ENDED, ["more memory than it may", "spec.resources.limits.memory"], id="memory"
        ),
        pytest.param(SOON, ENDED, ["deadline of 1 s passed", "spec.deadline"], id="deadline"),
    ],
)
def test_x5_a_step_that_cannot_start_or_was_ended_says_why(
    levada: Installed, shops: Document, spec: Document, stands: tuple[str, str], words: list[str]
) -> None:
    levada.apply(with_spec(shops, {"retries": 0, **spec}))

    type, status = stands
    assert says(levada, *words, type=type)["status"] == status


def test_x3_a_secret_that_is_not_there_is_named(levada: Installed, shops: Document) -> None:
    spec = deepcopy(shops["spec"])
    spec["source"]["object"]["credentials"] = {"secretRef": {"name": "nowhere"}}
    levada.apply({**shops, "spec": spec})

    says(levada, "nowhere")


def test_x5_a_full_quota_is_said_and_the_step_runs_once_there_is_room(levada: Installed, shops: Document) -> None:
    quota: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "full"},
        "spec": {"hard": {"pods": "0"}},
    }
    levada.apply(quota)
    try:
        levada.apply(shops)
        says(levada, "quota")
    finally:
        levada.run("delete", "resourcequota", "full")
    levada.wait("dset/shops", "Ready")


def test_x3_a_user_without_the_right_to_a_source_is_told_so(levada: Installed, shops: Document) -> None:
    settings = levada.settings()
    keys = StaticProvider(settings.objects_access_key, settings.objects_secret_key.get_secret_value())
    minio = MinioAdmin(endpoint=urlsplit(settings.objects_endpoint).netloc, credentials=keys, secure=False)
    secret: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "visitor"},
        "stringData": {"accessKey": "visitor", "secretKey": PASSWORD},
    }
    spec = deepcopy(shops["spec"])
    spec["source"]["object"] |= {
        "uri": f"s3://{settings.objects_bucket}/sources/{levada.namespace}/data/shops.csv",
        "credentials": {"secretRef": {"name": "visitor"}},
    }
    minio.user_add("visitor", PASSWORD)  # who may nothing
    try:
        levada.apply(secret, {**shops, "spec": spec})

        stalled = says(levada, "refuses the bucket", "the rights that they have", type="Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", "AccessDenied")
    finally:
        minio.user_remove("visitor")
        levada.run("delete", "secret", "visitor")


def test_x3_a_user_without_the_right_to_the_catalogue_is_told_so(levada: Installed, shops: Document) -> None:
    dsn = levada.settings().postgres_dsn.get_secret_value()
    theirs = b64decode(levada.get("secret", "levada-stores")["data"]["LEVADA_POSTGRES_DSN"]).decode()
    visitors = urlsplit(theirs)._replace(netloc=f"visitor:{PASSWORD}@{theirs.rpartition('@')[2].partition('/')[0]}")
    step = {"name": "step", "env": [{"name": "LEVADA_POSTGRES_DSN", "value": visitors.geturl()}]}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create role visitor login password '{PASSWORD}'")  # who may nothing
        try:
            levada.apply(with_spec(shops, {"retries": 0, "podTemplate": {"spec": {"containers": [step]}}}))

            says(levada, "refuses this user", "permission denied")
        finally:
            connection.execute("drop role visitor")


def with_spec(dataset: Document, fields: Document) -> Document:
    return {**dataset, "spec": {**dataset["spec"], **fields}}
