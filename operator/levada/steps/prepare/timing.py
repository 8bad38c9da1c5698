"""How long the phases of a preparation take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from levada.steps.context import StepContext


@contextmanager
def timed(context: StepContext, phase: str) -> Iterator[None]:
    """Notes the seconds of a phase that ends well."""
    started = time.perf_counter()
    yield
    context.timings[phase] = round(time.perf_counter() - started, 3)
