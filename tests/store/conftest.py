"""The three stores under test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleet.database import Database
from fleet.store.base import Store
from fleet.store.memory import MemoryStore
from fleet.store.sql import SqlStore
from fleet.store.tables import METADATA

MakeStore = Callable[..., Store]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fleet.db"
    url: str = request.getfixturevalue("postgres_url")
    database = Database(url)
    with database.write() as connection:
        METADATA.drop_all(connection)
        connection.execute(sa.text("DROP TABLE IF EXISTS fleet_version"))
    database.close()
    return url


@pytest.fixture
def open_sql(url: str) -> Iterator[MakeStore]:
    """Opens a SqlStore on that database, as a process that starts would; any number of times."""
    opened: list[Database] = []

    def make(**arguments: object) -> Store:
        opened.append(Database(url))
        return SqlStore(opened[-1], **arguments)  # type: ignore[arg-type]

    yield make
    for database in opened:
        database.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """Makes an empty store of each kind."""
    if request.param == "memory":
        yield MemoryStore
        return
    database = Database(f"sqlite:///{tmp_path}/fleet.db" if request.param == "sqlite" else _emptied(request))
    yield lambda **arguments: SqlStore(database, **arguments)
    database.close()


def _emptied(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("postgres_url")
    database = Database(url)
    SqlStore(database)
    with database.write() as connection:
        names = ", ".join(METADATA.tables)
        connection.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY"))
    database.close()
    return url


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    return make_store()
