"""Everything that the command line, the engine, steps and scorers import; see warm.py."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator

from levada.engines.local.forker import ONE_THREAD, PRELOAD
from levada.resources.base import Model

os.environ |= ONE_THREAD  # what starts threads cannot be forked


def load(package: str) -> None:
    """Import a package with all that belongs to it."""
    importlib.import_module(package)
    for module in pkgutil.walk_packages(sys.modules[package].__path__, f"{package}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)


def kinds_of(model: type[Model]) -> Iterator[type[Model]]:
    """The models that derive from a model."""
    for kind in model.__subclasses__():
        yield kind
        yield from kinds_of(kind)


for package in ("engines.local", "steps", "methods", "features", "serving", "stores"):
    load(f"levada.{package}")
for name in ("levada.cli", "pandas", *(name for names in PRELOAD.values() for name in names)):
    importlib.import_module(name)
for document in kinds_of(Model):
    document.model_rebuild()
