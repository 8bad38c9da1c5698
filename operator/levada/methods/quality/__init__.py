"""What is demanded of data, and what is done with rows that break it."""

from __future__ import annotations

from levada.methods.quality.demands import Demand, expand
from levada.methods.quality.rows import Tally, check_rows
from levada.methods.quality.whole import Finding, WholeChecks

__all__ = ["Demand", "Finding", "Tally", "WholeChecks", "check_rows", "expand"]
