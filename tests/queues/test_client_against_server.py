"""Our client and our server keep the contract together: a server process, real HTTP, a real database."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.model import ServerAccess
from fleet.queues.base import LogLine
from fleet.queues.client import ClearMLServer
from tests.ports import a_free_port
from tests.queues.queues_contract import TRAIN, ApiPeople, ConcurrentContract
from tests.waiting import PATIENCE, wait_for

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("client_against_server"),
    pytest.mark.skipif(
        importlib.util.find_spec("fleet.server.__main__") is None, reason="fleet.server is not built in this checkout"
    ),
]


class ServerProcess:
    """`python -m fleet.server` on a free port."""

    def __init__(self, state: Path) -> None:
        self.port = a_free_port()
        self.state = state
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "fleet.server",
            "--listen",
            f"127.0.0.1:{self.port}",
            "--state",
            str(self.state),
        ]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, 30, "the server listens")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=15 * PATIENCE)

    @property
    def access(self) -> ServerAccess:
        pair = json.loads((self.state / "credentials.json").read_text())
        url = f"http://127.0.0.1:{self.port}"
        return ServerAccess(api_url=url, files_url=url, web_url=url, **pair)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            is_listening = probe.connect_ex(("127.0.0.1", self.port)) == 0
        return is_listening and (self.state / "credentials.json").exists()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("server"))
    yield process
    process.stop()


class TestAgainstTheEmbeddedServer(ConcurrentContract):
    @pytest.fixture
    def server(self, process: ServerProcess) -> Iterator[ClearMLServer]:
        client = ClearMLServer(process.access)
        call = client._transport.call
        for queue in call("queues.get_all", {}).objects("queues"):
            if queue.text("name") in ("train", "urgent"):
                call("queues.delete", {"queue": queue.text("id"), "force": True})
        yield client
        client.close()

    @pytest.fixture
    def people(self, server: ClearMLServer) -> ApiPeople:
        return ApiPeople(server)


def test_a_client_outlives_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path)
    client = ClearMLServer(process.access, patience_s=20)
    client.ensure_queues(["train"])
    people = ApiPeople(client)
    task = people.draft("survivor")
    people.enqueue(task, "train")
    client.send_log(task, "w", [LogLine(at=datetime.now(UTC), text="before\n")])
    process.kill()
    process.start()
    assert [t.id for t in client.waiting([TRAIN])] == [task]
    client.send_log(task, "w", [LogLine(at=datetime.now(UTC), text="after\n")])
    assert "".join(client.log(task)[0]) == "before\nafter\n"
    client.close()
    process.stop()
