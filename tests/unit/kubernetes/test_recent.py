"""A memory that does not grow for ever."""

from __future__ import annotations

from levada.engines.kubernetes.recent import Recent


def test_x5_the_newest_are_remembered_and_the_oldest_forgotten() -> None:
    recent = Recent[str](2)
    for entry in ("a", "b", "c"):
        recent.add(entry)

    assert [entry in recent for entry in "abc"] == [False, True, True]
