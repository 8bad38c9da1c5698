"""The model that is evaluated: one of Levada's own, or one trained elsewhere that is taken in (EVAL-5)."""

from __future__ import annotations

from typing import Any

import onnx
import onnx.checker
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NotImplemented
from pydantic import ValidationError

from levada import names
from levada.artifacts import ModelManifest, StoredFile
from levada.errors import Stalled
from levada.events import EventType
from levada.features.model import RUN_ERRORS, OnnxModel, first_line
from levada.methods.sources.base import Access
from levada.methods.sources.objects import open_object_source
from levada.resources.conditions import Reason
from levada.resources.dataset import ObjectSource, Source
from levada.settings import Settings
from levada.steps.context import StepContext
from levada.steps.evaluate.external import adapt
from levada.steps.evaluate.generated import generated_rows
from levada.steps.io import EvaluateWork
from levada.stores.ports import ObjectNotFound

MODEL = "model.onnx"


def load(context: StepContext, work: EvaluateWork) -> tuple[ModelManifest, bytes]:
    """Manifest and ONNX file of the candidate, as they lie below its prefix. Raises Stalled if there is no such model,
    or it is not what it should be."""
    prefix = names.model_prefix(context.input.owner.namespace, work.candidate)
    try:
        manifest = ModelManifest.from_bytes(context.objects.get(prefix + names.MANIFEST))
    except ObjectNotFound:
        manifest = _take_in(context, work, prefix)
    data = context.objects.get(prefix + manifest.onnx.key)
    if names.digest(data) != manifest.onnx.digest:
        raise Stalled(
            Reason.INVALID_DATA,
            f"{context.objects.uri(prefix + manifest.onnx.key)} has not the digest that its manifest names: it was "
            "changed or cut off, so train anew or register it anew",
        )
    expected = manifest.params.get("sourceDigest", manifest.onnx.digest)
    if work.digest is not None and work.digest != expected:
        raise Stalled(Reason.INVALID_DATA, f"spec.model.digest is {work.digest}, but the model's file has {expected}")
    if manifest.task != work.task:
        raise Stalled(
            Reason.INVALID_SPEC,
            f"spec.task is {work.task}, but the model '{manifest.candidate}' was made for {manifest.task}",
        )
    return manifest, data


def _take_in(context: StepContext, work: EvaluateWork, prefix: str) -> ModelManifest:
    """Copy a model from where it lies, made to take columns; its manifest is written last. Raises Stalled."""
    data = _read(context, work.model_uri)
    source_digest = names.digest(data)
    if work.digest is not None and work.digest != source_digest:
        raise Stalled(
            Reason.INVALID_DATA,
            f"spec.model.digest is {work.digest}, but {work.model_uri} has {source_digest}: name the file's own digest",
        )
    manifest, model = _own(context, work, data) or _adapted(context, work, data)
    _try(_open(model, work.model_uri), manifest, work.model_uri)
    context.objects.put(prefix + MODEL, model)  # one that is there without a manifest is left of an earlier attempt
    written, _ = context.put_manifest(prefix + names.MANIFEST, manifest)
    manifest = ModelManifest.from_bytes(written)
    owner, digest = context.input.owner, names.digest(written)
    event = context.event(
        EventType.MODEL_REGISTERED,
        key=(owner.uid, work.candidate),
        time=manifest.created_at,
        data={
            "candidate": work.candidate,
            "source": work.model_uri,
            "uri": context.objects.uri(prefix),
            "digest": digest,
        },
    )
    context.catalogue.commit_candidate(manifest, context.objects.uri(prefix), digest, event)
    return manifest


def _adapted(context: StepContext, work: EvaluateWork, data: bytes) -> tuple[ModelManifest, bytes]:
    """Manifest and file of a model that knows nothing of Levada."""
    adapted = adapt(_parse(data, work.model_uri), work.task)
    model = adapted.model.SerializeToString(deterministic=True)
    manifest = ModelManifest(
        candidate=work.candidate,
        namespace=context.input.owner.namespace,
        task=work.task,
        algorithm="external",
        type="external",
        params={"source": work.model_uri, "sourceDigest": names.digest(data)},
        onnx=StoredFile(key=MODEL, bytes=len(model), digest=names.digest(model)),
        request=adapted.inputs,
        inputs=adapted.inputs,
        outputs=adapted.outputs,
        classes=adapted.classes,
        created_at=context.now(),
    )
    return manifest, model


