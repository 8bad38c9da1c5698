"""The documents that lie beside data in the object store: what steps write and planners, steps and scorers read.

Each folder of an immutable output holds its data and, written last and only if absent, `manifest.json`. Whatever has
no manifest does not exist. All documents are canonical JSON (`to_bytes`), so equal contents have equal digests.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Literal, Self

from levada import names
from levada.features.types import ColumnType
from levada.resources.base import Model
from levada.resources.dataset import Column
from levada.resources.status import InputVersion
from levada.resources.trainingrun import Task


class Artifact(Model):
    """A document of the object store."""

    def to_bytes(self) -> bytes:
        """Canonical JSON; raises ValueError that names a figure which is not finite, since JSON has no such number."""
        document = self.document()
        _check_finite(document, type(self).__name__)
        return names.canonical(document)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The document of some JSON; raises pydantic.ValidationError."""
        return cls.model_validate_json(data)


def _check_finite(value: Any, path: str) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value}, which JSON cannot hold: leave out what is not finite")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_finite(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            _check_finite(inner, f"{path}[{place}]")


class StoredFile(Model):
    """A file of an output: key relative to the manifest's folder."""

    key: str
    bytes: int
    digest: str
    rows: int | None = None


class Listing(Artifact):
    """What a source held when an ingestion looked: the first step to look writes it, the others read it."""

    class Entry(Model):
        uri: str
        bytes: int
        version: str  # etag, or size and modification time: what tells that the content changed

    entries: list[Entry]
    listed_at: datetime


class QualityResult(Model):
    """What a quality check found."""

    column: str
    check: str  # the check in words, e.g. "min 0"
    violations: int
    action: Literal["rectify", "quarantine", "warn", "refuse"]


class ColumnProfile(Model):
    """A column in figures, over the batch."""

    name: str
    type: ColumnType
    nulls: int = 0
    distinct: int | None = None
    min: float | str | None = None
    max: float | str | None = None
    mean: float | None = None
    std: float | None = None


class BatchManifest(Artifact):
    """A raw batch: `original/` (the bytes as they came), `typed/` (Parquet), `quarantine/` (rows and reasons)."""

    batch: str
    namespace: str
    dataset: str
    columns: list[Column]
    time_column: str | None = None
    keys: list[str] = []
    rows: int
    quarantined: int = 0
    first_quarantined: str = ""  # where the first of them stands, and what is wrong with it
    originals: list[StoredFile]
    typed: list[StoredFile]
    quarantine: list[StoredFile] = []
    quality: list[QualityResult] = []
    profile: list[ColumnProfile] = []
    created_at: datetime


class LookupSpec(Model):
    """How the features of another feature set are found: the same facts offline and online."""

    feature_set: str
    namespace: str
    version: str
    prefix: str  # object key prefix of that version
    on: list[str]  # columns of the row that hold the keys
    keys: list[str]  # the other's key columns, in the same order
    key_types: list[ColumnType]
    as_of: str | None = None  # time column of the row
    timestamp: str | None = None  # the other's time column
    tolerance_seconds: float | None = None
    columns: list[LookupColumn]
    online: bool = False  # whether newer rows arrive through the online store


class LookupColumn(Model):
    source: str  # name in the other feature set
    name: str  # name in this row
    type: ColumnType


class FeatureColumn(Column):
    """A column of a feature set version and where it comes from."""

    origin: Literal["query", "lookup", "derived"]
    role: Literal["key", "timestamp", "label", "feature", "other"]


class FeatureManifest(Artifact):
    """A feature set version: `rows/part-00000.parquet` …, ordered by the entity's time, then keys."""

    version: str
    namespace: str
    feature_set: str
    columns: list[FeatureColumn]
    keys: list[str]
    timestamp: str | None = None
    label: str | None = None
    rows: int
    files: list[StoredFile]
    inputs: list[InputVersion]
    lookups: list[LookupSpec] = []
    derive: list[tuple[str, str]] = []  # name, expression
    warnings: list[str] = []
    created_at: datetime


