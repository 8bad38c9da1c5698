"""FeatureSet: features from one or several datasets, defined once for offline and online (PREP-1 … PREP-9)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from levada.resources.base import (
    COLUMN,
    MEMORY,
    ColumnName,
    Duration,
    Model,
    Name,
    Rule,
    RunPolicy,
    Schedule,
    Text,
    Trigger,
    list_map,
)
from levada.resources.dataset import Column
from levada.resources.status import InputVersion, RunStatus, Stored


class FeatureInput(Model):
    """A Dataset whose rows the query can read, as a table of the Dataset's name (hyphens become underscores)."""

    dataset: Name = Field(description="Name of the Dataset.")
    alias: ColumnName | None = Field(default=None, description="Table name in the query.")
    batches: Literal["latest", "all"] = Field(
        default="latest",
        description="latest: the newest batch (a snapshot); all: every batch together (increments).",
    )

    @property
    def table(self) -> str:
        """The name by which a query reads it."""
        return self.alias or self.dataset.replace("-", "_")


class InputTrigger(Model):
    """When new inputs start a preparation."""

    when: Literal["any", "all"] = Field(default="any", description="any new batch, or all inputs have a new one.")


class Lookup(Model):
    """Another FeatureSet whose features are joined by key (and time): the same offline and online."""

    rules = (
        Rule(
            "!has(self.tolerance) || has(self.asOf)",
            "tolerance needs asOf",
            lambda s: s.tolerance is None or s.as_of is not None,
        ),
    )
    feature_set: Name = Field(description="Name of the FeatureSet.")
    # not `on`: YAML 1.1, which kubectl reads, takes that key for true
    keys: list[ColumnName] = Field(
        min_length=1,
        max_length=8,
        description="Columns of this query that hold the other's entity keys, in their order.",
    )
    as_of: ColumnName | None = Field(
        default=None,
        description="Time column of this query: the other's newest row not after it is taken. Absent: its newest.",
    )
    tolerance: Duration | None = Field(default=None, description="How old the row found may be.")
    columns: list[ColumnName] | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Which features to take; all if absent.",
    )
    prefix: Annotated[str, Field(pattern=COLUMN, max_length=64)] | None = Field(
        default=None,
        description="Put before the column names; `<feature set>_` if absent.",
    )


class Engine(Model):
    """What runs the query."""

    rules = (
        Rule(
            "(self.type == 'spark') == has(self.endpoint)",
            "endpoint is needed with type 'spark', and only there",
            lambda s: (s.type == "spark") == (s.endpoint is not None),
        ),
        Rule(
            "!has(self.memory) || self.type == 'duckdb'",
            "memory is for type 'duckdb' only",
            lambda s: s.memory is None or s.type == "duckdb",
        ),
    )

    type: Literal["duckdb", "spark"] = Field(default="duckdb", description="duckdb, or an existing Spark.")
    endpoint: Text | None = Field(default=None, description="spark: Spark Connect endpoint, sc://host:15002.")
    memory: Annotated[str, Field(pattern=MEMORY, max_length=16)] | None = Field(
        default=None,
        description="duckdb: memory limit; what does not fit spills to disk.",
    )


class Entity(Model):
    """What a row is about."""

    keys: list[ColumnName] = Field(min_length=1, max_length=8, description="Columns that identify the entity.")
    timestamp: ColumnName | None = Field(default=None, description="Column with the time of the row.")


class Derived(Model):
    """A feature computed from one row; compiled to ONNX and served from there."""

    name: ColumnName = Field(description="Name of the feature.")
    expression: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="SQL expression over the row's columns and earlier derived features."
    )


class Impute(Model):
    """Fill missing values."""

    rules = (
        Rule(
            "(self.strategy == 'constant') == has(self.value)",
            "value is needed with strategy 'constant', and only there",
            lambda s: (s.strategy == "constant") == (s.value is not None),
        ),
    )
    strategy: Literal["mean", "median", "mostFrequent", "constant"] = Field(
        default="median", description="What fills a gap."
    )
    value: float | None = Field(default=None, description="constant: the value.")
    indicator: bool = Field(default=False, description="Add a column that says where a value was missing.")


