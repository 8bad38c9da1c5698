"""An ONNX graph that gives a row the same bits however many rows are scored with it (SCORE-1).

onnxruntime runs most operators row by row. Matrix products take another path for a single row, and functions such as
Log or Sin compute the last few elements of a tensor with other instructions than the rest, which changes the last
bit. (Derived features are compiled around that; a model that was registered from elsewhere is not.) Where a graph has
such operators its runs are padded to a multiple of `BLOCK` rows: every row takes the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from numpy.typing import NDArray

from levada.features.model import BLOCK, open_session
from levada.features.types import NULL_STRING, NULL_TIME
from levada.serving.errors import ModelError

Array = NDArray[Any]

# Operators whose result for a row is exact, or is computed for that row alone: data movement, comparisons, what
# IEEE 754 defines to the last bit, and tree ensembles. Anything else is padded for.
_ROW_BY_ROW = frozenset(
    """
    Abs Add And ArgMax ArgMin ArrayFeatureExtractor Binarizer Cast CastLike CategoryMapper Ceil Clip Concat Constant
    ConstantOfShape Div Equal Expand FeatureVectorizer Flatten Floor Gather GatherElements GatherND Greater
    GreaterOrEqual Identity Imputer IsInf IsNaN LabelEncoder Less LessOrEqual Max Min Mod Mul Neg Not OneHot
    OneHotEncoder Or Pad Range RegexFullMatch Relu Reshape Round Scaler ScatterElements ScatterND Shape Sign Size
    Slice Split Sqrt Squeeze StringConcat StringNormalizer StringSplit Sub Tile Transpose TreeEnsemble
    TreeEnsembleClassifier TreeEnsembleRegressor Unsqueeze Where Xor
    """.split()  # noqa: SIM905
)

_FILL: dict[str, tuple[type, object]] = {
    "tensor(double)": (np.float64, 0.0),
    "tensor(float)": (np.float32, 0.0),
    "tensor(int64)": (np.int64, NULL_TIME),
    "tensor(string)": (np.object_, NULL_STRING),
}


def operators(model: bytes) -> set[str]:
    """The types of all operators of a serialized ONNX model, those in subgraphs and functions included.

    Reads ModelProto without the onnx package (31 MB): graph = 7 and functions = 25 hold nodes (1 and 7), a node its
    op_type (4) and attributes (5), an attribute its graph (6) and graphs (11). Raises ModelError if it is none.
    """
    try:
        found = set(_operators_of(model, {7: 1, 25: 7}))
    except DecodeError as error:
        raise ModelError("the file is not an ONNX model") from error
    if not found:
        raise ModelError("the file is not an ONNX model: it has no operators")
    return found


def _operators_of(message: bytes, graphs: Mapping[int, int]) -> Iterator[str]:
    for number, graph in _fields(message):
        if number not in graphs:
            continue
        for inner, node in _fields(graph):
            if inner != graphs[number]:
                continue
            for part, value in _fields(node):
                if part == 4:
                    yield value.decode()
                elif part == 5:
                    yield from _operators_of(value, {6: 1, 11: 1})


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    for field in UnknownFieldSet(Empty.FromString(message)):
        if isinstance(field.data, bytes):
            yield field.field_number, field.data


class Session:
    """An ONNX graph ready to run.

    inputs: name and numpy dtype of each, in the graph's order. outputs: their names. block: runs must have a multiple
    of so many rows (1: any number).
    """

    def __init__(self, model: bytes) -> None:
        """Raises ModelError if onnxruntime cannot run the model."""
        self.block = 1 if operators(model) <= _ROW_BY_ROW else BLOCK
        try:
            self._session = open_session(model)
        except Exception as error:  # its exceptions have no common base
            raise ModelError(f"onnxruntime cannot load the model: {first_line(error)}") from error
        self.inputs: dict[str, type] = {}
        for tensor in self._session.get_inputs():
            if tensor.type not in _FILL or len(tensor.shape) != 2 or tensor.shape[1] != 1:
                raise ModelError(
                    f"the graph's input '{tensor.name}' is {tensor.type} of shape {tensor.shape}; inputs must be "
                    "tensor(double), tensor(float), tensor(int64) or tensor(string) of shape [N, 1]"
                )
            self.inputs[tensor.name] = _FILL[tensor.type][0]
        self._fills = {tensor.name: _FILL[tensor.type] for tensor in self._session.get_inputs()}
        self.outputs: list[str] = [tensor.name for tensor in self._session.get_outputs()]
        self._run = self._session._sess.run

    def buffers(self, rows: int) -> dict[str, Array]:
        """An array [M, 1] of zeros or nulls for every input, M ≥ rows being a length that `run_padded` takes."""
        length = -(-rows // self.block) * self.block
        return {name: np.full((length, 1), fill, dtype) for name, (dtype, fill) in self._fills.items()}

    def padded(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Columns [N] as such arrays [M, 1], which share memory with the columns where they can."""
        rows = len(next(iter(columns.values())))
        if rows % self.block:
            buffers = self.buffers(rows)
            for name, column in columns.items():
                buffers[name][:rows, 0] = column
            return buffers
        return {name: columns[name].astype(dtype, copy=False).reshape(-1, 1) for name, dtype in self.inputs.items()}

    def run_padded(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """The outputs for arrays [M, 1] of a length as `buffers` gives; one array a name, of M rows each."""
        # What InferenceSession.run calls after it has looked for missing inputs, which can take as long as the model.
        result: list[Array] = self._run(outputs or self.outputs, feeds, None)
        return result

    def bound(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> Callable[[], list[Array]]:
        """What runs the graph over these very arrays, of a length as `buffers` gives, whatever they hold by then.

        Where no texts go in or out, inputs and outputs are bound once, which saves half of a run of few rows. Runs must
        not overlap, nor must the arrays change meanwhile.
        """

        def run() -> list[Array]:
            return self.run_padded(feeds, outputs)

        if any(array.dtype == np.object_ for array in feeds.values()):
            return run
        try:
            results = run()
        except Exception:  # it does not score nulls, or not at all, which is for others to find
            return run
        if any(result.dtype == np.object_ for result in results):
            return run
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, result in zip(outputs, results, strict=True):
            binding.bind_output(name, "cpu", 0, result.dtype, result.shape, result.ctypes.data)
            result.fill(0)  # what a run over them leaves here is its own

        def run_bound(arrays: Mapping[str, Array] = feeds) -> list[Array]:  # keeps them from being freed
            self._session.run_with_iobinding(binding)
            return [result.copy() for result in results]

        return run_bound


def first_line(error: Exception) -> str:
    """What an exception of onnxruntime says, in one line and without its prefix of codes."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rsplit(" : ", 1)[-1].strip() if text.startswith("[ONNXRuntimeError]") else text
