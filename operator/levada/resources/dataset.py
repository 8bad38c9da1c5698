"""Dataset: where raw data comes from, what it looks like, and what is demanded of it (ING-1 … ING-6)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from levada.features.types import ColumnType
from levada.resources.base import (
    HTTP_URL,
    SOURCE_URI,
    ColumnName,
    Credentials,
    Model,
    Name,
    Rule,
    RunPolicy,
    Schedule,
    Subject,
    Text,
    Trigger,
    Union,
    essence,
)
from levada.resources.status import RunStatus, Stored


class ObjectSource(Model):
    """Files in object storage, or (local engine only) in a folder."""

    rules = (
        Rule(
            "!self.uri.startsWith('file:') || !has(self.endpoint) && !has(self.region) && !has(self.credentials)",
            "endpoint, region and credentials are for s3:// only",
            lambda o: not o.uri.startswith("file:") or (o.endpoint, o.region, o.credentials) == (None, None, None),
        ),
    )
    uri: Text = Field(
        description="s3://bucket/prefix/, or file:///folder/ under the local engine; a single file may be named too. "
        "./folder/ is relative: to the manifest's file where the levada command reads it, to the namespace's folder "
        "of sources (s3://levada/sources/<namespace>/ unless the operator is told otherwise) on Kubernetes.",
        pattern=SOURCE_URI,
    )
    pattern: Text = Field(default="*", description="Glob on the path below `uri`; `**` crosses folders.")
    endpoint: Text | None = Field(
        default=None,
        description="S3 endpoint, e.g. http://minio:9000; Levada's own if absent.",
    )
    region: Text | None = Field(default=None, description="S3 region.")
    credentials: Credentials | None = Field(default=None, description="Absent: Levada's own store credentials.")


class HttpSource(Model):
    """A file behind an HTTP address."""

    url: Text = Field(description="Address of the file.", pattern=HTTP_URL)
    credentials: Credentials | None = Field(default=None, description="Secret with username and password, or token.")


class SqlSource(Model):
    """The rows of a query against a SQL database."""

    dsn: Text = Field(description="Connection address without a password, e.g. postgresql://host:5432/db.")
    query: Annotated[str, Field(min_length=1, max_length=65536)] = Field(description="SELECT whose rows are ingested.")
    credentials: Credentials | None = Field(default=None, description="Secret with username and password.")


class StreamSource(Model):
    """Records of a NATS JetStream subject."""

    subject: Subject = Field(description="NATS subject of the records.")
    stream: Text | None = Field(default=None, description="JetStream stream; found by subject if absent.")


class Source(Model):
    """Where the data comes from."""

    union = Union("type", {"object": "object", "http": "http", "sql": "sql", "stream": "stream"})
    type: Literal["object", "http", "sql", "stream"] = Field(description="Which block below is given.")
    object: ObjectSource | None = Field(default=None, description="Files or object storage.")
    http: HttpSource | None = Field(default=None, description="HTTP.")
    sql: SqlSource | None = Field(default=None, description="SQL database.")
    stream: StreamSource | None = Field(default=None, description="Message stream.")


class Format(Model):
    """How the bytes are read. Compression is seen from the name and the bytes: .gz, .zst, .zip."""

    rules = (
        # The API server has filled in defaults by then: what is as by default is taken as not given.
        Rule(
            "self.type == 'csv' || self.delimiter == ',' && self.header && self.nullValues == ['', 'NA']"
            " && (self.type == 'jsonl' || self.encoding == 'utf-8')",
            "delimiter, header and nullValues are for type 'csv' only, encoding for 'csv' and 'jsonl'",
            lambda f: f.type == "csv" or essence(f).keys() <= {"type", *(["encoding"] if f.type == "jsonl" else [])},
        ),
    )
    type: Literal["csv", "jsonl", "parquet"] = Field(description="File format.")
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = Field(default=",", description="CSV: separator.")
    header: bool = Field(default=True, description="CSV: whether the first line names the columns.")
    null_values: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=lambda: ["", "NA"],
        max_length=32,
        description="CSV: texts that mean a missing value.",
    )
    encoding: Literal["utf-8", "latin-1", "utf-16"] = Field(
        default="utf-8", description="CSV and JSON lines: encoding."
    )


class Column(Model):
    """A column of the data."""

    name: ColumnName = Field(description="Name of the column.")
    type: ColumnType = Field(description="Type of its values.")
    nullable: bool = Field(default=True, description="Whether values may be missing.")


class DataSchema(Model):
    """What the data looks like; what is absent is inferred and shown in the status."""

    time_column: ColumnName | None = Field(default=None, description="Column with the time of each row.")
    keys: list[ColumnName] = Field(default_factory=list, max_length=16, description="Columns that identify a row.")
    columns: list[Column] | None = Field(default=None, max_length=1024, description="Columns; inferred if absent.")


class QualityCheck(Model):
    """A demand on a column, and what is done with rows that break it."""

    rules = (
        Rule(
            "has(self.min) || has(self.max) || has(self.oneOf) || has(self.matches) || self.notNull || self.unique"
            " || has(self.outliers)",
            "a quality check needs at least one of min, max, oneOf, matches, notNull, unique, outliers",
            lambda q: any(
                (
                    q.min is not None,
                    q.max is not None,
                    q.one_of is not None,
                    q.matches is not None,
                    q.not_null,
                    q.unique,
                    q.outliers is not None,
                )
            ),
        ),
        Rule(
            "!has(self.min) || !has(self.max) || self.min <= self.max",
            "min must not be greater than max",
            lambda q: q.min is None or q.max is None or q.min <= q.max,
        ),
    )
    column: ColumnName = Field(description="Column that is checked.")
    min: float | None = Field(default=None, description="Smallest allowed value.")
    max: float | None = Field(default=None, description="Largest allowed value.")
    one_of: list[Annotated[str, Field(max_length=256)]] | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="The allowed values, as text.",
    )
    matches: Text | None = Field(
        default=None,
        description="Regular expression (RE2) that the whole text must match.",
    )
    not_null: bool = Field(default=False, description="Values must be present.")
    unique: bool = Field(default=False, description="Values must not repeat within the batch.")
    outliers: float | None = Field(
        default=None,
        gt=0,
        description="Largest allowed distance from the median, in interquartile ranges.",
    )
    on_violation: Literal["rectify", "quarantine", "warn", "refuse"] = Field(
        default="warn",
        description="rectify: the value becomes null or the nearest bound; quarantine: the row is set aside with the "
        "reason; warn: it stays and is counted; refuse: the batch fails.",
    )


class Partitions(Model):
    """How one ingestion is split."""

    parallelism: int = Field(
        default=1,
        ge=1,
        le=256,
        description="How many parts are ingested at the same time.",
    )


class DatasetSpec(RunPolicy):
    """What is wanted of a Dataset."""

    source: Source = Field(description="Where the data comes from.")
    format: Format = Field(description="How it is read.")
    schema_: DataSchema = Field(default_factory=DataSchema, alias="schema", description="What it looks like.")
    quality: list[QualityCheck] = Field(default_factory=list, max_length=256, description="What is demanded of it.")
    partitions: Partitions = Field(default_factory=Partitions, description="How one ingestion is split.")
    schedule: Schedule | None = Field(default=None, description="When to ingest again; the first time is at once.")
    triggers: list[Trigger] = Field(
        default_factory=list,
        max_length=16,
        description="Messages that start an ingestion.",
    )
    suspend: bool = Field(default=False, description="Start nothing new.")


class BatchStatus(Stored):
    """A raw batch."""

    rows: int = Field(ge=0, description="Typed rows.")
    quarantined: int = Field(default=0, ge=0, description="Rows set aside.")
    files: int = Field(default=0, ge=0, description="Source files.")
    bytes: int = Field(default=0, ge=0, description="Bytes of the originals.")
    created_at: datetime = Field(description="When it was committed.")


class DatasetStatus(RunStatus):
    """What has been observed of a Dataset."""

    latest_batch: BatchStatus | None = Field(default=None, description="The newest batch.")
    batches: list[Name] = Field(
        default_factory=list,
        max_length=1000,
        description="Ids of the newest batches, newest first.",
    )
    batch_count: int = Field(default=0, ge=0, description="How many batches there have been.")
    columns: list[Column] = Field(
        default_factory=list,
        max_length=1024,
        description="Columns of the newest batch.",
    )
