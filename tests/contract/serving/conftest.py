"""What scorers need: stores, and a folder for their configuration."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from levada.engines.local.servers import Endpoints
from levada.settings import Settings
from levada.stores.open import open_objects
from levada.stores.ports import Objects


@pytest.fixture
def objects(settings: Settings) -> Objects:
    return open_objects(settings)


@pytest.fixture
def environment(endpoints: Endpoints) -> dict[str, str]:
    """The variables that a scorer finds the stores by."""
    return endpoints.environment()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the configuration lies."""
    return tmp_path / "scorer.json"


class Scores:
    """The scores in the catalogue."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def rows(self) -> list[dict[str, object]]:
        with psycopg.connect(self._dsn, row_factory=psycopg.rows.dict_row) as connection:
            query = "select * from scores where mode = 'online' order by source, split_part(id, ':', 2)::bigint"
            return connection.execute(query).fetchall()

    def ids(self) -> set[str]:
        return {str(row["id"]) for row in self.rows()}


@pytest.fixture
def scores(catalogue_dsn: str) -> Scores:
    return Scores(catalogue_dsn)
