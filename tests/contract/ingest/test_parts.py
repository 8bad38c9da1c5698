"""Parts beside one another, killed and repeated: one batch, always the same."""

from __future__ import annotations

import itertools
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from levada.artifacts import BatchManifest
from levada.names import MANIFEST
from levada.steps.agreed import LISTING
from levada.steps.ingest import whole
from levada.steps.ingest.commit import Draft
from levada.steps.ingest.whole import examine
from levada.steps.io import IngestOutput
from tests.conftest import s3_client
from tests.contract.ingest.conftest import Batch, Ingestion

CHECKS = [
    {"column": "a", "max": 900, "onViolation": "quarantine"},
    {"column": "b", "oneOf": ["x", "y"], "onViolation": "rectify"},
]


def _land(ingestion: Ingestion, files: int = 6) -> None:
    chance = random.Random(0)
    for number in range(files):
        lines = [f"{chance.randrange(1000)},{chance.choice('xyz')},{chance.random()}" for _ in range(200)]
        lines[chance.randrange(200)] = "bad"
        ingestion.put(f"{number}.csv", "a,b,c\n" + "\n".join(lines) + "\n")


def _lasting(batch: Batch) -> dict[str, str]:
    """Everything that a batch keeps but for when it was listed, and receipts."""
    return {
        key: digest
        for key, digest in batch.digests().items()
        if key not in (MANIFEST, LISTING) and not key.startswith("receipts/")
    }


def _same(manifest: BatchManifest) -> dict[str, Any]:
    return manifest.model_dump(exclude={"batch", "created_at"})


def test_ing3_parts_give_the_same_batch_as_one(ingestion: Ingestion) -> None:
    _land(ingestion)
    spec = ingestion.spec(quality=CHECKS)
    batches = [ingestion.run(spec, parts=parts) for parts in (1, 4, 9)]
    for batch in batches[1:]:
        assert _same(batch.manifest) == _same(batches[0].manifest)
        assert _lasting(batch) == _lasting(batches[0])


