"""Fixtures for system tests: the server as a process, and places for its real clients."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.queues.client import ClearMLServer
from tests.ports import a_free_port
from tests.system import docker_engine
from tests.system.docker_engine import DockerEngine
from tests.system.edge import QUEUES, Machine, MakeMachine, Person, Server
from tests.system.real_clients import Home, RunningServer
from tests.system.ring import MakeRing, Ring


@pytest.fixture(scope="module")
def clearml_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    state = tmp_path_factory.mktemp("server") / "state"
    server = RunningServer(state, a_free_port())
    server.start()
    yield server
    if server.process is not None and server.process.poll() is None:
        server.stop()


@pytest.fixture
def home(tmp_path: Path, clearml_server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Home]:
    folder = tmp_path / re.sub(r"\W", "", request.node.name)[-20:]
    folder.mkdir()
    place = Home(folder, clearml_server)
    yield place
    place.end()


@pytest.fixture
def make_ring(tmp_path: Path) -> Iterator[MakeRing]:
    """Makes fleets on this machine; all that they started is ended with the test."""
    made: list[Ring] = []

    def make(**settings: object) -> Ring:
        made.append(Ring(tmp_path, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for ring in made:
        ring.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded server for tests of the edge."""
    server = Server(tmp_path_factory.mktemp("server") / "state")
    yield server
    server.kill()


@pytest.fixture
def clearml(server: Server) -> Iterator[Person]:
    """The server as people see it: submit, state, log."""
    client = ClearMLServer(server.access)
    client.ensure_queues([queue.name for queue in QUEUES])
    yield Person(client)
    client.close()


@pytest.fixture
def machine(server: Server, tmp_path: Path) -> Iterator[MakeMachine]:
    """Makes machines; all that they started is ended with the test."""
    machines: list[Machine] = []

    def make(sim_gpus: str = '{"count": 4}', name: str = "m1", driver: Path | None = None, **wanted: object) -> Machine:
        machines.append(Machine(tmp_path / name, server.access, sim_gpus, driver, **wanted))
        return machines[-1]

    yield make
    for each in machines:
        each.stop()
        sys.stdout.write(each.log.read_text())  # shown by pytest when the test fails


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """A Docker engine; tests with it are in the group `docker`, so that there is one."""
    with docker_engine.running() as engine:
        yield engine
