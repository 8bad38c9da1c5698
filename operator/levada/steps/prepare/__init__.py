"""Prepare: run a FeatureSet's query, look up other feature sets, derive features, and keep the rows as a version.

Below the version's prefix: `rows/part-00000.parquet` … (ordered by the entity's time, then its keys), `derive.onnx`
where features are derived, and last of all `manifest.json`. Same inputs, same bytes: rows have a total order, and a
query whose answer depends on the order of rows runs on one thread (order.py).

| module     | what it holds                                                          |
|------------|------------------------------------------------------------------------|
| version.py | the whole way from inputs to a manifest                                |
| inputs.py  | batches and looked-up versions on the local disk                       |
| order.py   | whether a query may use several threads and still give the same answer |
| engine.py  | DuckDB, shut off from files and network                                |
| schema.py  | the version's columns, and what is wrong with them                     |
| rows.py    | deriving, checking and writing rows                                    |
| online.py  | rows into the online store                                             |
"""

from __future__ import annotations

from levada import names
from levada.artifacts import FeatureManifest
from levada.errors import Stalled
from levada.events import EventType
from levada.resources.featureset import Online
from levada.steps.context import StepContext
from levada.steps.io import PrepareOutput, PrepareWork
from levada.steps.prepare.timing import timed
from levada.stores.ports import ObjectNotFound


def run(context: StepContext) -> PrepareOutput | None:
    """Prepare a version, or find it prepared.

    Raises Stalled, with one sentence that names the field or the column, for whatever only the user can put right;
    StoreUnavailable and other errors may be tried again.
    """
    work = context.input.work
    assert isinstance(work, PrepareWork)
    owner = context.input.owner
    prefix = names.features_prefix(owner.namespace, owner.name, work.version)
    try:
        data = context.objects.get(prefix + names.MANIFEST)
    except ObjectNotFound:
        data = _made(context, work, prefix)
    return _committed(context, work, prefix, data)


def _made(context: StepContext, work: PrepareWork, prefix: str) -> bytes:
    """The manifest of the version, which stands there now."""
    from levada.steps.prepare.version import make  # a step without work need not load the engines

    try:
        manifest = make(context, work, prefix)
    except Stalled:
        context.objects.delete_prefix(prefix)
        raise
    return context.put_manifest(prefix + names.MANIFEST, manifest)[0]


def _replicated(context: StepContext, manifest: FeatureManifest, prefix: str, online: Online) -> None:
    """The version's rows in the online store, unless a mark beside the version says that they were put there."""
    mark = f"{prefix}online/{online.ttl or 'kept'}"
    if context.objects.info(mark) is not None:
        return
    from levada.steps.prepare.online import replicate

    with timed(context, "replicate"):
        replicate(context, manifest, prefix, online)
    context.objects.put(mark, b"")


def _committed(context: StepContext, work: PrepareWork, prefix: str, data: bytes) -> PrepareOutput:
    """What a version whose manifest stands there still needs: its rows online, its row in the catalogue."""
    manifest, digest, uri = FeatureManifest.from_bytes(data), names.digest(data), context.objects.uri(prefix)
    if work.spec.online.enabled:
        _replicated(context, manifest, prefix, work.spec.online)
    event = context.event(
        EventType.FEATURES_GENERATED,
        key=(manifest.namespace, manifest.feature_set, manifest.version),
        time=manifest.created_at,
        data={
            "version": manifest.version,
            "uri": uri,
            "digest": digest,
            "rows": manifest.rows,
            "columns": len(manifest.columns),
            "inputs": [used.document() for used in manifest.inputs],
        },
    )
    context.catalogue.commit_features(manifest, uri, digest, event)
    for warning in manifest.warnings:
        context.warn(warning)
    return PrepareOutput(prefix=prefix, digest=digest, manifest=manifest)
