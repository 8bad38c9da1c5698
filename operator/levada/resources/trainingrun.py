"""TrainingRun: split, fit, compare (SPLIT-1 … SPLIT-3, TRAIN-1 … TRAIN-6, EVAL-2 … EVAL-4)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from levada.resources.base import (
    ColumnName,
    Model,
    Name,
    Rule,
    RunPolicy,
    Schedule,
    Text,
    Trigger,
    list_map,
)
from levada.resources.status import RunStatus, Stored

Task = Literal["classification", "regression", "clustering", "forecast"]


class FeatureSetRef(Model):
    """Which version of a FeatureSet."""

    name: Name = Field(description="Name of the FeatureSet.")
    version: Name | None = Field(default=None, description="A version to pin; the newest if absent.")


class Ratios(Model):
    """Shares of the rows; they add up to 1."""

    rules = (
        Rule(
            "self.train + self.validation + self.test > 0.999 && self.train + self.validation + self.test < 1.001",
            "the ratios train, validation and test must add up to 1",
            lambda r: 0.999 < r.train + r.validation + r.test < 1.001,
        ),
    )
    train: float = Field(default=0.8, gt=0, le=1, description="Share to fit on.")
    validation: float = Field(default=0.0, ge=0, lt=1, description="Share to choose by.")
    test: float = Field(default=0.2, ge=0, lt=1, description="Share to measure on.")


class Split(Model):
    """How rows are divided."""

    rules = (
        Rule(
            "self.type == 'custom' ? has(self.column) != has(self.plugin) : !has(self.column) && !has(self.plugin)",
            "a custom split needs column or plugin; no other split has them",
            lambda s: sum(x is not None for x in (s.column, s.plugin)) == (s.type == "custom"),
        ),
        Rule(
            "!has(self.stratify) || self.type == 'stratified'",
            "stratify needs type 'stratified'",
            lambda s: s.stratify is None or s.type == "stratified",
        ),
    )
    type: Literal["sequential", "random", "stratified", "custom"] = Field(
        default="random",
        description="sequential: by the entity's time (or the rows' order), oldest first; stratified: by the label.",
    )
    ratios: Ratios = Field(default_factory=Ratios, description="Shares of the rows.")
    shuffle: bool = Field(
        default=True,
        description="Whether rows are shuffled within the parts they are dealt to.",
    )
    seed: int = Field(default=0, ge=0, le=4294967295, description="Seed of everything random.")
    stratify: ColumnName | None = Field(default=None, description="stratified: column; the label if absent.")
    column: ColumnName | None = Field(default=None, description="custom: column that holds train, validation or test.")
    plugin: Text | None = Field(default=None, description="custom: a registered splitter.")
    max_imbalance: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Warn when the label's mean differs by more than this share between parts; read when a split is "
        "made.",
    )


class Range(Model):
    """A range of numbers."""

    rules = (Rule("self.min < self.max", "min must be less than max", lambda r: r.min < r.max),)
    min: float = Field(description="Lowest value.")
    max: float = Field(description="Highest value.")


class SearchSpace(Model):
    """Exactly one distribution of a hyperparameter."""

    rules = (
        Rule(
            "[has(self.uniform), has(self.logUniform), has(self.integer), has(self.choice)].filter(x, x).size() == 1",
            "a search space is exactly one of uniform, logUniform, integer, choice",
            lambda s: sum(x is not None for x in (s.uniform, s.log_uniform, s.integer, s.choice)) == 1,
        ),
    )
    uniform: Range | None = Field(default=None, description="Any number in a range.")
    log_uniform: Range | None = Field(default=None, description="Any number in a range, by order of magnitude.")
    integer: Range | None = Field(default=None, description="A whole number in a range.")
    choice: list[Annotated[str, Field(max_length=256)]] | None = Field(
        default=None, min_length=1, max_length=64, description="One of these."
    )


class Algorithm(Model):
    """An algorithm to fit."""

    name: Name = Field(description="Name within this run; part of its candidate's name.")
    type: Text = Field(
        description="logisticRegression, linearRegression, decisionTree, randomForest, boostedTrees, kMeans, "
        "or the name of a plug-in."
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Hyperparameters, as the algorithm names them in camelCase.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    search: dict[str, SearchSpace] = Field(
        default_factory=dict, max_length=32, description="Hyperparameters to search."
    )


class Objective(Model):
    """What the best is chosen by."""

    metric: Text = Field(description="A metric of the evaluators, e.g. rocAuc.")
    direction: Literal["maximize", "minimize"] | None = Field(
        default=None,
        description="Which way is better; the metric's own if absent, needed for one that is not built in.",
    )


class Search(Model):
    """Hyperparameter search."""

    trials: int = Field(default=20, ge=1, le=10000, description="How many settings are tried.")
    parallelism: int = Field(default=1, ge=1, le=256, description="How many at the same time.")
    pruner: Literal["none", "median", "hyperband"] = Field(
        default="median", description="Which trials are ended early."
    )


class Parallelism(Model):
    """How training is spread."""

    mode: Literal["models", "data", "model", "hybrid"] = Field(
        default="models", description="models: a worker per algorithm."
    )
    workers: int = Field(default=2, ge=1, le=256, description="Workers at the same time.")


class Incumbent(Model):
    """The model now serving, as the mark to beat."""

    deployment: Name = Field(description="Deployment whose serving model is to be beaten.")
    min_improvement: float = Field(default=0.0, ge=0, description="By how much, in the objective's metric.")


class Gate(Model):
    """What a candidate must reach to be called the best."""

    minimum: dict[str, float] = Field(default_factory=dict, max_length=32, description="Smallest value per metric.")
    maximum: dict[str, float] = Field(default_factory=dict, max_length=32, description="Largest value per metric.")
    incumbent: Incumbent | None = Field(default=None, description="Compared on the same frozen split.")


class TrainingRunSpec(RunPolicy):
    """What is wanted of a TrainingRun."""

    feature_set: FeatureSetRef = Field(description="What to learn from.")
    task: Task = Field(description="What is learnt.")
    split: Split = Field(default_factory=Split, description="How rows are divided.")
    algorithms: list[Algorithm] = Field(
        min_length=1,
        max_length=64,
        description="What is fitted; each becomes a ModelCandidate.",
        json_schema_extra=list_map("name"),
    )
    objective: Objective | None = Field(
        default=None,
        description="What the best is chosen by; rocAuc, rmse (least) or silhouette by task if absent.",
    )
    search: Search | None = Field(default=None, description="Hyperparameter search.")
    evaluators: list[Text] = Field(
        default_factory=list,
        max_length=32,
        description="roc, precisionRecall, calibration, confusion, regressionErrors, clustering; by task if empty.",
    )
    parallelism: Parallelism = Field(default_factory=Parallelism, description="How training is spread.")
    gate: Gate | None = Field(default=None, description="What the best must reach.")
    schedule: Schedule | None = Field(
        default=None,
        description="When a new version is trained on, instead of at once; the first time is at once.",
    )
    triggers: list[Trigger] = Field(
        default_factory=list,
        max_length=16,
        description="Messages that start a training.",
    )
    suspend: bool = Field(default=False, description="Start nothing new.")


class CandidateStatus(Model):
    """A candidate of the current execution."""

    name: Name = Field(description="Name of the ModelCandidate.")
    algorithm: Name = Field(description="Which algorithm.")
    state: Literal["Training", "Evaluating", "Evaluated", "Refused"] = Field(description="How far it is.")
    digest: str = Field(default="", max_length=80, description="Digest of its ONNX file.")
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64, description="Its metrics on the test part.")
    message: str = Field(default="", max_length=4096, description="Why it was refused.")


class BestCandidate(Model):
    """The best candidate."""

    name: Name = Field(description="Name of the ModelCandidate.")
    metric: str = Field(max_length=128, description="The objective's metric.")
    value: float = Field(description="Its value.")
    since: datetime = Field(description="Since when it is the best.")


class SplitStatus(Stored):
    """A split."""

    rows: dict[str, int] = Field(default_factory=dict, max_length=3, description="Rows of each part.")


class TrainingRunStatus(RunStatus):
    """What has been observed of a TrainingRun."""

    feature_set_version: Name | None = Field(default=None, description="What it learns from.")
    split: SplitStatus | None = Field(default=None, description="The split.")
    candidates: list[CandidateStatus] = Field(default_factory=list, max_length=64, description="What was fitted.")
    best: BestCandidate | None = Field(default=None, description="The best that passed the gate.")
