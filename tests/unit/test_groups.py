"""What the tests rest on when several processes share them out."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("together")
@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="there is one process: pytest -n 2 has several")
def test_tests_of_a_group_go_to_one_worker(request: pytest.FixtureRequest) -> None:
    # By the end of its name the scheduler knows the group; where it is not there, each worker makes what it shares.
    assert request.node.nodeid.endswith("@together")
