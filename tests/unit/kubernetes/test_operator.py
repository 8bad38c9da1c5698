"""What ends an operator."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

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
