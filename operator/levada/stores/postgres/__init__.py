"""The catalogue over PostgreSQL (psycopg 3)."""

from levada.stores.postgres.catalogue import PostgresCatalogue, open_catalogue

__all__ = ["PostgresCatalogue", "open_catalogue"]
