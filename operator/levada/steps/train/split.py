"""The split of a training run: computed by every index alike, written by the first (SPLIT-1 … SPLIT-3)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from levada import names
from levada.artifacts import SplitManifest, StoredFile
from levada.errors import Stalled
from levada.events import EventType
from levada.features.types import ColumnType
from levada.methods.splitters import PARTS, Parts, Rows, column_of, splitter_of
from levada.resources.conditions import Reason
from levada.steps.context import StepContext
from levada.steps.io import TrainWork
from levada.steps.train import split_of, split_prefix
from levada.steps.train.data import Label, Version
from levada.stores.ports import ObjectNotFound

MOST_RANGES = 64  # with more runs of consecutive rows than this, a part's row numbers go to a file
FEWEST_ROWS = 10
SHOWN_CHANGES = 5
RARE = 0.01  # classes with a smaller share are left out of warnings: a few rows make their shares jump


def split(context: StepContext, work: TrainWork, version: Version, label: Label | None) -> SplitManifest:
    """The split, made and committed if it is not there yet; raises Stalled if the rows cannot be divided so."""
    prefix = split_prefix(context, work)
    try:
        manifest, digest = split_of(context, work)
    except ObjectNotFound:
        data, _ = context.put_manifest(prefix + names.MANIFEST, _make(context, work, version, label, prefix))
        manifest, digest = SplitManifest.from_bytes(data), names.digest(data)
    owner = context.input.owner
    event = context.event(
        EventType.SPLIT_CREATED,
        key=(owner.uid, work.split),
        time=manifest.created_at,
        data={
            "split": work.split,
            "featureSetVersion": work.version,
            "rows": {part.name: part.rows for part in manifest.parts},
            "warnings": manifest.warnings,
            "uri": context.objects.uri(prefix),
            "digest": digest,
        },
    )
    context.catalogue.commit_split(manifest, context.objects.uri(prefix), digest, event)
    return manifest


def _make(context: StepContext, work: TrainWork, version: Version, label: Label | None, prefix: str) -> SplitManifest:
    spec = work.spec.split
    numbers, warnings = _usable(version, label)
    parts = splitter_of(spec)(Rows(numbers, _values(version, work, numbers)), spec)
    _check(parts, spec.ratios.test > 0 and spec.type != "custom")
    statistics = _statistics(version, label, parts)
    warnings += _imbalances(statistics, spec.max_imbalance)
    stored = [_stored(context, prefix, name, parts.get(name, numbers[:0])) for name in PARTS]
    return SplitManifest(
        split=work.split,
        namespace=context.input.owner.namespace,
        training_run=context.input.owner.name,
        feature_set=work.feature_set,
        version=work.version,
        type=spec.type,
        seed=spec.seed,
        parts=[part for part in stored if part.rows],
        shuffle=spec.shuffle,
        warnings=warnings,
        statistics=statistics,
        created_at=context.now(),
    )


def _usable(version: Version, label: Label | None) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The rows that can be learnt from: those with a label, if one is needed."""
    count = version.manifest.rows
    if label is None or label.present.all():
        return np.arange(count, dtype=np.int64), []
    missing = int(count - label.present.sum())
    if missing > count / 2:
        raise Stalled(
            Reason.INVALID_DATA,
            f"the label '{label.name}' is missing in {missing} of {count} rows, more than half: check the query of the "
            f"feature set '{version.manifest.feature_set}'",
        )
    warning = f"the label '{label.name}' is missing in {missing} of {count} rows, which are left out"
    return np.flatnonzero(label.present), [warning]


def _values(version: Version, work: TrainWork, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.object_] | None:
    """Values of the column that the splitter looks at, as Python objects."""
    name = column_of(work.spec.split, version.manifest.label)
    if name is None:
        return None
    version.column(name)
    values = version.rows.read([name]).column(name).to_pylist()
    return np.array(values, dtype=object)[numbers]


def _check(parts: Parts, wants_test: bool) -> None:
    train = len(parts["train"])
    if train < FEWEST_ROWS:
        raise Stalled(
            Reason.NO_ROWS,
            f"the training part of the split has {train} rows, and at least {FEWEST_ROWS} are needed: "
            "bring more data, or change split.ratios",
        )
    if wants_test and not len(parts["test"]):
        raise Stalled(Reason.NO_ROWS, "the test part of the split has no rows: bring more data, or change split.ratios")


