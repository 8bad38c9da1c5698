"""What all six kinds share: strict camelCase models, metadata, references, unions and rules checked twice.

A rule is written once as CEL for the API server and once as Python for the local engine and `levada validate`; a test
against a real API server holds the two together.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
COLUMN = r"^[A-Za-z_][A-Za-z0-9_]*$"
DURATION = r"^([0-9]+(ms|s|m|h|d))+$"
SUBJECT = r"^(([A-Za-z0-9_$-]+|\*)\.)*([A-Za-z0-9_$-]+|\*|>)$"
SOURCE_URI = r"^(s3://[^/]+(/.*)?|file:///.*|\./.*)$"
MODEL_URI = r"^(s3://[^/]+/.+|file:///.+|\./.+)$"
HTTP_URL = r"^https?://.+$"
MEMORY = r"^[0-9]+(Mi|Gi)$"
DIGEST = r"^sha256:[0-9a-f]{64}$"
CONDITION_TYPE = r"^[A-Za-z][A-Za-z0-9]*$"
CONDITION_REASON = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"

PATTERNS_IN_WORDS = {
    NAME: "a name of lower-case letters, digits and hyphens, such as flights-2013",
    COLUMN: "a column name: letters, digits and underscores, not beginning with a digit",
    DURATION: "a duration, such as 90s, 20ms or 1h30m",
    SUBJECT: "a NATS subject, such as orders.new or orders.*",
    SOURCE_URI: "a place of files: write s3://bucket/prefix/, file:///folder/, or a relative ./folder/",
    MODEL_URI: "the place of a model: write s3://bucket/model.onnx, file:///folder/model.onnx, or ./model.onnx",
    HTTP_URL: "an HTTP address, such as https://example.com/data.csv",
    MEMORY: "an amount of memory, such as 512Mi or 4Gi",
    DIGEST: "a digest: sha256: and 64 hexadecimal digits",
    CONDITION_TYPE: "a type of conditions, such as Ready",
    CONDITION_REASON: "a reason, such as Succeeded",
    QUANTITY: "a quantity, such as 500m, 2 or 4Gi",
}
"""What a pattern asks for, to follow the words "is not"."""

_LONGEST = 100 * 365 * 86400.0  # seconds: a time so far away can still be reckoned with, and nobody waits for it
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> timedelta:
    """`1h30m`, `20ms`, `2d` as a timedelta; more than a hundred years are a hundred years."""
    seconds = sum(int(n) * _UNITS[u] for n, u in re.findall(r"([0-9]+)(ms|s|m|h|d)", text))
    return timedelta(seconds=min(seconds, _LONGEST))


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Duration = Annotated[str, StringConstraints(pattern=DURATION, max_length=32)]
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=63)]
"""A DNS label, as the names of resources that Levada refers to."""
ResourceName = Annotated[str, StringConstraints(pattern=NAME, max_length=50)]
"""The name of a resource of Levada: short enough for the names of the Jobs and pods that come from it."""
ColumnName = Annotated[str, StringConstraints(pattern=COLUMN, max_length=128)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Subject = Annotated[str, StringConstraints(pattern=SUBJECT, max_length=256)]
Quantity = Annotated[
    str,
    StringConstraints(pattern=QUANTITY, max_length=32),
    BeforeValidator(_number_as_text),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": QUANTITY, "maxLength": 32}),
]
"""A quantity as Kubernetes has it; a whole number may stand without quotes."""


@dataclass(frozen=True)
class Rule:
    """A rule on a model: CEL (on `self`) for the API server, the same in Python for everyone else."""

    cel: str
    message: str
    check: Callable[[Any], bool]


@dataclass(frozen=True)
class Union:
    """A union: the field `discriminator` names which one of the sibling blocks `members` is given.

    `members` maps each value of the discriminator to the name of its block, or to None where the value needs none.
    Names are those of Python fields.
    """

    discriminator: str
    members: dict[str, str | None]


def list_map(key: str) -> dict[str, Any]:
    """Schema of a list whose entries are told apart by a field: no two may have the same."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


# What is built at first use looks into the frame that uses it, which ended Python 3.13.0 with a segmentation fault.
_DEFERRED = sys.version_info < (3, 13)


