"""What each index leaves when it has done its share, and what all of them agree on before they begin."""

from __future__ import annotations

from levada import names
from levada.artifacts import Artifact, Listing, StoredFile
from levada.resources.base import Model
from levada.resources.dataset import Column, DatasetSpec
from levada.steps.agreed import SOURCE

# Below a batch's prefix.
SCHEMA = f"{SOURCE}schema.json"
STAGED = "staged/"


class BatchSchema(Artifact):
    """The columns of a batch: declared, or inferred from all files."""

    columns: list[Column]
    inferred: bool
    notes: list[str] = []  # what a person should know of how they were found


class Moments(Model):
    """A column of one file in figures that can be put together with those of others."""

    nulls: int = 0
    count: int = 0  # numbers that are finite
    mean: float | None = None  # absent where there are no numbers, or no double can hold it
    squares: float | None = None  # sum of squared distances from the mean; as `mean`
    min: float | str | None = None
    max: float | str | None = None


class Violations(Model):
    """How often a file breaks a demand, and where first."""

    count: int = 0
    line: int | None = None
    value: str = ""


class FileReceipt(Model):
    """What became of one file of the listing."""

    number: int  # in the listing
    original: StoredFile
    typed: StoredFile | None = None
    quarantine: StoredFile | None = None
    rows: int = 0
    quarantined: int = 0
    first_bad: str = ""  # why the first row was set aside
    moments: list[Moments]  # of each column
    violations: list[Violations] = []  # of each demand that rows meet or break by themselves


class Receipt(Artifact):
    """The share of one index."""

    index: int
    files: list[FileReceipt]
    distinct: list[str]  # sketch of each column, over all files


def receipts_prefix(prefix: str, listing: Listing, schema: BatchSchema, spec: DatasetSpec, completions: int) -> str:
    """Where the receipts for a listing lie: for other files, columns, checks or shares there are others."""
    wanted = {"format": spec.format.document(), "quality": [check.document() for check in spec.quality]}
    facts = [[entry.document() for entry in listing.entries], schema.document(), wanted, completions]
    return f"{prefix}receipts/{names.short_hash(facts)}/"
