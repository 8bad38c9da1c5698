"""What is demanded of data, and what is done with rows that break it. (`whole` is imported where it is needed: it
brings DuckDB.)"""

from __future__ import annotations

from levada.methods.quality.demands import Demand, Finding, expand
from levada.methods.quality.rows import Tally, check_rows

__all__ = ["Demand", "Finding", "Tally", "check_rows", "expand"]
