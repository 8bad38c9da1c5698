"""FeatureSet: a version for each set of input batches and looked-up versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from levada import names
from levada.artifacts import LookupColumn, LookupSpec
from levada.errors import Stalled, Waiting
from levada.names import Prefix
from levada.planners import definitions, executions, references, supported
from levada.planners.course import Course, Inputs, Outcome
from levada.planners.plan import Job, JobState, Observed, Plan
from levada.resources import FeatureSet
from levada.resources.base import essence, parse_duration
from levada.resources.conditions import Reason
from levada.resources.dataset import Column
from levada.resources.featureset import FeatureInput, FeatureSetStatus, FeatureVersionStatus, Lookup
from levada.resources.status import Execution, InputVersion, RunStatus
from levada.steps.io import InputBatch, PrepareOutput, PrepareWork, StepResult

VERSIONS_SHOWN = 10  # as FeatureSetStatus bounds them
# What does not touch the rows of a version: when and how it is made, and what training fits later.
_NOT_IN_VERSION = {
    *("trigger", "schedule", "triggers", "suspend", "retries", "deadline", "resources", "podTemplate"),
    *("engine", "transform", "select"),
}


def plan(feature_set: FeatureSet, observed: Observed, now: datetime) -> Plan:
    """Prepare a version as soon as all inputs and look-ups are there, and again when any (or all) are new."""
    supported.check(feature_set, local=observed.local)
    references.refuse_cycle(feature_set, observed)
    definitions.check(feature_set, observed)
    spec, status, metadata = feature_set.spec, feature_set.status, feature_set.metadata

    def identify(_: str, inputs: Inputs, __: str | None) -> str:
        wanted = {key: value for key, value in essence(spec).items() if key not in _NOT_IN_VERSION}
        used = [i.document() for i in inputs]
        return names.derived_id(Prefix.FEATURES, [metadata.namespace, metadata.name, wanted, spec.engine.type, used])

    def build(execution: Execution, name: str) -> Job:
        used = {(i.kind, i.name): i.ids for i in execution.inputs}
        work = PrepareWork(
            version=execution.id,
            spec=spec,
            inputs=[_input_batch(metadata.namespace, i, used["Dataset", i.dataset]) for i in spec.inputs],
            lookups=[
                _lookup(feature_set, observed, index, lookup, used["FeatureSet", lookup.feature_set][0])
                for index, lookup in enumerate(spec.lookups)
            ],
        )
        return executions.step_job(feature_set, execution, name, work)

    def advance(_: Execution, job: JobState | None) -> Outcome:
        return executions.from_job(job, lambda result: committed(result, status, observed.bucket))

    def supersede(new: Inputs, old: Inputs) -> bool:
        if spec.trigger.when == "any" or len(new) != len(old):
            return new != old
        pairs = [(n, o) for n, o in zip(new, old, strict=True) if n.kind == "Dataset"]
        return all(n != o for n, o in pairs)

    course = Course("prepare", identify, _inputs(feature_set, observed), build, advance, _describe, supersede=supersede)
    return executions.carry_out(feature_set, observed, now, course)


def _inputs(feature_set: FeatureSet, observed: Observed) -> Inputs | Waiting:
    """The newest batches and versions, in the order of the spec."""
    namespace, spec = feature_set.metadata.namespace, feature_set.spec
    inputs: dict[tuple[str, str], InputVersion] = {}
    try:
        for given in spec.inputs:
            dataset = references.dataset(observed, namespace, given.dataset)
            references.settled(dataset)
            assert dataset.status.latest_batch is not None
            ids = [dataset.status.latest_batch.id]
            if given.batches == "all":
                ids = list(reversed(dataset.status.batches))
                if dataset.status.batch_count > len(ids):
                    raise Stalled(
                        Reason.NOT_SUPPORTED,
                        f"spec.inputs: Dataset {given.dataset} has {dataset.status.batch_count:,} batches; "
                        f"'batches: all' reads at most {len(ids):,}: use 'latest', or a Dataset with fewer",
                    )
            inputs["Dataset", given.dataset] = InputVersion(kind="Dataset", name=given.dataset, ids=ids)
        for lookup in spec.lookups:
            other = references.feature_set(observed, namespace, lookup.feature_set)
            references.settled(other)
            assert other.status.latest_version is not None
            ids = [other.status.latest_version.id]
            inputs["FeatureSet", lookup.feature_set] = InputVersion(kind="FeatureSet", name=lookup.feature_set, ids=ids)
    except Waiting as waiting:
        return waiting
    return list(inputs.values())


def _input_batch(namespace: str, given: FeatureInput, ids: list[str]) -> InputBatch:
    return InputBatch(
        dataset=given.dataset,
        alias=given.table,
        batches=ids,
        prefixes=[names.batch_prefix(namespace, given.dataset, id) for id in ids],
    )


def _lookup(feature_set: FeatureSet, observed: Observed, index: int, lookup: Lookup, version: str) -> LookupSpec:
    """The look-up of a version; the step completes what only the version's manifest knows."""
    namespace = feature_set.metadata.namespace
    other = references.feature_set(observed, namespace, lookup.feature_set)
    field, entity = f"spec.lookups[{index}]", other.spec.entity
    if len(lookup.keys) != len(entity.keys):
        raise Stalled(
            Reason.INVALID_SPEC,
            f"{field}.keys: FeatureSet {other.metadata.name} has the keys {', '.join(entity.keys)}; name as many "
            "columns, in the same order",
        )
    if lookup.as_of is not None and entity.timestamp is None:
        raise Stalled(
            Reason.INVALID_SPEC,
            f"{field}.asOf: FeatureSet {other.metadata.name} has no entity.timestamp, so it has no row as of a time; "
            "give it one, or leave asOf out",
        )
    prefix = definitions.lookup_prefix(lookup)
    types = {column.name: column.type for column in other.status.columns}
    for name in lookup.columns or []:
        if name not in types:
            raise Stalled(
                Reason.INVALID_SPEC,
                f"{field}.columns: FeatureSet {other.metadata.name} has no column '{name}' (it has {', '.join(types)})",
            )
    return LookupSpec(
        feature_set=lookup.feature_set,
        namespace=namespace,
        version=version,
        prefix=names.features_prefix(namespace, lookup.feature_set, version),
        on=lookup.keys,
        keys=entity.keys,
        key_types=[],
        as_of=lookup.as_of,
        timestamp=entity.timestamp,
        tolerance_seconds=parse_duration(lookup.tolerance).total_seconds() if lookup.tolerance else None,
        columns=[LookupColumn(source=n, name=prefix + n, type=types[n]) for n in lookup.columns or []],
        online=other.spec.online.enabled,
    )


def committed(result: StepResult, status: FeatureSetStatus, bucket: str) -> dict[str, Any] | None:
    """The status' fields after a preparation, from the result that committed it."""
    output = result.output
    if not isinstance(output, PrepareOutput):
        return None
    manifest = output.manifest
    version = FeatureVersionStatus(
        id=manifest.version,
        uri=f"s3://{bucket}/{output.prefix}",
        digest=output.digest,
        rows=manifest.rows,
        inputs=manifest.inputs,
        created_at=manifest.created_at,
    )
    older = [id for id in status.versions if id != version.id]
    return {
        "latest_version": version,
        "versions": [version.id, *older][:VERSIONS_SHOWN],
        "columns": [Column(name=c.name, type=c.type, nullable=c.nullable) for c in manifest.columns],
    }


def _describe(status: RunStatus) -> str:
    assert isinstance(status, FeatureSetStatus)
    version = status.latest_version
    assert version is not None
    return f"{version.id}: {version.rows:,} rows, {len(status.columns):,} columns"