class SplitManifest(Artifact):
    """A split: for each part either ranges of row numbers (start, stop) or a file of row numbers (uint32 .npy)."""

    class Part(Model):
        name: Literal["train", "validation", "test"]
        rows: int
        ranges: list[tuple[int, int]] | None = None
        file: StoredFile | None = None

    split: str
    namespace: str
    training_run: str
    feature_set: str
    version: str
    type: str
    seed: int
    parts: list[Part]
    shuffle: bool = False  # whether training sees its rows in an order that the seed draws
    warnings: list[str] = []
    statistics: dict[str, dict[str, float]] = {}  # part -> figure -> value, e.g. labelMean
    created_at: datetime


class Output(Model):
    """An output of the ONNX graph.

    classification: `label` [N] (int64 or string), `probabilities` [N, C] float32 in the order of `classes`;
    regression: `prediction` [N, 1] float32; clustering: `cluster` [N] int64 and `distance` [N, 1] float32.
    """

    name: str
    kind: Literal["label", "probabilities", "prediction", "cluster", "distance"]
    type: Literal["int64", "string", "float"]
    width: int | None = None  # columns; None = a vector


class Parity(Model):
    """How the ONNX artefact agrees with the fitted pipeline, over the rows that were compared."""

    rows: int
    max_abs: float
    tolerance: float = 1e-5


class ModelManifest(Artifact):
    """A model: `model.onnx` beside it takes every column of `inputs` as [N, 1] (features/types.py says how)."""

    candidate: str
    namespace: str
    task: Task
    algorithm: str  # name within the run
    type: str  # type of the algorithm, or "external"
    params: dict[str, Any] = {}
    onnx: StoredFile
    request: list[Column]  # what a caller brings: query columns needed by features, derivations and lookups
    lookups: list[LookupSpec] = []
    inputs: list[Column]  # ONNX inputs in the graph's order: each from the request or a lookup
    outputs: list[Output]
    classes: list[int | str | bool] = []
    feature_names: list[str] = []  # after transforms and selection
    learned: dict[str, Any] = {}  # small learned parameters a person wants to see: coefficients, importances
    # Columns whose other values are refused when scoring, with those that training saw (`encode: {unknown: refuse}`).
    accepted: dict[str, list[str | int | None]] = {}
    parity: Parity | None = None
    warnings: list[str] = []
    training_run: str | None = None
    execution: str | None = None
    feature_set: str | None = None
    feature_set_version: str | None = None
    features_prefix: str | None = None
    split: str | None = None
    split_prefix: str | None = None
    label: str | None = None
    batches: list[InputVersion] = []
    rows: dict[str, int] = {}  # rows of each part
    timings: dict[str, float] = {}  # seconds: fit, convert, verify
    created_at: datetime


class EvaluationManifest(Artifact):
    """An evaluation of the ONNX artefact on a frozen split: `report.html` and this as `report.json`/`manifest.json`."""

    evaluation: str
    namespace: str
    candidate: str
    metrics: dict[str, float]
    baselines: dict[str, float] = {}  # what some of the metrics would be without a model
    figures: dict[str, Any] = {}  # evaluator -> its curves and tables as JSON data
    evaluators: list[str]
    part: str
    rows: int
    report: StoredFile
    warnings: list[str] = []
    created_at: datetime


class ScoresManifest(Artifact):
    """Scores of an execution: `part-00000-of-00001.parquet` … below it, row i of the input in row i of the whole."""

    execution: str
    namespace: str
    scoring_run: str
    candidate: str
    model_digest: str
    rows: int
    files: list[StoredFile]
    inputs: list[InputVersion] = []
    sources: list[Listing.Entry] = []  # the files that were scored, as they were then
    created_at: datetime


LookupSpec.model_rebuild()
