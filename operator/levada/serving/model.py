"""A version of a model: its graph, its lookups, and how a request's columns become scores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from levada.artifacts import ModelManifest, Output
from levada.features.cells import Cell
from levada.features.model import RUN_ERRORS
from levada.serving.accepted import Accepted
from levada.serving.columns import RequestColumn
from levada.serving.errors import ModelError, RequestError
from levada.serving.lookups import Lookup
from levada.serving.session import Array, Session, first_line

Values = Sequence[object] | Array | None
"""A column of a request: JSON values, an array that RequestColumn.from_binary made, or None where it was left out."""
Find = Callable[[Sequence[Cell]], tuple[Cell, ...]]


class Signature:
    """What requests bring."""

    def __init__(self, manifest: ModelManifest) -> None:
        self.columns = tuple(RequestColumn(column, manifest.accepted.get(column.name)) for column in manifest.request)
        self.names = tuple(column.name for column in self.columns)
        self.index = {name: i for i, name in enumerate(self.names)}
        self._converters = tuple(column.convert for column in self.columns)

    def cells(self, values: Sequence[object]) -> list[Cell]:
        """A row of JSON values in the order of the columns, as it stands in tensors; raises RequestError."""
        try:
            return [convert(value) for convert, value in zip(self._converters, values, strict=True)]
        except ValueError:
            return [column.scalar(value) for column, value in zip(self.columns, values, strict=True)]


@dataclass(slots=True)
class Scores:
    """The outputs of the graph for some rows, in the order of `ServedModel.outputs`."""

    rows: int
    outputs: list[Array]


class ServedModel:
    """A version that is ready to score. Threads may share it."""

    def __init__(self, manifest: ModelManifest, session: Session, lookups: Sequence[Lookup]) -> None:
        """Raises ModelError if graph and manifest do not fit."""
        self.manifest = manifest
        self.signature = Signature(manifest)
        self.outputs: tuple[Output, ...] = tuple(manifest.outputs)
        self._session = session
        self._lookups = tuple(lookups)
        self._accepted = {
            column.name: Accepted(column.name, column.type, manifest.accepted[column.name])
            for spec in manifest.lookups
            for column in spec.columns
            if column.name in manifest.accepted
        }
        self._output_names = [output.name for output in self.outputs]
        self._check(session)
        places = {name: i for i, name in enumerate(self._output_names)}
        kinds = {output.kind: places[output.name] for output in self.outputs}
        self._value = next((kinds[k] for k in ("probabilities", "prediction", "distance") if k in kinds), None)
        self._label = next((kinds[k] for k in ("label", "cluster") if k in kinds), None)
        self._prepare_one_row()

    def score_one(self, values: Sequence[object], *, unseen: bool = False) -> Scores:
        """The scores of one row of JSON values in the order of the signature; raises RequestError.

        `unseen`: whatever is looked up is scored, even where the model takes what training saw only.
        """
        cells = self.signature.cells(values)
        with self._one_row:
            for buffer, index in self._direct_buffers:
                buffer[0] = cells[index]
            for find, buffers in self._unchecked_buffers if unseen else self._lookup_buffers:
                for buffer, found in zip(buffers, find(cells), strict=True):
                    buffer[0] = found
            outputs = self._guarded(self._run_one)
        return Scores(1, outputs if self._session.block == 1 else [output[:1] for output in outputs])

    def score(self, columns: Sequence[Values], rows: int, *, unseen: bool = False) -> Scores:
        """The scores of columns of `rows` values each, in the order of the signature, as `score_one` gives them."""
        arrays = [c.vector(values, rows) for c, values in zip(self.signature.columns, columns, strict=True)]
        columns_in = {name: arrays[index] for name, index in self._direct}
        for lookup in self._lookups:
            for name, found in zip(lookup.names, lookup.find_all(arrays), strict=True):
                if name in self._accepted and not unseen:
                    _refuse_unseen(self._accepted[name], found.tolist(), lookup)
                if name in self._session.inputs:
                    columns_in[name] = found
        feeds = self._session.padded(columns_in)
        outputs = self._guarded(lambda: self._session.run_padded(feeds, self._output_names))
        return Scores(rows, [output[:rows] for output in outputs])

    def values(self, scores: Scores) -> Array | None:
        """One number a row [N], as it is recorded: probability of the last class, prediction, or distance."""
        if self._value is None:
            return None
        output = scores.outputs[self._value]
        return output[:, -1] if output.ndim > 1 else output

    def labels(self, scores: Scores) -> list[str] | None:
        """The class or cluster of each row as text."""
        if self._label is None:
            return None
        labels = scores.outputs[self._label].reshape(scores.rows).tolist()
        if scores.rows == 1:
            return [str(labels[0])]
        texts = {label: str(label) for label in set(labels)}
        return [texts[label] for label in labels]

    def smoke_test(self) -> None:
        """Score a made-up row, alone and in a batch, and compare; raises ModelError."""
        values = [column.example for column in self.signature.columns]
        try:
            alone = self.score_one(values, unseen=True)
            together = self.score([[value] * 3 for value in values], 3, unseen=True)
        except RequestError as error:
            raise ModelError(f"the model cannot score a row: {error.message}") from error
        for output, one, many in zip(self.outputs, alone.outputs, together.outputs, strict=True):
            name = output.name
            if one.dtype != _OUTPUT_TYPES[output.type]:
                raise ModelError(f"the output '{name}' is of type {one.dtype}, but the manifest says {output.type}")
            if len(one) != 1 or len(many) != 3:
                raise ModelError(f"the output '{name}' does not have one row for each row of the request")
            if not all(_same(one[0], row) for row in many):
                raise ModelError(f"the output '{name}' differs between a row scored alone and the same row in a batch")

    def _guarded(self, run: Callable[[], list[Array]]) -> list[Array]:
        try:
            return run()
        except RUN_ERRORS as error:
            raise RequestError(400, f"the model cannot score these values: {first_line(error)}") from error

    def _check(self, session: Session) -> None:
        brought = set(self.signature.names)
        looked_up = {name for lookup in self._lookups for name in lookup.names}
        for name in session.inputs:
            if name not in brought | looked_up:
                raise ModelError(f"the graph's input '{name}' is in neither the request nor a lookup of the manifest")
        for name in self._output_names:
            if name not in session.outputs:
                raise ModelError(f"the manifest's output '{name}' is not in the graph, which has {session.outputs}")

    def _prepare_one_row(self) -> None:
        """Buffers that are written anew for every single row, and views of their first cells."""
        self._one_row = threading.Lock()
        buffers = self._session.buffers(1)
        self._run_one = self._session.bound(buffers, self._output_names)
        index = self.signature.index
        self._direct = [(name, index[name]) for name in self._session.inputs if name in index]
        self._direct_buffers = [(buffers[name].reshape(-1), i) for name, i in self._direct]
        spare = np.empty(1, np.object_)  # for what is looked up and not needed by this graph
        places = [[buffers[n].reshape(-1) if n in buffers else spare for n in lookup.names] for lookup in self._lookups]
        self._unchecked_buffers = [(lookup.find, place) for lookup, place in zip(self._lookups, places, strict=True)]
        self._lookup_buffers = [
            (_checked(lookup, self._accepted), place) for lookup, place in zip(self._lookups, places, strict=True)
        ]


def _refuse_unseen(accepted: Accepted, cells: Sequence[Cell], lookup: Lookup) -> None:
    """Raise RequestError for the first of a looked-up column's cells that training has not seen."""
    for row, cell in enumerate(cells):
        if cell not in accepted:
            raise accepted.refusal_of_lookup(cell, row, lookup.feature_set)


def _checked(lookup: Lookup, accepted: Mapping[str, Accepted]) -> Find:
    """What finds a row, and refuses what training has not seen where that is wanted.

    It knows nothing of the model that keeps it: a model in a circle would have to wait for a collection of garbage,
    from which models are kept out, so that none would ever be freed.
    """
    if not any(name in accepted for name in lookup.names):
        return lookup.find

    def find(cells: Sequence[Cell]) -> tuple[Cell, ...]:
        found = lookup.find(cells)
        for name, cell in zip(lookup.names, found, strict=True):
            if name in accepted:
                _refuse_unseen(accepted[name], [cell], lookup)
        return found

    return find


def _same(one: Array | str, other: Array | str) -> bool:
    """Whether a row of an output has the same texts as another, or the same bits."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


_OUTPUT_TYPES = {"int64": np.dtype(np.int64), "string": np.dtype(np.object_), "float": np.dtype(np.float32)}
