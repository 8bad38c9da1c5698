"""Models that are ready to score: a row alone and among others, and what they refuse."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from levada.artifacts import LookupColumn, LookupSpec, Output
from levada.features.lookups import LookupTable
from levada.features.model import BLOCK
from levada.features.types import IR_VERSION, ColumnType
from levada.resources.dataset import Column
from levada.serving.errors import ModelError, RequestError
from levada.serving.lookups import Lookup
from levada.serving.model import ServedModel, Signature
from levada.serving.session import Session
from tests.unit.serving import small
from tests.unit.serving.test_session import OPSETS, WIDTH, of_model

NUMBERS = [Column(name=f"c{i}", type=ColumnType.FLOAT64) for i in range(WIDTH)]
VALUES = np.random.default_rng(7).normal(size=(1000, WIDTH))
ROWS = VALUES[:200].tolist()
BLOCKS = {BLOCK: LogisticRegression(), 1: RandomForestClassifier(8, max_depth=4, random_state=0)}


@pytest.fixture(params=BLOCKS, ids="block_{}".format)
def numbers(request: pytest.FixtureRequest) -> ServedModel:
    """A model of numbers only, whose runs take so many rows at once."""
    fitted = BLOCKS[request.param]
    onnx = of_model(fitted.fit(VALUES.astype(np.float32), VALUES[:, 0] + VALUES[:, 1] > 0))
    session = Session(onnx)
    assert session.block == request.param
    return ServedModel(small.manifest(onnx, request=NUMBERS, inputs=NUMBERS), session, [])


@pytest.fixture
def fast_switching() -> Iterator[None]:
    """Threads give way to one another as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def unexpected(*_: Any) -> Any:
    raise AssertionError("the row was not scored over bound arrays")


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.usefixtures("fast_switching")
def test_score1_a_row_over_bound_arrays_has_the_bits_that_it_has_in_a_batch(
    numbers: ServedModel, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers.smoke_test()
    whole = numbers.score(list(zip(*ROWS, strict=True)), len(ROWS)).outputs
    assert len(np.unique(whole[1])) > 10
    monkeypatch.setattr(Session, "run_padded", unexpected)
    with ThreadPoolExecutor(threads) as pool:
        alone = list(pool.map(numbers.score_one, ROWS))
    for place, output in enumerate(whole):
        assert np.concatenate([scores.outputs[place] for scores in alone]).tobytes() == output.tobytes()


@pytest.mark.parametrize("model", [LogisticRegression(), RandomForestClassifier(8, max_depth=4, random_state=0)])
def test_dep1_a_model_whose_classes_are_texts_is_served(model: Any) -> None:
    onnx = of_model(model.fit(VALUES.astype(np.float32), np.where(VALUES[:, 0] > 0, "late", "in time")))
    label, probabilities = small.OUTPUTS
    outputs = [label.model_copy(update={"type": "string"}), probabilities]
    manifest = small.manifest(onnx, request=NUMBERS, inputs=NUMBERS, outputs=outputs, classes=["in time", "late"])
    served = ServedModel(manifest, Session(onnx), [])
    served.smoke_test()
    together = served.labels(served.score(list(zip(*ROWS, strict=True)), len(ROWS)))
    assert together is not None
    assert [together] == [[label for row in ROWS for label in served.labels(served.score_one(row)) or ()]]
    assert set(together) == {"late", "in time"}


def test_dep1_a_model_whose_bound_runs_write_nothing_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the row that is tried is the one that the arrays were bound with: a null."""
    x = helper.make_tensor_value_info("at", TensorProto.INT64, [None, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    node = helper.make_node("Cast", ["at"], ["y"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "time", [x], [y])
    onnx = helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION).SerializeToString()
    columns = [Column(name="at", type=ColumnType.TIMESTAMP)]
    outputs = [Output(name="y", kind="prediction", type="float")]
    manifest = small.manifest(onnx, request=columns, inputs=columns, outputs=outputs, task="regression")
    ServedModel(manifest, Session(onnx), []).smoke_test()
    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", lambda *_: None)
    with pytest.raises(ModelError, match="differs between a row scored alone and the same row in a batch"):
        ServedModel(manifest, Session(onnx), []).smoke_test()


@pytest.mark.parametrize("seen", [[0], [1, 0], [1, None], [None, 0, 1]])
def test_score2_a_model_that_refuses_unseen_booleans_is_served(seen: list[str | int | None]) -> None:
    model = small.served(accepted={"flag": seen})
    model.smoke_test()
    for value in (None if one is None else bool(one) for one in seen):
        assert model.score_one(list((small.ROW | {"flag": value}).values())).rows == 1
    if 0 not in seen:
        with pytest.raises(RequestError, match="row 0: column 'flag' is false, which training has not seen"):
            model.score_one(list((small.ROW | {"flag": False}).values()))


def with_lookup(type: ColumnType, values: list[Any], accepted: list[str | int | None]) -> ServedModel:
    """The small model, whose column `text` or `flag` is looked up by `n`: the values of 1, 2 …"""
    name = "text" if type == ColumnType.STRING else "flag"
    spec = LookupSpec(
        feature_set="words",
        namespace="default",
        version="features-1",
        prefix="",
        on=["n"],
        keys=["number"],
        key_types=[ColumnType.INT64],
        columns=[LookupColumn(source="found", name=name, type=type)],
    )
    table = LookupTable(spec)
    table.load([pa.table({"number": range(1, len(values) + 1), "found": values})])
    onnx = small.graph()
    request = [column for column in small.COLUMNS if column.name != name]
    manifest = small.manifest(onnx, request=request, inputs=small.COLUMNS, accepted={name: accepted})
    manifest.lookups.append(spec)
    return ServedModel(manifest, Session(onnx), [Lookup(spec, table, Signature(manifest).index)])


@pytest.mark.parametrize(
    ("type", "values", "accepted", "unseen", "sentence"),
    [
        (ColumnType.STRING, ["a", "b"], ["a", None], 2, "finds 'b' as column 'text', which training has not seen"),
        (ColumnType.STRING, ["a", None], ["a"], 2, "finds no value of column 'text', which training has not seen"),
        (ColumnType.STRING, ["a", "b"], ["b", "a"], 7, "finds no value of column 'text', which training has not seen"),
        (ColumnType.BOOLEAN, [True, False], [1], 2, "finds false as column 'flag', which training has not seen"),
        (ColumnType.INT64, [5, 6], [5, None], 2, "finds 6 as column 'flag', which training has not seen"),
        (ColumnType.INT64, [5, None], [5], 2, "finds no value of column 'flag', which training has not seen"),
    ],
)
def test_score2_what_training_has_not_seen_is_refused_in_columns_that_are_looked_up(
    type: ColumnType, values: list[Any], accepted: list[str | int | None], unseen: int, sentence: str
) -> None:
    model = with_lookup(type, values, accepted)
    model.smoke_test()
    seen, refused = ([small.ROW[name] if name != "n" else n for name in model.signature.names] for n in (1, unseen))
    assert model.score_one(seen).rows == model.score([[value] for value in seen], 1).rows == 1
    if None in accepted:
        place = model.signature.index["n"]
        assert model.score_one([*seen[:place], 7, *seen[place + 1 :]]).rows == 1
    with pytest.raises(RequestError, match=f"^row 0: the lookup in 'words' {sentence}") as alone:
        model.score_one(refused)
    assert alone.value.status == 400
    assert "; leave the row out, or train anew" in alone.value.message
    with pytest.raises(RequestError, match=f"^row 2: the lookup in 'words' {sentence}"):
        model.score([[one, one, other, one] for one, other in zip(seen, refused, strict=True)], 4)


def test_dep3_a_model_that_is_no_longer_served_is_freed_without_a_collection_of_garbage() -> None:
    """Collections do not look through models, so one that holds itself would stay for ever."""
    gc.disable()
    try:
        model = with_lookup(ColumnType.STRING, ["a", "b"], ["a", None])
        column = small.signature(accepted={"text": ["a"]}).columns[3]
        model.smoke_test()
        with pytest.raises(RequestError, match="which training has not seen"):
            model.score_one([small.ROW[name] if name != "n" else 2 for name in model.signature.names])
        left: list[weakref.ref[Any]] = [weakref.ref(model), weakref.ref(column)]
        del model, column
        assert [one() for one in left] == [None, None]
    finally:
        gc.enable()
