"""The score step against the real stores."""

from __future__ import annotations

import gzip
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from levada import names
from levada.artifacts import (
    BatchManifest,
    FeatureManifest,
    Listing,
    LookupColumn,
    LookupSpec,
    ModelManifest,
    StoredFile,
)
from levada.errors import Stalled
from levada.events import EventType
from levada.features.model import CHUNK_ROWS, OnnxModel
from levada.features.tensors import to_tensor
from levada.features.types import ColumnType
from levada.names import Kind
from levada.resources.conditions import Reason
from levada.resources.dataset import Column, Format, ObjectSource
from levada.resources.status import InputVersion
from levada.steps import score
from levada.steps.agreed import LISTING
from levada.steps.context import StepContext
from levada.steps.io import ScoreOutput, ScoreWork
from levada.steps.prepare import engine
from tests.support.steps import Bench
from tests.support.training import DERIVE, FEATURES, model_of, run_training, things, train_work
from tests.support.versions import NAMESPACE, column_type, prefix_of, write_version

RUN = "things-scores"
BOOSTED = {"name": "one", "type": "boostedTrees", "params": {"maxIterations": 10}}
LOGISTIC = {"name": "one", "type": "logisticRegression"}


def version(bench: Bench, table: pa.Table | None = None, **more: Any) -> FeatureManifest:
    settings: dict[str, Any] = {"keys": ["id"], "timestamp": "at", "features": FEATURES, "derive": DERIVE} | more
    return write_version(bench.objects, things() if table is None else table, **settings)


def trained(
    bench: Bench, manifest: FeatureManifest, algorithm: dict[str, Any] | None = None, **more: Any
) -> ModelManifest:
    work = train_work(manifest, [algorithm or BOOSTED], **more)
    return model_of(bench, run_training(bench, work))


def work_for(model: ModelManifest, manifest: FeatureManifest | None = None, **more: Any) -> ScoreWork:
    fields: dict[str, Any] = {
        "execution": "scoring-0000000000000001",
        "candidate": model.candidate,
        "model_prefix": names.model_prefix(model.namespace, model.candidate),
        "source": "featureSet",
    }
    if manifest is not None:
        fields["prefixes"] = [prefix_of(manifest)]
        fields["input"] = InputVersion(kind="FeatureSet", name=manifest.feature_set, ids=[manifest.version])
    return ScoreWork.model_validate(fields | more)


def context(bench: Bench, work: ScoreWork, index: int = 0, parts: int = 1) -> StepContext:
    made = bench.context(work, Kind.SCORING_RUN, RUN, index, parts)
    made.scratch = bench.scratch / f"{work.execution}-{index}-{len(list(bench.scratch.iterdir()))}"
    made.scratch.mkdir()
    return made


def run(bench: Bench, work: ScoreWork, parts: int = 1, order: Sequence[int] | None = None) -> ScoreOutput:
    outputs = [score.run(context(bench, work, index, parts)) for index in order or range(parts)]
    assert all(output is None for output in outputs[:-1])
    assert outputs[-1] is not None
    return outputs[-1]


def scores(bench: Bench, output: ScoreOutput) -> pa.Table:
    files = [bench.objects.get(output.prefix + file.key) for file in output.manifest.files]
    return pa.concat_tables(pq.read_table(io.BytesIO(data)) for data in files)


def catalogue(bench: Bench, what: str = "*") -> list[tuple[Any, ...]]:
    dsn = bench.settings.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn) as connection:
        return connection.execute(f"select {what} from scores order by row").fetchall()


def leftovers(bench: Bench) -> int:
    dsn = bench.settings.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn) as connection:
        found = connection.execute("select count(*) from score_rows").fetchone()
    assert found is not None
    return int(found[0])


def directly(bench: Bench, model: ModelManifest, table: pa.Table) -> dict[str, Any]:
    session = OnnxModel(bench.objects.get(names.model_prefix(model.namespace, model.candidate) + "model.onnx"))
    return session.run({c.name: to_tensor(table.column(c.name), c.type, c.name) for c in model.inputs})


@pytest.mark.parametrize("algorithm", [BOOSTED, LOGISTIC], ids=lambda a: str(a["type"]))
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_score1_scores_have_the_bits_of_one_run_however_they_are_divided(
    bench: Bench, algorithm: dict[str, Any], parts: int
) -> None:
    table = things(403)
    manifest = version(bench, table, files=3, row_group_rows=50)
    model = trained(bench, manifest, algorithm)
    found = scores(bench, run(bench, work_for(model, manifest), parts))
    expected = directly(bench, model, table)
    probabilities = found["probabilities"].combine_chunks().flatten().to_numpy().reshape(-1, 2)
    assert probabilities.tobytes() == expected["probabilities"].tobytes()
    assert found["value"].to_numpy().tobytes() == expected["probabilities"][:, 1].tobytes()
    assert found["label"].to_numpy().tobytes() == expected["label"].tobytes()
    assert found["row"].to_pylist() == list(range(403))


def test_score1_a_row_alone_has_the_same_bits_as_in_the_batch(bench: Bench) -> None:
    table = things(50)
    manifest = version(bench, table)
    model = trained(bench, manifest, LOGISTIC)
    found = scores(bench, run(bench, work_for(model, manifest)))
    for row in range(50):
        alone = directly(bench, model, table.slice(row, 1))["probabilities"]
        assert np.float32(found["value"][row].as_py()).tobytes() == alone[0, 1].tobytes()


def test_score4_more_rows_than_one_run_takes_stay_in_order(bench: Bench) -> None:
    table = things(2 * CHUNK_ROWS + 1001)
    manifest = version(bench, table)
    model = trained(bench, manifest, LOGISTIC)
    found = scores(bench, run(bench, work_for(model, manifest, catalogue=False), 2))
    assert found["row"].to_pylist() == found["id"].to_pylist()
    expected = directly(bench, model, table)["probabilities"][:, 1]
    assert found["value"].to_numpy().tobytes() == np.ascontiguousarray(expected).tobytes()


def test_score4_keys_and_time_come_with_the_scores(bench: Bench) -> None:
    manifest = version(bench)
    output = run(bench, work_for(trained(bench, manifest), manifest))
    found = scores(bench, output)
    assert found.column_names == ["row", "id", "at", "value", "label", "probabilities"]
    assert (output.manifest.rows, output.manifest.files[0].rows) == (400, 400)
    assert [given.ids for given in output.manifest.inputs] == [[manifest.version]]


def test_score4_columns_can_be_chosen(bench: Bench) -> None:
    manifest = version(bench)
    work = work_for(trained(bench, manifest), manifest, columns=["kind", "load"])
    assert scores(bench, run(bench, work)).column_names[:3] == ["row", "kind", "load"]


def test_score4_score_rows_go_into_the_catalogue(bench: Bench) -> None:
    manifest = version(bench)
    model = trained(bench, manifest)
    found = scores(bench, run(bench, work_for(model, manifest), 3))
    rows = catalogue(bench, "id, row, value, label, entity, event_time, candidate")
    assert [row[1] for row in rows] == list(range(400))
    assert [row[2] for row in rows] == found["value"].to_pylist()
    assert rows[7][0] == "scoring-0000000000000001:7"
    assert rows[7][3] == str(found["label"][7].as_py())
    assert rows[7][4:] == ("7", datetime(2024, 1, 1, 7, tzinfo=UTC), model.candidate)


def test_score4_without_the_catalogue_there_are_only_files(bench: Bench) -> None:
    manifest = version(bench)
    run(bench, work_for(trained(bench, manifest), manifest, catalogue=False))
    assert catalogue(bench) == []


