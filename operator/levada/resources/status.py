"""What the statuses of all kinds share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from levada.resources.base import Model, Name, list_map
from levada.resources.conditions import REASON_SCHEMA, Condition, Reason

Warning = Annotated[str, Field(max_length=1024)]


class Status(Model):
    """Common part of every status; -1 means that nothing has looked at the resource yet."""

    observed_generation: int = Field(default=-1, description="Generation of the spec that the status speaks of.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="Ready, Reconciling, Stalled; Complete and Failed where something ends.",
        json_schema_extra=list_map("type"),
    )
    warnings: list[Warning] = Field(default_factory=list, max_length=32, description="What a person should look at.")


class Stored(Model):
    """Something kept in the stores: its id, and where it lies."""

    id: Name = Field(description="Its id, by which everything is traced.")
    uri: str = Field(
        max_length=2048,
        description="Where its manifest's folder lies (s3://bucket/prefix/).",
    )
    digest: str = Field(max_length=80, description="Digest of its manifest.")


class InputVersion(Model):
    """Which version of an input went into something."""

    kind: Literal["Dataset", "FeatureSet"] = Field(description="Kind of the input.")
    name: Name = Field(description="Name of the input.")
    ids: list[Name] = Field(max_length=1024, description="Batch ids, or the feature set version.")


class Progress(Model):
    """How far a step has come."""

    step: str = Field(max_length=32, description="Which step.")
    done: int = Field(ge=0, description="Units done.")
    total: int | None = Field(default=None, ge=0, description="Units in all, if known.")
    unit: str = Field(default="rows", max_length=16, description="What is counted.")


class Execution(Model):
    """One run of something that may run many times; its id is derived from its inputs."""

    id: Name = Field(description="Id of the execution.")
    trigger: str = Field(
        default="initial",
        max_length=512,
        description="What it answers: initial, inputs, schedule <time>, message <id>, request <value>.",
    )
    state: Literal["Running", "Succeeded", "Failed", "Cancelled"] = Field(description="How it stands.")
    attempt: int = Field(default=1, ge=1, description="Grows when the same execution is asked for once more.")
    job: Name = Field(description="Name of its Job.")
    inputs: list[InputVersion] = Field(default_factory=list, max_length=64, description="What it works on.")
    source: str | None = Field(
        default=None, max_length=256, description="What told the content of a source, where that could be seen."
    )
    started_at: datetime = Field(description="When it was first planned.")
    finished_at: datetime | None = Field(default=None, description="When it ended.")
    progress: Progress | None = Field(default=None, description="How far it is.")
    reason: Annotated[Reason, REASON_SCHEMA] | None = Field(default=None, description="Why it failed.")
    message: str = Field(default="", max_length=32768, description="Why it failed, for a person.")


class RunStatus(Status):
    """Status of what may run many times."""

    execution: Execution | None = Field(default=None, description="The current or last execution.")
    last_schedule_time: datetime | None = Field(
        default=None, description="Newest tick that was answered, or the last one before the schedule was seen."
    )
    observed_schedule: str | None = Field(
        default=None, max_length=2049, description="Cron expression and time zone whose ticks are counted."
    )
    last_message: str | None = Field(default=None, max_length=1024, description="Newest message that was answered.")
    last_request: str | None = Field(
        default=None, max_length=256, description="Value of the annotation levada.dev/requested-at that was answered."
    )


def execution_of(status: Status) -> Execution | None:
    """The current or last execution; None before the first, and of kinds that run nothing."""
    return status.execution if isinstance(status, RunStatus) else None
