"""The contract of `Catalogue.migrate`."""

from __future__ import annotations

import threading

import psycopg
import pytest

from levada.errors import StoreUnavailable
from levada.stores.postgres import PostgresCatalogue
from levada.stores.postgres.migrations import migrate, scripts


def test_migrations_are_applied_once(empty_catalogue: PostgresCatalogue) -> None:
    assert empty_catalogue.migrate() == list(scripts())
    assert empty_catalogue.migrate() == []


def test_migrations_have_names_in_one_order() -> None:
    numbers = [int(name.partition("_")[0]) for name in scripts()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_x5_migrations_that_many_run_at_once_are_applied_once(postgres: str) -> None:
    ready = threading.Barrier(6)
    applied: list[list[str]] = []

    def run() -> None:
        catalogue = PostgresCatalogue(postgres)
        ready.wait()
        applied.append(catalogue.migrate())
        catalogue.close()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [[]] * 5 + [list(scripts())]


def test_a_later_migration_comes_on_top(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        assert migrate(connection, {"0001_a": "CREATE TABLE a (x int)"}) == ["0001_a"]
        both = {"0001_a": "CREATE TABLE a (x int)", "0002_b": "ALTER TABLE a ADD y int; INSERT INTO a VALUES (1, 2)"}
        assert migrate(connection, both) == ["0002_b"]
        assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, 2)]


def test_a_migration_that_was_changed_is_refused(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        migrate(connection, {"0001_a": "CREATE TABLE a (x int)"})
        changed = {"0001_a": "CREATE TABLE a (x bigint)", "0002_b": "CREATE TABLE b (x int)"}
        with pytest.raises(
            StoreUnavailable, match="the migration '0001_a' is not the one that the catalogue was made with"
        ):
            migrate(connection, changed)


def test_a_catalogue_of_a_newer_version_is_refused(catalogue: PostgresCatalogue, postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("INSERT INTO migrations (name, checksum) VALUES ('9999_later', '')")
    with pytest.raises(StoreUnavailable, match="migrated by a newer version of Levada \\(it has '9999_later'\\)"):
        catalogue.migrate()


def test_x5_migrations_that_fail_leave_nothing(postgres: str) -> None:
    broken = {"0001_a": "CREATE TABLE a (x int)", "0002_b": "CREATE TABLE b (x int); SELECT 1 / 0"}
    with psycopg.connect(postgres) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
            migrate(connection, broken)
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == []
