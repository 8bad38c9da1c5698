"""Which of a resource's jobs are kept when they have ended, under every engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping

KEPT = 3  # of the jobs that succeeded, and of those that did not: what a person would look at


def outdated(newest_first: Mapping[str, bool], needed: Collection[str]) -> list[str]:
    """Which jobs (by name, with whether they succeeded) nobody will look at any more.

    That is all but the newest KEPT that succeeded, the newest KEPT that did not, and those that are needed.
    """
    succeeded = [name for name, well in newest_first.items() if well]
    others = [name for name, well in newest_first.items() if not well]
    return [name for name in (*succeeded[KEPT:], *others[KEPT:]) if name not in needed]
