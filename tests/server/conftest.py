"""Fixtures: an embedded server on a state of its own."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.server import credentials
from fleet.server.app import Server, ServerSettings, create_server
from tests.server.embedded import Client, Clock, basic


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings(
        database_url=f"sqlite:///{tmp_path}/server.db",
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