class Clip(Model):
    """Bound the values."""

    rules = (
        Rule(
            "has(self.quantiles) != (has(self.min) || has(self.max))",
            "clip needs either quantiles, or min or max or both",
            lambda s: (s.quantiles is not None) != (s.min is not None or s.max is not None),
        ),
        Rule(
            "!has(self.min) || !has(self.max) || self.min < self.max",
            "min must be less than max",
            lambda s: s.min is None or s.max is None or s.min < s.max,
        ),
        Rule(
            "!has(self.quantiles) || 0.0 <= self.quantiles[0] && self.quantiles[0] < self.quantiles[1]"
            " && self.quantiles[1] <= 1.0",
            "quantiles are two numbers from 0 to 1, the smaller first",
            lambda s: s.quantiles is None or 0 <= s.quantiles[0] < s.quantiles[1] <= 1,
        ),
    )
    min: float | None = Field(default=None, description="Lower bound.")
    max: float | None = Field(default=None, description="Upper bound.")
    quantiles: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        default=None,
        description="Bounds as quantiles of the training part, e.g. [0.01, 0.99].",
    )


class Encode(Model):
    """Make numbers of categories."""

    type: Literal["oneHot", "ordinal", "frequency"] = Field(
        default="oneHot", description="How categories become numbers."
    )
    max_categories: int = Field(
        default=32,
        ge=2,
        le=4096,
        description="The rarest beyond this become one category.",
    )
    unknown: Literal["ignore", "refuse"] = Field(
        default="ignore", description="What an unseen category does at scoring."
    )


class TransformStep(Model):
    """Exactly one fitted transform."""

    rules = (
        Rule(
            "[has(self.impute), has(self.clip), has(self.scale), has(self.encode), has(self.bin), has(self.plugin)]"
            ".filter(x, x).size() == 1",
            "a transform step is exactly one of impute, clip, scale, encode, bin, plugin",
            lambda s: sum(x is not None for x in (s.impute, s.clip, s.scale, s.encode, s.bin, s.plugin)) == 1,
        ),
    )
    impute: Impute | None = Field(default=None, description="Fill missing values.")
    clip: Clip | None = Field(default=None, description="Bound the values.")
    scale: Literal["standard", "minMax", "robust"] | None = Field(default=None, description="Bring to a common scale.")
    encode: Encode | None = Field(default=None, description="Make numbers of categories.")
    bin: Annotated[int, Field(ge=2, le=256)] | None = Field(
        default=None, description="Quantile bins of the training part."
    )
    plugin: Plugin | None = Field(default=None, description="A transform registered by a plug-in.")


class Plugin(Model):
    """A strategy registered by an entry point."""

    name: Text = Field(description="Registered name.")
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Its parameters.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class Transform(Model):
    """Fitted transforms for some columns, in order; fitted by training on the training part only."""

    columns: list[ColumnName] = Field(min_length=1, max_length=1024, description="Columns that they apply to.")
    steps: list[TransformStep] = Field(min_length=1, max_length=16, description="The transforms.")


class Select(Model):
    """Which of the transformed features are kept, by a ranking on the training part."""

    rules = (
        Rule(
            "self.method == 'columns' ? has(self.columns) && !has(self.k) : has(self.k) && !has(self.columns)",
            "select by 'columns' needs columns and no k; any other method needs k and no columns",
            lambda s: (s.method == "columns", s.method == "columns") == (s.columns is not None, s.k is None),
        ),
    )
    method: Literal["chi2", "anova", "mutualInformation", "variance", "columns"] = Field(
        description="How features rank."
    )
    k: int | None = Field(default=None, ge=1, le=4096, description="How many are kept.")
    columns: list[ColumnName] | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="columns: the caller's own choice.",
    )