def _stored(context: StepContext, prefix: str, name: Any, numbers: npt.NDArray[np.int64]) -> SplitManifest.Part:
    """A part as ranges where these are few, else as a file that is written here."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    if len(breaks) < MOST_RANGES:
        runs = np.split(numbers, breaks) if len(numbers) else []
        ranges = [(int(run[0]), int(run[-1]) + 1) for run in runs]
        return SplitManifest.Part(name=name, rows=len(numbers), ranges=ranges)
    buffer = io.BytesIO()
    np.save(buffer, numbers.astype(np.uint32))
    data = buffer.getvalue()
    key = f"{name}.npy"
    context.objects.put_if_absent(prefix + key, data)
    file = StoredFile(key=key, bytes=len(data), digest=names.digest(data), rows=len(numbers))
    return SplitManifest.Part(name=name, rows=len(numbers), file=file)


def _statistics(version: Version, label: Label | None, parts: Parts) -> dict[str, dict[str, float]]:
    """For each part: labelMean or labelShare:<class>, and mean:<feature> and std:<feature> of the numeric features;
    without those that no double can hold."""
    present = {name: numbers for name, numbers in parts.items() if len(numbers)}
    found: dict[str, dict[str, float]] = {name: {"rows": len(numbers)} for name, numbers in present.items()}
    if label is not None:
        is_number = label.values.dtype == np.float64
        classes, codes = (None, label.values) if is_number else np.unique(label.values, return_inverse=True)
        for name, numbers in present.items():
            if classes is None:
                with np.errstate(over="ignore"):
                    found[name]["labelMean"] = float(np.mean(label.values[numbers]))
            else:
                counts = np.bincount(codes[numbers], minlength=len(classes))
                shown = [bool(c) for c in classes] if label.is_boolean else classes
                for value, count in zip(shown, counts, strict=True):
                    found[name][f"labelShare:{value}"] = float(count / len(numbers))
    numeric = (ColumnType.INT64, ColumnType.FLOAT64)
    columns = [column for column in version.manifest.columns if column.role == "feature" and column.type in numeric]
    for feature, values in version.read(columns).items() if columns else ():
        for name, numbers in present.items():
            there = values[numbers, 0]
            there = there[np.isfinite(there)]
            if len(there):
                with np.errstate(over="ignore", invalid="ignore"):
                    found[name][f"mean:{feature}"] = float(np.mean(there))
                    found[name][f"std:{feature}"] = float(np.std(there))
    return {name: {figure: v for figure, v in figures.items() if np.isfinite(v)} for name, figures in found.items()}


def _imbalances(statistics: dict[str, dict[str, float]], limit: float) -> list[str]:
    """A sentence for each way in which a part differs from the training part by more than `limit` of the latter."""
    warnings = []
    train = statistics["train"]
    for part, figures in statistics.items():
        if part == "train":
            continue
        for figure, value in figures.items():
            before = train.get(figure)
            if before is None or before == 0 or abs(value - before) <= limit * abs(before):
                continue
            if figure == "labelMean":
                warnings.append(
                    f"the label's mean is {value:.4g} in the {part} part and {before:.4g} in the training part "
                    f"({(value - before) / abs(before):+.0%})"
                )
            elif figure.startswith("labelShare:") and max(value, before) >= RARE:
                warnings.append(
                    f"the class '{figure.removeprefix('labelShare:')}' has a share of {value:.1%} in the {part} part "
                    f"and of {before:.1%} in the training part ({(value - before) / before:+.0%})"
                )
        warnings += _shifted(part, figures, train, limit)
    return warnings


def _shifted(part: str, figures: dict[str, float], train: dict[str, float], limit: float) -> list[str]:
    """One sentence on the features whose mean moved by more than `limit` of the mean (of the deviation, if larger)."""
    shifts = {}
    for figure, value in figures.items():
        kind, _, name = figure.partition(":")
        before = train.get(figure)
        if kind != "mean" or before is None:
            continue
        scale = max(abs(before), train.get(f"std:{name}", abs(before)))
        if scale > 0 and abs(value - before) > limit * scale:
            shifts[name] = (value - before) / scale, before, value
    if not shifts:
        return []
    strongest = sorted(shifts.items(), key=lambda item: -abs(item[1][0]))[:SHOWN_CHANGES]
    shown = ", ".join(f"{name} ({before:.4g} to {after:.4g})" for name, (_, before, after) in strongest)
    more = f", and {len(shifts) - len(strongest)} more" if len(shifts) > len(strongest) else ""
    whose = "the mean of a feature differs" if len(shifts) == 1 else f"the means of {len(shifts)} features differ"
    return [f"{whose} by more than {limit:.0%} between the training and the {part} part: {shown}{more}"]