def _own(context: StepContext, work: EvaluateWork, data: bytes) -> tuple[ModelManifest, bytes] | None:
    """Manifest and file of a model that Levada made and that lies elsewhere, its manifest beside it; else None."""
    if work.model_uri.endswith(".onnx"):
        return None
    try:
        found = ModelManifest.from_bytes(_read(context, work.model_uri, names.MANIFEST))
    except Stalled as stalled:
        if stalled.reason is Reason.SOURCE_NOT_FOUND:
            return None
        raise
    except ValidationError as error:
        raise Stalled(
            Reason.INVALID_DATA,
            f"{work.model_uri.rstrip('/')}/{names.MANIFEST} is not the manifest of a model "
            f"({error.error_count()} errors): take it away, or name the .onnx file itself",
        ) from error
    _check_lookups(context, work, found)
    update: dict[str, Any] = {"candidate": work.candidate, "namespace": context.input.owner.namespace}
    if not all(prefix and _is_here(context, prefix) for prefix in (found.features_prefix, found.split_prefix)):
        # It was fitted in another installation: without its rows it is measured on generated ones.
        update |= {"features_prefix": None, "split_prefix": None}
    return found.model_copy(update=update), data


def _is_here(context: StepContext, prefix: str) -> bool:
    return context.objects.info(prefix + names.MANIFEST) is not None


def _check_lookups(context: StepContext, work: EvaluateWork, model: ModelManifest) -> None:
    """Raise Stalled if the model looks up what is not there."""
    for spec in model.lookups:
        if not _is_here(context, spec.prefix):
            raise Stalled(
                Reason.SOURCE_NOT_FOUND,
                f"spec.model.uri: the model at {work.model_uri} looks up the version {spec.version} of the feature set "
                f"'{spec.feature_set}', which is not here: copy it to {context.objects.uri(spec.prefix)}, or take a "
                "model without lookups",
            )


def _read(context: StepContext, uri: str, name: str = MODEL) -> bytes:
    """The bytes of a file of a model: of its .onnx file, or of a file in its folder."""
    file = uri if uri.endswith(".onnx") else f"{uri.rstrip('/')}/{name}"
    try:
        return context.objects.get(context.objects.key(file))
    except ValueError:
        pass  # of another bucket, or a local file
    except ObjectNotFound as error:
        raise Stalled(Reason.SOURCE_NOT_FOUND, f"spec.model.uri: {error}; put the model there") from error
    source = Source(type="object", object=ObjectSource(uri=file))
    found = open_object_source(source, Access(Settings(), context.allow_file_sources, "spec.model"))
    try:
        (entry, *_) = found.list()
    except Stalled as stalled:
        if stalled.reason is not Reason.SOURCE_NOT_FOUND:
            raise
        raise Stalled(
            Reason.SOURCE_NOT_FOUND, f"spec.model.uri: nothing is at {file}; put the model there"
        ) from stalled
    return b"".join(found.read(entry))


def _parse(data: bytes, uri: str) -> onnx.ModelProto:
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's errors share no base
        raise Stalled(Reason.INVALID_DATA, f"{uri} is not a valid ONNX model: {first_line(error)}") from error
    return model


def _open(data: bytes, uri: str) -> OnnxModel:
    try:
        return OnnxModel(data)
    except (Fail, InvalidGraph, InvalidProtobuf, NotImplemented) as error:
        raise Stalled(Reason.NOT_SUPPORTED, f"{uri} cannot be run by onnxruntime: {first_line(error)}") from error


def _try(model: OnnxModel, manifest: ModelManifest, uri: str) -> None:
    """Raise Stalled if a model cannot run on one row and on many."""
    rows = generated_rows(manifest.inputs)
    for columns in ({name: values[:1] for name, values in rows.items()}, rows):
        count = len(next(iter(columns.values())))
        try:
            found = model.run(columns)
        except RUN_ERRORS as error:
            raise Stalled(
                Reason.NOT_SUPPORTED,
                f"{uri} cannot be run on {count} rows at once: {first_line(error)}; export it with a batch of any size",
            ) from error
        if any(len(values) != count for values in found.values()):
            raise Stalled(
                Reason.NOT_SUPPORTED,
                f"{uri} does not give an answer for each of {count} rows: export it with a batch of any size",
            )
