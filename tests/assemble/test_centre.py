"""A centre's start on what an earlier one left."""

from dataclasses import replace
from pathlib import Path

from fleet.assemble.centre import Centre
from fleet.assemble.state import access_from
from fleet.config import Config, parse
from fleet.queues.client import ClearMLServer

FLEET_FILE = """\
cluster: c
listen: 127.0.0.1:0
resources:
  gpu: {provider: local, gpus: 1}
queues:
  train: {resources: [gpu]}
"""


def a_config(tmp_path: Path) -> Config:
    return replace(parse(FLEET_FILE, "fleet.yaml"), state_dir=tmp_path / "state")


def test_users_keys_go_on_working_when_the_database_was_lost(tmp_path: Path) -> None:
    first = Centre(a_config(tmp_path), with_dispatcher=False)
    first.start()
    keys = first.state.credentials()
    first.stop()
    for file in (tmp_path / "state").glob("server.db*"):
        file.unlink()
    second = Centre(a_config(tmp_path), with_dispatcher=False)
    second.start()
    try:
        assert keys
        assert second.state.credentials() == keys
        for who in ("fleet", "user"):
            server = ClearMLServer(access_from(keys, second.access.api_url, who))
            assert set(server.ensure_queues(["train"])) == {"train"}
    finally:
        second.stop()
