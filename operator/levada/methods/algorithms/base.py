"""What an algorithm is (TRAIN-2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx

from levada.artifacts import Output
from levada.resources.trainingrun import Task

Predictions = dict[str, npt.NDArray[Any]]  # by kind of output


@dataclass(frozen=True)
class Training:
    """What is fitted on. Features float32 [N, F]; labels [N]: int64 or str (object) for classification, float64 for
    regression, None for clustering; `threads`: how many may be used."""

    task: Task
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[Any] | None
    validation: tuple[npt.NDArray[np.float32], npt.NDArray[Any] | None] | None
    seed: int
    threads: int


class FittedModel(Protocol):
    """A fitted model, which can be asked and written as ONNX."""

    @property
    def classes(self) -> list[int | str]:
        """Classes in the order of the probabilities; empty unless it classifies."""

    def predict(self, features: npt.NDArray[np.float32]) -> Predictions:
        """What the model itself says of some rows, by kind of output as artifacts.Output lists them; with clusters come
        `distances` [N, K] to all of them."""

    def graph(self) -> onnx.ModelProto:
        """The model as ONNX: input `features` float32 [N, F]; outputs as `outputs` lists them, named by their kinds."""

    def outputs(self) -> list[Output]:
        """Its outputs, each named by its kind."""

    def learned(self, names: Sequence[str]) -> dict[str, Any]:
        """What a person wants to see of what it learnt, small; `names` of the features."""


class Algorithm(Protocol):
    """An algorithm, built in or a plug-in."""

    tasks: frozenset[Task]
    accepts_gaps: bool  # whether features may be NaN

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise Stalled, naming the parameter, unless these parameters will do for the algorithm called `name`."""

    def fit(self, training: Training, params: Mapping[str, Any]) -> FittedModel:
        """Fit; the same training data, parameters and number of threads give the same model."""
