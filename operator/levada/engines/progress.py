"""How far a job is, from what its indexes say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from levada.steps.io import ProgressRecord


def combined(records: Sequence[ProgressRecord], completions: int) -> ProgressRecord | None:
    """The progress of a job of so many indexes, of which these have said something; None if none has."""
    if not records:
        return None
    # Indexes may be in different phases, whose units do not add up: that counts in which most of them are.
    phase = Counter(record.phase for record in records).most_common(1)[0][0]
    same = [record for record in records if record.phase == phase]
    totals = [record.total for record in same if record.total is not None]
    total = sum(totals) if len(totals) == completions else None
    return same[-1].model_copy(update={"done": sum(record.done for record in same), "total": total})
