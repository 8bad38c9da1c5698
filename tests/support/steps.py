"""Running a step's code in the test's own process, against the real stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from levada.names import Kind
from levada.settings import Settings
from levada.steps.context import StepContext
from levada.steps.io import Owner, StepInput, Work
from levada.stores.open import open_catalogue, open_objects, open_online
from levada.stores.ports import Catalogue, Objects
from tests.support.versions import NAMESPACE


@dataclass(frozen=True)
class Bench:
    """The stores, and contexts on them."""

    objects: Objects
    catalogue: Catalogue
    settings: Settings
    scratch: Path

    def context(self, work: Work, kind: Kind, name: str, index: int = 0, completions: int = 1) -> StepContext:
        """What a step is handed."""
        owner = Owner(kind=kind, namespace=NAMESPACE, name=name, uid=f"{kind}-{name}", generation=1)
        step_input = StepInput(job="job", owner=owner, execution="execution", completions=completions, work=work)
        return StepContext(
            input=step_input,
            index=index,
            scratch=self.scratch,
            open_objects=lambda: self.objects,
            open_catalogue=lambda: self.catalogue,
            open_online=lambda: open_online(self.settings),
        )


@contextmanager
def bench_of(settings: Settings, scratch: Path) -> Iterator[Bench]:
    """A bench on the stores that settings name."""
    catalogue = open_catalogue(settings)
    try:
        yield Bench(open_objects(settings), catalogue, settings, scratch)
    finally:
        catalogue.close()
