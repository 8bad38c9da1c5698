"""What ends an operator."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from levada.engines.kubernetes.cluster import Missing, Refused, Unavailable
from levada.engines.kubernetes.operator import KServeInstalled, _Health, _look_again


class Enough(Exception):
    pass


class Services:
    installed = True


class Engine:
    """An engine that sees a cluster with KServe, three times."""

    services = Services()
    looks = 0

    async def look(self) -> None:
        self.looks += 1
        if self.looks > 3:
            raise Enough


@pytest.mark.parametrize(("watched", "end"), [(False, KServeInstalled), (True, Enough)])
def test_dep1_an_operator_begins_anew_for_a_kserve_that_it_does_not_watch(watched: bool, end: type[Exception]) -> None:
    with pytest.raises(end):
        asyncio.run(_look_again(cast(Any, Engine()), _Health(), 0, watched=watched))


@pytest.mark.parametrize("error", [Unavailable, Refused, Missing])
def test_x5_a_look_that_fails_is_tried_again(error: type[Exception]) -> None:
    class Disturbed(Engine):
        async def look(self) -> None:
            await super().look()
            raise error("this time")

    engine = Disturbed()
    with pytest.raises(Enough):
        asyncio.run(_look_again(cast(Any, engine), _Health(), 0, watched=True))
    assert engine.looks > 3
