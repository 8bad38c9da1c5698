"""Fitted transforms of columns (PREP-2): fitted on the training part, written into the model's graph."""

from __future__ import annotations

from typing import Any

from levada.methods.registry import Registry
from levada.methods.transforms.base import Block, Fitted, Recipe, Transform, apply
from levada.methods.transforms.categories import EncodeTransform
from levada.methods.transforms.numbers import BinTransform, ClipTransform, ImputeTransform, ScaleTransform
from levada.resources.featureset import TransformStep

TRANSFORMS: Registry[Transform] = Registry(
    "transforms",
    {
        "impute": ImputeTransform(),
        "clip": ClipTransform(),
        "scale": ScaleTransform(),
        "encode": EncodeTransform(),
        "bin": BinTransform(),
    },
)


def transform_of(step: TransformStep) -> tuple[str, Transform, Any]:
    """Name, transform and configuration of a step of the manifest."""
    if step.plugin is not None:
        return step.plugin.name, TRANSFORMS[step.plugin.name], step.plugin.params
    for name in ("impute", "clip", "scale", "encode", "bin"):
        config = getattr(step, name)
        if config is not None:
            return name, TRANSFORMS[name], config
    raise AssertionError("a transform step has exactly one transform")


__all__ = ["TRANSFORMS", "Block", "Fitted", "Recipe", "Transform", "apply", "transform_of"]
