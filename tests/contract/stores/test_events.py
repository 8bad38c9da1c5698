"""Events: each type is documented, and what is announced is as documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from levada import event_reference
from levada.events import CATALOGUE, Event, EventType
from levada.names import Kind
from levada.planners.plan import Action
from tests.contract.stores import samples

PAGE = Path(__file__).parents[3] / "docs" / "events.md"


def test_x1_every_event_is_documented() -> None:
    assert set(CATALOGUE) == set(EventType)
    assert {action.value for action in Action} <= set(EventType)
    page = event_reference.page()
    for event, (_, schema) in CATALOGUE.items():
        section = page.partition(f"\n## {event}\n")[2].partition("\n## ")[0]
        for name, field in schema.model_fields.items():
            assert f"`{field.alias or name}`" in section


def test_the_page_that_is_committed_is_the_one_that_is_generated() -> None:
    assert PAGE.read_text() == event_reference.page(), "run 'make generate'"


@pytest.mark.parametrize("kind", Kind)
def test_x1_an_event_survives_its_way_as_a_cloud_event(kind: Kind) -> None:
    event = samples.event().model_copy(update={"kind": kind, "name": "a-b.c"})
    assert Event.from_cloud_event(event.cloud_event()) == event


@pytest.mark.parametrize(
    "document", [{}, {"type": "x", "source": "y"}, {"type": "dev.levada.dataset.unknown", "source": "/levada/a/b/c"}]
)
def test_what_is_no_event_of_levadas_is_told(document: dict[str, str]) -> None:
    with pytest.raises((ValueError, LookupError)):
        Event.from_cloud_event(document)
