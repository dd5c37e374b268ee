"""`fleet doctor` and the queues of a fleet file that the ClearML server does not have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.assemble.checks import examine
from fleet.assemble.queue_checks import queues
from fleet.config import Config, parse
from fleet.model import ServerAccess
from fleet.queues.client import ClearMLServer
from tests.queues.test_client_against_server import ServerProcess

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("client_against_server")]
FLEET_FILE = """\
cluster: lab
state_dir: {place}
server: {{url: "{url}", access_key: {access_key}, secret_key: {secret_key}}}
resources: {{gpu: {{provider: local, gpus: 1}}}}
queues: {{train: {{resources: [gpu]}}, trian: {{resources: [gpu]}}}}
"""


@pytest.fixture
def access(tmp_path: Path) -> Iterator[ServerAccess]:
    server = ServerProcess(tmp_path / "server")
    try:
        yield server.access
    finally:
        server.stop()


def fleet(access: ServerAccess, place: Path) -> Config:
    text = FLEET_FILE.format(
        place=place, url=access.api_url, access_key=access.access_key, secret_key=access.secret_key
    )
    return parse(text, "fleet.yaml", environment={})


def test_a_queue_that_the_server_does_not_have_is_told_and_made_only_when_asked_to(
    access: ServerAccess, tmp_path: Path
) -> None:
    config, server = fleet(access, tmp_path / "fleet"), ClearMLServer(access)
    server.ensure_queues(["train", "trains"])
    there, missing = queues(config, server, is_mending=False)
    assert (there.found, there.is_fine) == ("on the server: train", True)
    assert (missing.name, missing.found) == ("queue trian", "not on the server")
    assert missing.fix.startswith("if trains is meant, which is there, mend `queues` in the fleet file; else run")
    assert "fleet doctor --fix" in missing.fix
    assert "trian" not in server.queue_names(), "to look changes nothing"
    told = {c.name: c for c in examine(lambda: config)}
    assert not told["queue trian"].is_fine
    assert "answers" in told["ClearML server"].found
    made = {c.name: c for c in examine(lambda: config, is_mending=True)}
    assert made["queue trian"].found == "was not on the server; made now"
    assert {"train", "trains", "trian"} <= set(server.queue_names())
    assert [c.name for c in queues(config, server, is_mending=False)] == ["queues"]


def test_a_server_that_is_silent_is_one_line(tmp_path: Path) -> None:
    nobody = ServerAccess(
        api_url="http://127.0.0.1:9", web_url="http://x", files_url="http://x", access_key="k", secret_key="s"
    )
    told = {c.name: c for c in examine(lambda: fleet(nobody, tmp_path))}
    assert not told["ClearML server"].is_fine
    assert [name for name in told if name.startswith("queue")] == []
