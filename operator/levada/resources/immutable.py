"""Which fields of a spec may not change: the same that the CRDs' transition rules refuse."""

from __future__ import annotations

from pydantic.alias_generators import to_camel

from levada.resources.base import Model


def immutable_changes(old: Model, new: Model) -> list[str]:
    """Paths (in YAML names) of the immutable fields in which two specs of one resource differ."""
    changed = []
    for name, field in type(old).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("immutable") and getattr(old, name) != getattr(new, name):
            changed.append("spec." + (field.alias or to_camel(name)))
    return changed
