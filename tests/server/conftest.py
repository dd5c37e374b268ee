"""Fixtures: an embedded server on a state of its own."""

import os
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleet.server import credentials
from fleet.server.app import Server, ServerSettings, create_server
from tests.server.embedded import Client, Clock, basic

# The URL of an empty PostgreSQL server ("postgresql+psycopg://user@host:port/postgres"): then all of this runs on it.
POSTGRES = os.environ.get("FLEET_TEST_POSTGRES")


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    if POSTGRES is None:
        yield f"sqlite:///{tmp_path}/server.db"
        return
    name = f"fleet_{uuid.uuid4().hex}"
    engine = sa.create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield sa.make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> ServerSettings:
    return ServerSettings(
        database_url=database_url,
        files_dir=tmp_path / "files",
        public_url="http://fleet.lab:8765",
        unavailable_delay=timedelta(seconds=0.2),
    )


@pytest.fixture
def open_client(settings: ServerSettings) -> Iterator[Callable[[], Client]]:
    """Opens a server on the test's state; call it again for a restart on the same state."""
    servers: list[Server] = []
    clock = Clock()

    def open() -> Client:
        for server in servers:
            server.close()
        enqueued: list[str] = []
        server = create_server(settings, enqueued.append, clock)
        servers.append(server)
        pair = credentials.create(server.database, "ada", "test")
        return Client(server, clock, basic(pair), enqueued)

    yield open
    for server in servers:
        server.close()


@pytest.fixture
def client(open_client: Callable[[], Client]) -> Client:
    return open_client()
