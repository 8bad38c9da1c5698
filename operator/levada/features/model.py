"""Running an ONNX graph so that a row gets the same bits whatever rows it is scored with.

onnxruntime splits a run over threads in ways that change the order of floating-point sums, multiplies a matrix of one
row by another routine than others, and computes the last few elements of some functions (Exp, Log) with other
instructions than the rest. So a run has one thread and a multiple of `BLOCK` rows, and whoever wants more cores runs
several batches at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, NotImplemented, RuntimeException

MODEL_STAGE = "model/"  # before the names of what a fitted model computes, after features in the same graph
RUN_ERRORS = (Fail, InvalidArgument, NotImplemented, RuntimeException)  # of a model that cannot take the rows
Tensors = dict[str, npt.NDArray[Any]]
BLOCK = 4  # elements that kernels take at once: float32 in 128 bits
CHUNK_ROWS = 16_384  # what one run computes stays near the processor; a multiple of BLOCK


def first_line(error: Exception) -> str:
    """What onnxruntime says is wrong, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def open_session(model: bytes) -> ort.InferenceSession:
    """A session whose runs have one thread. Runs of the same session may overlap. Raises onnxruntime's errors."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxModel:
    """A model that is ready to run."""

    def __init__(self, model: bytes) -> None:
        self.session = open_session(model)
        self.inputs: list[str] = [value.name for value in self.session.get_inputs()]
        self.outputs: list[str] = [value.name for value in self.session.get_outputs()]

    def run(self, columns: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str] | None = None) -> Tensors:
        """The outputs (all if None) for some rows: each input [N, 1] as types.py says; more columns may be given."""
        names = list(outputs or self.outputs)
        feeds = {name: columns[name] for name in self.inputs}
        count = len(next(iter(feeds.values()), ()))
        rest = -count % BLOCK if count else 0
        if rest:
            feeds = {name: np.concatenate([v, np.repeat(v[-1:], rest, axis=0)]) for name, v in feeds.items()}
        found = zip(names, self.session.run(names, feeds), strict=True)
        return {name: values[:count] if rest else values for name, values in found}

    def run_all(self, columns: Mapping[str, npt.NDArray[Any]], threads: int = 1) -> Tensors:
        """All outputs for any number of rows, several chunks at the same time; the bits are those of `run`."""
        count = len(next(iter(columns.values())))
        starts = range(0, max(count, 1), CHUNK_ROWS)

        def part(start: int) -> Tensors:
            return self.run({name: columns[name][start : start + CHUNK_ROWS] for name in self.inputs})

        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(part, starts))
        return {name: np.concatenate([found[name] for found in parts]) for name in self.outputs}
