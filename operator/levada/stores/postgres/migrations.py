"""Plain SQL migrations: files `sql/NNNN_name.sql`, applied in their order and recorded with their checksums."""

from __future__ import annotations

from importlib.resources import files

from levada import names
from levada.errors import StoreUnavailable
from levada.stores.postgres.connection import Connection

_LOCK = 0x6C65_7661_6461  # "levada": one migration at a time in a database
_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)
"""


def scripts() -> dict[str, str]:
    """The migrations of this version: SQL by name, in the order in which they apply."""
    folder = files("levada.stores") / "sql"
    found = {entry.name.removesuffix(".sql"): entry for entry in folder.iterdir() if entry.name.endswith(".sql")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}


def migrate(connection: Connection, wanted: dict[str, str]) -> list[str]:
    """Apply what is missing; the names of it. Runs inside the caller's transaction: all or nothing.

    Raises StoreUnavailable if a migration that was applied is another now, or unknown to this version.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    connection.execute(_TABLE)
    applied: dict[str, str] = dict(connection.execute("SELECT name, checksum FROM migrations").fetchall())
    unknown = sorted(applied.keys() - wanted.keys())
    if unknown:
        raise StoreUnavailable(
            f"the catalogue was migrated by a newer version of Levada (it has '{unknown[-1]}'): update this one"
        )
    done = []
    for name, sql in wanted.items():
        checksum = names.digest(sql.encode())
        if name not in applied:
            connection.execute(sql.encode(), prepare=False)
            connection.execute("INSERT INTO migrations (name, checksum) VALUES (%s, %s)", [name, checksum])
            done.append(name)
        elif applied[name] != checksum:
            raise StoreUnavailable(
                f"the migration '{name}' is not the one that the catalogue was made with: "
                "use the version of Levada that made it, or start with an empty database"
            )
    return done