def test_score4_the_end_is_announced_once_and_lineage_goes_back_from_a_score(bench: Bench) -> None:
    manifest = version(bench)
    model = trained(bench, manifest)
    work = work_for(model, manifest)
    output = run(bench, work)
    assert run(bench, work) == output
    events = [event for event in bench.catalogue.pending_events() if event.type is EventType.SCORES_READY]
    assert [event.data["rows"] for event in events] == [400]
    lineage = {node.type for node in bench.catalogue.lineage(f"{work.execution}:5")}
    assert {"score", "scores", "candidate", "split"} <= lineage


def test_score4_parts_may_end_in_any_order(bench: Bench) -> None:
    manifest = version(bench)
    output = run(bench, work_for(trained(bench, manifest), manifest), 3, order=[2, 0, 1])
    assert [file.key for file in output.manifest.files] == [f"part-0000{i}-of-00003.parquet" for i in range(3)]
    assert scores(bench, output)["row"].to_pylist() == list(range(400))


def test_score4_more_parts_than_rows_leave_some_empty(bench: Bench) -> None:
    manifest = version(bench)
    model = trained(bench, manifest)
    few = version(bench, things(3), name="few")
    output = run(bench, work_for(model, few), 5)
    assert output.manifest.rows == 3
    assert scores(bench, output)["row"].to_pylist() == [0, 1, 2]


def test_score4_the_test_part_alone_is_numbered_anew(bench: Bench) -> None:
    manifest = version(bench)
    model = trained(bench, manifest, split={"type": "sequential", "shuffle": False})
    found = scores(bench, run(bench, work_for(model, manifest, part="test"), 2))
    assert found["row"].to_pylist() == list(range(80))
    assert found["id"].to_pylist() == list(range(320, 400))


def test_x5_a_part_that_was_killed_and_runs_again_leaves_no_row_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = version(bench)
    work = work_for(trained(bench, manifest), manifest)
    put = type(bench.objects).put

    def killed(self: Any, key: str, data: bytes) -> None:
        if "receipts" in key:
            raise KeyboardInterrupt
        put(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(type(bench.objects), "put", killed)
        with pytest.raises(KeyboardInterrupt):
            run(bench, work)
    assert leftovers(bench) == 400
    assert catalogue(bench) == []  # not seen before all is committed
    first = bench.objects.get(names.scores_prefix(NAMESPACE, RUN, work.execution) + "part-00000-of-00001.parquet")
    output = run(bench, work)
    assert bench.objects.get(output.prefix + "part-00000-of-00001.parquet") == first
    assert len(catalogue(bench)) == leftovers(bench) == 400


def looked_up(bench: Bench) -> tuple[FeatureManifest, pa.Table]:
    """A version whose rows have `size` by lookup of `id`, and the same rows without it; one key is not found."""
    table = things(200).drop_columns(["size", "price"])
    sizes = pa.table({"id": np.arange(0, 199), "size": np.linspace(5, 15, 199)})
    other = write_version(bench.objects, sizes, name="sizes", label=None, keys=["id"])
    spec = LookupSpec(
        feature_set="sizes",
        namespace=NAMESPACE,
        version=other.version,
        prefix=prefix_of(other),
        on=["id"],
        keys=["id"],
        key_types=[ColumnType.INT64],
        columns=[LookupColumn(source="size", name="size", type=ColumnType.FLOAT64)],
    )
    joined = table.append_column("size", pa.array([*np.linspace(5, 15, 199), None]))
    return version(bench, joined, lookups=[spec]), table


def batch(bench: Bench, table: pa.Table) -> str:
    """A raw batch of a Dataset; its prefix."""
    prefix = names.batch_prefix(NAMESPACE, "raw", "batch-0000000000000001")
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    data = buffer.getvalue()
    file = StoredFile(key="typed/part-00000.parquet", bytes=len(data), digest="", rows=table.num_rows)
    bench.objects.put(prefix + file.key, data)
    manifest = BatchManifest(
        batch="batch-0000000000000001",
        namespace=NAMESPACE,
        dataset="raw",
        columns=[Column(name=f.name, type=column_type(f.type)) for f in table.schema],
        time_column="at",
        keys=["id"],
        rows=table.num_rows,
        originals=[],
        typed=[file],
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
    )
    bench.objects.put(prefix + names.MANIFEST, manifest.to_bytes())
    return prefix


@pytest.mark.parametrize("parts", [1, 3])
def test_score1_a_dataset_whose_lookups_are_joined_has_the_scores_of_the_prepared_rows(
    bench: Bench, parts: int
) -> None:
    manifest, raw = looked_up(bench)
    model = trained(bench, manifest)
    assert [column.name for column in model.request] == ["id", "weight", "kind", "count"]
    prepared = scores(bench, run(bench, work_for(model, manifest)))
    work = work_for(model, source="dataset", prefixes=[batch(bench, raw)], execution="scoring-0000000000000002")
    joined = scores(bench, run(bench, work, parts))
    assert joined["value"].to_numpy().tobytes() == prepared["value"].to_numpy().tobytes()
    assert joined["id"].to_pylist() == list(range(200))


def test_x5_nobody_reads_from_an_engine_that_is_gone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring fails while rows are joined ahead: the engine is closed once those who read from it have ended."""
    manifest, raw = looked_up(bench)
    model = trained(bench, manifest)
    work = work_for(model, source="dataset", prefixes=[batch(bench, raw)], execution="scoring-0000000000000002")
    reading: list[list[str]] = []
    opened = engine.opened

    @contextmanager
    def watched(*arguments: Any) -> Iterator[Any]:
        with opened(*arguments) as connection:
            try:
                yield connection
            finally:
                reading.append([thread.name for thread in threading.enumerate() if thread.name == "prefetch"])

    def stream(*_: Any) -> Iterator[pa.RecordBatch]:
        while True:
            yield from raw.append_column("size", pa.array([1.0] * 200)).to_batches()

    monkeypatch.setattr(engine, "opened", watched)
    monkeypatch.setattr(engine, "stream", stream)
    monkeypatch.setattr(OnnxModel, "run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(bench, work)
    assert reading == [[]]


def object_work(bench: Bench, model: ModelManifest, folder: Path, type: str = "csv", **more: Any) -> ScoreWork:
    return work_for(
        model, source="object", object=ObjectSource(uri=f"file://{folder}/"), format=Format(type=type), **more
    )


def run_local(bench: Bench, work: ScoreWork, parts: int = 1) -> ScoreOutput:
    made = [context(bench, work, index, parts) for index in range(parts)]
    for one in made:
        one.allow_file_sources = True
    output = [score.run(one) for one in made][-1]
    assert output is not None
    return output


def test_score4_files_are_read_joined_and_scored(bench: Bench, tmp_path: Path) -> None:
    manifest, raw = looked_up(bench)
    model = trained(bench, manifest)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, part in (("a.csv", raw.slice(0, 120)), ("b.csv.gz", raw.slice(120))):
        buffer = io.BytesIO()
        pa.csv.write_csv(part, buffer)
        data = buffer.getvalue()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    prepared = scores(bench, run(bench, work_for(model, manifest)))
    work = object_work(bench, model, folder, execution="scoring-0000000000000002", columns=["id"])
    found = scores(bench, run_local(bench, work, 2))
    assert found["value"].to_numpy().tobytes() == prepared["value"].to_numpy().tobytes()
    assert found.column_names[:2] == ["row", "id"]


def plain_files(bench: Bench, folder: Path) -> ModelManifest:
    """A folder with two files of rows, and a model that scores them."""
    folder.mkdir()
    for name, weights in (("a.csv", (0.5, 1.5)), ("c.csv", (2.5,))):
        (folder / name).write_text("weight,count\n" + "".join(f"{weight},2\n" for weight in weights))
    return trained(bench, version(bench, features=["weight", "count"], derive=()))


def one_part(bench: Bench, work: ScoreWork, index: int, parts: int) -> ScoreOutput | None:
    made = context(bench, work, index, parts)
    made.allow_file_sources = True
    return score.run(made)


def test_score4_all_parts_score_the_files_that_the_first_has_listed_and_the_manifest_names_them(
    bench: Bench, tmp_path: Path
) -> None:
    work = object_work(bench, plain_files(bench, tmp_path / "in"), tmp_path / "in", columns=["weight"])
    assert one_part(bench, work, 0, 2) is None
    (tmp_path / "in" / "b.csv").write_text("weight,count\n7.5,2\n")
    output = one_part(bench, work, 1, 2)
    assert output is not None
    assert scores(bench, output)["weight"].to_pylist() == [0.5, 1.5, 2.5]
    listing = Listing.from_bytes(bench.objects.get(output.prefix + LISTING))
    assert output.manifest.sources == listing.entries
    lineage = bench.catalogue.lineage(f"{output.manifest.execution}:0")
    assert {node.details.get("uri") for node in lineage if node.type == "source"} == {e.uri for e in listing.entries}
    assert [entry.uri for entry in listing.entries] == [f"file://{tmp_path}/in/{name}.csv" for name in "ac"]


def test_x5_files_that_change_while_they_are_scored_are_scored_anew_by_all_parts(bench: Bench, tmp_path: Path) -> None:
    work = object_work(bench, plain_files(bench, tmp_path / "in"), tmp_path / "in", columns=["weight"])
    assert one_part(bench, work, 0, 2) is None
    (tmp_path / "in" / "c.csv").write_text("weight,count\n8.5,2\n9.5,2\n")
    with pytest.raises(Stalled, match=r"c\.csv was changed or removed"):
        one_part(bench, work, 1, 2)
    # Engines run no part twice that ended well.
    bench.objects.put(context(bench, work, 1, 2).input.result_prefix + "0.json", b"{}")
    output = one_part(bench, work, 1, 2)
    assert output is not None
    assert scores(bench, output)["weight"].to_pylist() == [0.5, 1.5, 8.5, 9.5]
    assert [row[0] for row in catalogue(bench, "row")] == [0, 1, 2, 3]


def test_x5_a_change_that_no_other_part_has_seen_is_taken_up_at_once(bench: Bench, tmp_path: Path) -> None:
    work = object_work(bench, plain_files(bench, tmp_path / "in"), tmp_path / "in", columns=["weight"])
    assert one_part(bench, work, 0, 2) is None
    (tmp_path / "in" / "c.csv").write_text("weight,count\n8.5,2\n")
    bench.objects.put(context(bench, work, 1, 2).input.result_prefix + "0.json", b"{}")
    output = one_part(bench, work, 1, 2)
    assert output is not None
    assert scores(bench, output)["weight"].to_pylist() == [0.5, 1.5, 8.5]


def test_score4_a_receipt_speaks_of_the_parts_of_its_own_division_only(bench: Bench) -> None:
    manifest = version(bench)
    work = work_for(trained(bench, manifest), manifest)
    for parts in (2, 3):
        assert score.run(context(bench, work, 0, parts)) is None
    output = run(bench, work, 2)
    assert [file.key for file in output.manifest.files] == [f"part-0000{i}-of-00002.parquet" for i in range(2)]
    assert scores(bench, output)["row"].to_pylist() == list(range(400))
    assert [row[0] for row in catalogue(bench, "row")] == list(range(400))


def test_score4_nothing_is_committed_before_the_receipts_of_all_indexes_lie_there(bench: Bench) -> None:
    manifest = version(bench)
    work = work_for(trained(bench, manifest), manifest)
    assert score.run(context(bench, work, 0, 2)) is None
    place = names.scores_prefix(NAMESPACE, RUN, work.execution) + "receipts/of-00002/"
    bench.objects.put(place + "7.json", bench.objects.get(place + "0.json"))
    assert score.run(context(bench, work, 0, 2)) is None


def test_score4_a_file_with_a_bad_row_is_refused_by_its_line(bench: Bench, tmp_path: Path) -> None:
    manifest = version(bench, features=["weight", "count"], derive=())
    model = trained(bench, manifest)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("weight,count\n1.5,2\n1.5,many\n")
    with pytest.raises(Stalled, match=r"a\.csv, line 3, column 'count'") as caught:
        run_local(bench, object_work(bench, model, folder))
    assert caught.value.reason is Reason.INVALID_DATA


def test_score4_what_is_wrong_with_files_is_said_in_the_fields_of_a_scoring_run(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    model = plain_files(bench, folder)

    def refused() -> str:
        with pytest.raises(Stalled) as caught:
            run_local(bench, object_work(bench, model, folder))
        return caught.value.message

    with pytest.raises(Stalled, match=r"^spec\.input\.object\.uri file://.* names a local folder"):
        run(bench, object_work(bench, model, folder))
    (folder / "b.csv").write_text("weight,size\n1,2\n")
    assert refused() == (
        f"spec.input.object: b.csv has no column 'count', which the model '{model.candidate}' or spec.output.columns "
        "needs (it has: weight, size): correct the file"
    )
    (folder / "b.csv").write_text("")
    assert refused() == "spec.input.object: b.csv is empty: remove it, or narrow the pattern past it"
    (folder / "b.csv").write_bytes(b"weight,count\n1,\xff\n")
    assert refused().endswith("set format.encoding to what the file is written in, e.g. latin-1")
    for file in folder.iterdir():
        file.unlink()
    assert refused().endswith("matches the pattern '*': correct spec.input.object.uri or pattern")


def test_score4_a_key_that_cannot_be_looked_up_is_refused_by_name(bench: Bench) -> None:
    manifest, raw = looked_up(bench)
    model = trained(bench, manifest)
    texts = pa.array([f"id {number}" for number in range(200)])
    raw = raw.set_column(raw.column_names.index("id"), "id", texts)
    work = work_for(model, source="dataset", prefixes=[batch(bench, raw)], execution="scoring-0000000000000002")
    with pytest.raises(Stalled) as caught:
        run(bench, work)
    assert caught.value.reason is Reason.INVALID_DATA
    assert caught.value.message == (
        "the column 'id' of the batch batch-0000000000000001 of the dataset 'raw' is string, but the model finds rows "
        "of the feature set 'sizes' by the key 'id', which is int64: declare the column so where the rows come from"
    )


def test_score4_numbers_are_looked_up_by_numbers_whole_or_not(bench: Bench) -> None:
    manifest, raw = looked_up(bench)
    model = trained(bench, manifest)
    raw = raw.set_column(raw.column_names.index("id"), "id", raw["id"].cast(pa.float64()))
    work = work_for(model, source="dataset", prefixes=[batch(bench, raw)], execution="scoring-0000000000000002")
    prepared = scores(bench, run(bench, work_for(model, manifest)))
    assert scores(bench, run(bench, work))["value"].to_pylist() == prepared["value"].to_pylist()


def refusing(bench: Bench) -> ModelManifest:
    transform = [{"columns": ["kind"], "steps": [{"encode": {"unknown": "refuse"}}]}]
    return trained(bench, version(bench), transform=transform)


def with_kind(value: str | None) -> pa.Table:
    table = things(60)
    kinds = table["kind"].to_pylist()
    kinds[41] = value
    return table.set_column(table.column_names.index("kind"), "kind", pa.array(kinds, pa.string()))


@pytest.mark.parametrize(("value", "shown"), [("zebra", "'zebra'"), (None, "missing")])
def test_an_unseen_category_that_is_refused_is_named_with_its_row_and_leaves_nothing(
    bench: Bench, value: str | None, shown: str
) -> None:
    model = refusing(bench)
    odd = version(bench, with_kind(value), name="odd")
    message = f"the column 'kind' is {shown} in row 41 of the version .* which training never saw"
    with pytest.raises(Stalled, match=message) as caught:
        run(bench, work_for(model, odd))
    assert caught.value.reason is Reason.INVALID_DATA
    assert list(bench.objects.list("scores/")) == []
    assert leftovers(bench) == 0


def test_a_column_of_another_type_than_training_saw_is_refused_by_name(bench: Bench) -> None:
    model = refusing(bench)
    table = things(60)
    table = table.set_column(table.column_names.index("kind"), "kind", pa.array(range(60)))
    odd = version(bench, table, name="odd", derive=())
    with pytest.raises(Stalled, match=r"rows from 0 on: column 'kind' is of Arrow's type int64, which is no string"):
        run(bench, work_for(model, odd))


def test_rows_that_the_model_cannot_run_on_are_refused_in_one_sentence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = version(bench)
    work = work_for(trained(bench, manifest), manifest)
    run_whole = OnnxModel.run

    def flat(self: OnnxModel, columns: Any, outputs: Any = None) -> Any:
        return run_whole(self, {name: values.ravel() for name, values in columns.items()}, outputs)

    monkeypatch.setattr(OnnxModel, "run", flat)
    with pytest.raises(Stalled, match=r"cannot score the version .*, rows from 0 on: .*Invalid rank") as caught:
        run(bench, work)
    assert "\n" not in caught.value.message


def test_an_unseen_category_that_is_ignored_is_scored(bench: Bench) -> None:
    model = trained(bench, version(bench))
    odd = version(bench, with_kind("zebra"), name="odd")
    assert run(bench, work_for(model, odd)).manifest.rows == 60


def test_rows_that_lack_a_column_are_refused(bench: Bench) -> None:
    model = trained(bench, version(bench))
    without = version(bench, things(60).drop_columns(["weight"]), name="without", features=["kind"], derive=())
    with pytest.raises(Stalled, match=r"has no column 'weight', which the model '.*' needs \(it takes: ") as caught:
        run(bench, work_for(model, without))
    assert caught.value.reason is Reason.INVALID_DATA


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["colour"], r"spec\.output\.columns names 'colour'"), (["row"], "the column 'row' cannot be copied")],
)
def test_output_columns_that_cannot_be_are_refused(bench: Bench, columns: list[str], message: str) -> None:
    table = things().append_column("row", pa.array(range(400)))
    manifest = version(bench, table)
    with pytest.raises(Stalled, match=message) as caught:
        run(bench, work_for(trained(bench, manifest), manifest, columns=columns))
    assert caught.value.reason is Reason.INVALID_SPEC


def test_no_rows_are_refused(bench: Bench) -> None:
    model = trained(bench, version(bench))
    empty = version(bench, things(60).slice(0, 0), name="empty", derive=())
    with pytest.raises(Stalled, match="has no rows, so there is nothing to score") as caught:
        run(bench, work_for(model, empty))
    assert caught.value.reason is Reason.NO_ROWS


def test_a_model_that_is_gone_or_changed_is_refused(bench: Bench) -> None:
    manifest = version(bench)
    model = trained(bench, manifest)
    work = work_for(model, manifest)
    bench.objects.put(work.model_prefix + "model.onnx", b"changed")
    with pytest.raises(Stalled, match="has not the digest that its manifest names"):
        run(bench, work)
    bench.objects.delete_prefix(work.model_prefix)
    with pytest.raises(Stalled, match="is not there any more") as caught:
        run(bench, work)
    assert caught.value.reason is Reason.SOURCE_NOT_FOUND


@pytest.mark.parametrize(
    ("task", "label", "algorithm", "columns"),
    [
        ("regression", "price", "linearRegression", ["value"]),
        ("clustering", None, "kMeans", ["value", "label"]),
    ],
)
def test_score6_kinds_of_scores(bench: Bench, task: str, label: str | None, algorithm: str, columns: list[str]) -> None:
    manifest = version(bench, label=label, features=["weight", "kind"], derive=())
    model = trained(bench, manifest, {"name": "one", "type": algorithm}, task=task)
    found = scores(bench, run(bench, work_for(model, manifest)))
    assert found.column_names == ["row", "id", "at", *columns]
    assert [row[0] is not None for row in catalogue(bench, "value")] == [True] * 400