class Model(BaseModel):
    """A strict, immutable model with camelCase names in YAML and JSON.

    Class variables: `union` and `rules` are checked here and turned into CEL by the CRD generator.
    """

    model_config = ConfigDict(
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        defer_build=_DEFERRED,
    )
    union: ClassVar[Union | None] = None
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        """What is wrong with the model as a whole."""
        for name, key in _list_maps(type(self)):
            seen: set[str] = set()
            for entry in getattr(self, name):
                value = getattr(entry, key)
                if value in seen:
                    yield f"{to_camel(name)}: the {to_camel(key)} '{value}' is given twice; each must differ"
                seen.add(value)
        if self.union is not None:
            chosen = getattr(self, self.union.discriminator)
            needed = self.union.members[chosen]
            for field in filter(None, self.union.members.values()):
                if (getattr(self, field) is not None) != (field == needed):
                    verb = "is needed" if field == needed else "must not be given"
                    yield f"{self.union.discriminator} is '{chosen}', so the block '{to_camel(field)}' {verb}"
        yield from (rule.message for rule in self.rules if not rule.check(self))

    def document(self) -> dict[str, Any]:
        """The model as plain JSON data with its YAML names, without what is unset or None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


@cache
def _list_maps(model: type[Model]) -> list[tuple[str, str]]:
    """The fields of a model that are list maps, each with its entries' key."""
    extras = [(name, field.json_schema_extra) for name, field in model.model_fields.items()]
    keys = [(name, e.get("x-kubernetes-list-map-keys")) for name, e in extras if isinstance(e, dict)]
    return [(name, str(found[0])) for name, found in keys if isinstance(found, list)]


def essence(model: Model) -> dict[str, Any]:
    """A model's document without what is as by default: ids are derived from it, so that a field which is added later,
    or a default that the API server fills in, makes no other id."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


class SecretRef(Model):
    """Secrets by reference only: a Secret of the same namespace, or locally a file or environment variables."""

    name: Name = Field(description="Name of the Secret (locally: `LEVADA_SECRET_<NAME>_<KEY>` in the environment).")


class Credentials(Model):
    """Where the credentials of a source lie."""

    secret_ref: SecretRef = Field(
        description="Secret with keys as the source needs them: accessKey, secretKey; username, password; token."
    )


class Schedule(Model):
    """When to run, as a CronJob has it."""

    cron: Text = Field(description="Cron expression with five fields, or @hourly, @daily, @weekly, @monthly.")
    time_zone: Text = Field(default="Etc/UTC", description="IANA time zone in which the expression is read.")
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = Field(
        default="Forbid", description="What happens when the last execution still runs."
    )
    starting_deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        le=604800,
        description="How late an execution may start; missed ones are skipped.",
    )


class Trigger(Model):
    """A NATS subject whose messages start an execution."""

    subject: Subject = Field(description="NATS subject; `*` and `>` as in NATS.")


class Resources(Model):
    """Resource requests and limits of a step's container, in Kubernetes' quantities."""

    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16, description="Requests, e.g. cpu: 500m.")
    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16, description="Limits, e.g. memory: 2Gi.")


class RunPolicy(Model):
    """How the steps of a resource are run."""

    retries: int = Field(default=3, ge=0, le=20, description="How often a failed part is tried again.")
    deadline: Duration | None = Field(default=None, description="How long one execution may take.")
    resources: Resources | None = Field(
        default=None,
        description="Requests and limits of the step's container. The local engine, which has no containers, leaves "
        "steps the whole machine.",
    )
    pod_template: dict[str, Any] | None = Field(
        default=None,
        description="Merged into the pod template of the step's Job. Refused by the local engine, which has no pods.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


_OTHER_METADATA = frozenset(
    {
        *("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName"),
        *("managedFields", "ownerReferences", "resourceVersion", "selfLink"),
    }
)


class Metadata(BaseModel):
    """The part of Kubernetes' ObjectMeta that Levada uses; its other fields are read over, what is none is refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)
    name: ResourceName
    namespace: Name = "default"
    uid: str = ""
    generation: int = 1
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _own(cls, given: Any) -> Any:
        return {k: v for k, v in given.items() if k not in _OTHER_METADATA} if isinstance(given, dict) else given
