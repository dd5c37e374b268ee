"""Where a fleet's tables are: two SQLite files in its state directory, or a schema of its own in a PostgreSQL database."""

from __future__ import annotations

from fleet.assemble.state import state_of
from fleet.config import Config
from fleet.database import Database


def open_database(config: Config, name: str) -> Database:
    """The database of the fleet's store ("fleet") or of the embedded server ("server").

    Raises:
        StoreError: it cannot be opened.
    """
    return Database(database_url(config, name), schema_of(config))


def database_url(config: Config, name: str) -> str:
    """As SQLAlchemy writes it; may hold a password."""
    return state_of(config).database(name) if config.store == "sqlite" else config.store


def schema_of(config: Config) -> str:
    """Two clusters in one database share nothing. (A cluster's name has no underscore, so no two give the same.)"""
    return f"fleet_{config.cluster.replace('-', '_')}"