class Online(Model):
    """Keep the newest rows in the in-memory online store."""

    rules = (Rule("!has(self.ttl) || self.enabled", "ttl needs enabled: true", lambda o: o.ttl is None or o.enabled),)
    enabled: bool = Field(default=False, description="Whether rows are replicated to the online store.")
    ttl: Duration | None = Field(default=None, description="How long a row is kept there.")


class FeatureSetSpec(RunPolicy):
    """What is wanted of a FeatureSet."""

    rules = (
        Rule(
            "!has(self.lookback) || has(self.entity.timestamp)",
            "lookback needs entity.timestamp",
            lambda s: s.lookback is None or s.entity.timestamp is not None,
        ),
        Rule(
            "has(self.query) || self.inputs.size() == 1",
            "several inputs need a query",
            lambda s: s.query is not None or len(s.inputs) == 1,
        ),
        Rule(
            "[self.inputs.map(i, (has(i.alias) ? i.alias : i.dataset.replace('-', '_')).lowerAscii())]"
            ".all(names, names.all(a, names.exists_one(b, a == b)))",
            "the table names of inputs must differ in more than case, hyphens read as underscores; give one an alias",
            lambda s: len({i.table.lower() for i in s.inputs}) == len(s.inputs),
        ),
    )
    inputs: list[FeatureInput] = Field(
        min_length=1,
        max_length=32,
        description="Datasets that the query reads, each named once; the query may read it as often as it likes.",
        json_schema_extra=list_map("dataset"),
    )
    trigger: InputTrigger = Field(
        default_factory=InputTrigger,
        description="Which new inputs start a preparation, where there is neither schedule nor triggers.",
    )
    query: Annotated[str, Field(min_length=1, max_length=65536)] | None = Field(
        default=None,
        description="SELECT over the inputs (DuckDB's SQL): a row per entity and time. Absent: all of the one input.",
    )
    lookups: list[Lookup] = Field(
        default_factory=list,
        max_length=32,
        description="Features of other FeatureSets.",
    )
    engine: Engine = Field(default_factory=Engine, description="What runs the query.")
    entity: Entity = Field(description="What a row is about.")
    label: ColumnName | None = Field(default=None, description="Column of the query that models predict.")
    features: list[ColumnName] | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description="Columns that models see. Absent: all but keys, times and label.",
    )
    lookback: Duration | None = Field(default=None, description="How far back the query reads for a new row, online.")
    derive: list[Derived] = Field(
        default_factory=list,
        max_length=512,
        description="Features computed from one row.",
        json_schema_extra=list_map("name"),
    )
    transform: list[Transform] = Field(
        default_factory=list,
        max_length=256,
        description="Fitted transforms. Of columns that none names, numbers get the median for gaps, texts are one-hot "
        "encoded.",
    )
    select: Select | None = Field(default=None, description="Feature selection.")
    online: Online = Field(default_factory=Online, description="Online store.")
    partitions: int = Field(default=1, ge=1, le=256, description="Into how many files the rows are written.")
    schedule: Schedule | None = Field(
        default=None,
        description="When new inputs are taken up, instead of at once; the first time is at once.",
    )
    triggers: list[Trigger] = Field(
        default_factory=list,
        max_length=16,
        description="Messages that start a preparation.",
    )
    suspend: bool = Field(default=False, description="Start nothing new.")


class FeatureVersionStatus(Stored):
    """A feature set version."""

    rows: int = Field(ge=0, description="Rows.")
    inputs: list[InputVersion] = Field(default_factory=list, max_length=64, description="What it was made from.")
    created_at: datetime = Field(description="When it was committed.")


class FeatureSetStatus(RunStatus):
    """What has been observed of a FeatureSet."""

    latest_version: FeatureVersionStatus | None = Field(default=None, description="The newest version.")
    versions: list[Name] = Field(
        default_factory=list,
        max_length=10,
        description="Ids of the newest versions, newest first.",
    )
    columns: list[Column] = Field(
        default_factory=list,
        max_length=2048,
        description="Columns of the newest version.",
    )


TransformStep.model_rebuild()