def test_ing3_parts_may_run_at_the_same_time(ingestion: Ingestion) -> None:
    _land(ingestion)
    spec = ingestion.spec(quality=CHECKS)
    alone = ingestion.run(spec)
    step = ingestion.input(spec, "batch-together", parts=4)
    outputs: list[IngestOutput | None] = []
    threads = [threading.Thread(target=lambda i=i: outputs.append(ingestion.run_index(step, i))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    committed = [output for output in outputs if output is not None]
    assert committed
    assert len({output.digest for output in committed}) == 1
    assert _same(committed[0].manifest) == _same(alone.manifest)
    events = [event.data["batch"] for event in ingestion.catalogue.pending_events()]
    assert events.count("batch-together") == 1


def test_ing3_an_index_that_another_overtakes_at_the_end_has_its_batch(
    ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    _land(ingestion, 2)
    step = ingestion.input(
        ingestion.spec(quality=[{"column": "a", "unique": True, "onViolation": "quarantine"}]), "b", 2
    )
    outputs = []

    def overtaken(*arguments: Any) -> Draft:
        monkeypatch.setattr(whole, "examine", examine)
        outputs.append(ingestion.run_index(step, 0))  # commits, and takes away what this one is about to read
        return examine(*arguments)

    monkeypatch.setattr(whole, "examine", overtaken)
    assert ingestion.run_index(step, 0) is None

    outputs.append(ingestion.run_index(step, 1))

    assert outputs[0] is not None
    assert outputs[0] == outputs[1]


def test_an_index_that_has_left_its_receipt_does_its_work_once(ingestion: Ingestion) -> None:
    _land(ingestion, 2)
    step = ingestion.input(ingestion.spec(), "batch-x", parts=2)
    assert ingestion.run_index(step, 0) is None
    prefix = ingestion.prefix("batch-x")
    before = {info.key: info.etag for info in ingestion.objects.list(prefix)}
    ingestion.objects.delete_prefix(prefix + "typed/")
    assert ingestion.run_index(step, 0) is None
    after = {info.key: info.etag for info in ingestion.objects.list(prefix)}
    assert after == {key: etag for key, etag in before.items() if not key.startswith(prefix + "typed/")}


def test_x5_a_part_that_was_refused_ends_the_batch_once_the_source_is_right(ingestion: Ingestion) -> None:
    """The other parts have ended by then, and engines run no part twice that ended well."""
    ingestion.put("1.csv", "a\n1\n")
    ingestion.put("2.csv", "")
    ingestion.put("3.csv", "a\n3\n")
    spec = ingestion.spec(schema={"columns": [{"name": "a", "type": "int64"}]})
    step = ingestion.input(spec, "batch-x", parts=3)
    assert [ingestion.process(step, index)[0] for index in range(3)] == [0, 65, 0]
    ingestion.put("2.csv", "a\n2\n")
    ingestion.put("0.csv", "a\n0\n")
    code, termination = ingestion.process(step, 1)
    assert code == 0
    output = ingestion.output(termination)
    assert output is not None
    assert [row["a"] for row in Batch(ingestion, output).rows] == [0, 1, 2, 3]


def test_a_batch_that_is_there_is_returned_as_it_is(ingestion: Ingestion) -> None:
    _land(ingestion, 2)
    spec = ingestion.spec(quality=CHECKS)
    first = ingestion.run(spec, batch="batch-x")
    ingestion.warnings.clear()
    keys = first.digests()
    ingestion.put("0.csv", "something else")
    again = ingestion.run_index(ingestion.input(spec, "batch-x"), 0)
    assert again == first.output
    assert first.digests() == keys
    assert "of 400 rows were set aside" in ingestion.warnings[0]


def test_x5_killed_after_any_write_and_run_again_gives_the_same_batch(ingestion: Ingestion, tmp_path: Path) -> None:
    _land(ingestion, 1)
    checks = [*CHECKS, {"column": "a", "unique": True, "onViolation": "quarantine"}]
    spec = ingestion.spec(quality=checks)
    alone = ingestion.run(spec, batch="batch-alone")
    assert alone.manifest.quality[-1].violations > 0
    killed = 0
    for number in itertools.count(1):
        step = ingestion.input(spec, f"batch-{number}")
        count = str(tmp_path / f"writes{number}")
        code, termination = ingestion.process(step, 0, LEVADA_FAILPOINT_FILE=count, LEVADA_FAILPOINT_AT=str(number))
        if code == 0:
            break
        assert code == -9
        killed += 1
        seen = ingestion.objects.info(ingestion.prefix(f"batch-{number}") + MANIFEST)
        assert ingestion.catalogue.lineage(f"batch-{number}") == [] or seen is not None
        code, termination = ingestion.process(step, 0)
        assert code == 0
        output = ingestion.output(termination)
        assert output is not None
        assert _same(output.manifest) == _same(alone.manifest)
        assert _lasting(Batch(ingestion, output)) == _lasting(alone)
        assert [node.type for node in ingestion.catalogue.lineage(f"batch-{number}")][:1] == ["batch"]
    assert killed >= 10
    events = [event.data["batch"] for event in ingestion.catalogue.pending_events()]
    assert sorted(events) == sorted(set(events))


def test_a_user_error_ends_the_process_with_65_and_one_sentence(ingestion: Ingestion) -> None:
    ingestion.put("a.csv", b"")
    code, termination = ingestion.process(ingestion.input(ingestion.spec(), "batch-x"), 0)
    assert code == 65
    assert termination is not None
    assert termination.error is not None
    assert termination.error.reason.value == "InvalidData"
    assert termination.error.message.startswith("a.csv is empty: remove it")


def test_a_batch_holds_what_its_manifest_names_whatever_was_there_before(ingestion: Ingestion) -> None:
    """Files were renamed and taken away after other parts had copied them."""
    for number in range(4):
        ingestion.put(f"{number}.csv", "a\n1\nbad,line\n" if number != 1 else "")
    step = ingestion.input(ingestion.spec(schema={"columns": [{"name": "a", "type": "int64"}]}), "batch-x", parts=3)
    assert [ingestion.process(step, index)[0] for index in range(3)] == [0, 65, 0]
    landing = s3_client(ingestion.endpoints.objects)
    for number in range(4):
        landing.remove_object(ingestion.landing, f"in/{number}.csv")
    ingestion.put("new.csv", "a\n2\n")
    code, termination = ingestion.process(step, 1)
    assert code == 0
    output = ingestion.output(termination)
    assert output is not None
    batch = Batch(ingestion, output)
    kept = {key for key in batch.digests() if key.split("/")[0] in ("original", "typed", "quarantine")}
    assert kept == {"original/new.csv", "typed/00000.parquet"}
    assert [row["a"] for row in batch.rows] == [2]
