"""What the local engine looks at beside the home."""

from __future__ import annotations

from pathlib import Path

from levada.engines.local.engine import _read_from
from levada.engines.local.fingerprint import source_fingerprint
from tests.unit.planners.worlds import dataset, deployment, scoring_run


def test_score4_files_to_score_are_looked_at_as_those_of_a_dataset(tmp_path: Path) -> None:
    place = {"uri": f"{tmp_path.as_uri()}/", "pattern": "*.csv"}
    given = {"type": "object", "object": {**place, "format": {"type": "csv"}}}
    scored, ingested = _read_from(scoring_run(input=given)), _read_from(dataset(source={**given, "object": place}))
    assert scored is not None
    assert ingested is not None
    before = source_fingerprint(scored)
    assert before == source_fingerprint(ingested)
    (tmp_path / "a.csv").write_text("id\n1\n")
    assert source_fingerprint(scored) != before


def test_score4_what_lies_in_the_stores_needs_no_look() -> None:
    assert _read_from(scoring_run()) is None
    assert _read_from(deployment()) is None
