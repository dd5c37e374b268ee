"""A dispatcher that is killed between the call and its answer launches nothing twice, on clouds with a token of ours and without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import a_free_port
from tests.providers.compute_engine import ComputeEngine, Refused, served
from tests.providers.genesis_cloud import TOKEN, GenesisCloud
from tests.waiting import wait_for

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
FLEET_FILE = """\
cluster: lab
state_dir: {place}/state
listen: 127.0.0.1:{port}
advertise_url: https://fleet.lab:8765
tls: none
poll_interval: 200ms
resources:
  zone: {{provider: gcp, project: lab-1, zones: [us-central1-a], instance_types: [g2-standard-24], image: fleet-1, min_instances: 2, endpoint_url: "{gcp}"}}
  rtx: {{provider: genesis, region: NORD-NO-KRS-1, instance_types: [vcpu-2_memory-4g], image: "ubuntu:22.04", token: {token}, ssh_keys: [ann-0], min_instances: 2, endpoint_url: "{genesis}"}}
queues:
  train: {{resources: [zone, rtx]}}
"""


class Killer:
    """Kills the dispatcher when the first machine of Genesis Cloud is made, and before it hears of it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.has_killed = False

    def __call__(self, verb: str, path: str) -> None:
        if verb == "POST" and not self.has_killed and self.process:
            self.has_killed = True
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


class LosingEngine(ComputeEngine):
    """Compute Engine, whose answers to launches are lost until the dispatcher has been killed."""

    def __init__(self, killer: Killer) -> None:
        super().__init__()
        self.killer = killer

    def handle(self, verb: str, path: str, query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        answer = super().handle(verb, path, query, body)
        if verb == "POST" and not self.killer.has_killed:
            raise Refused(502, "backendError", "no answer from upstream")
        return answer


@pytest.fixture
def killer() -> Iterator[Killer]:
    made = Killer()
    yield made
    if made.process and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_a_dispatcher_killed_between_call_and_answer_launches_nothing_twice(tmp_path: Path, killer: Killer) -> None:
    google, genesis = LosingEngine(killer), GenesisCloud()
    genesis.after = killer
    google.page = genesis.page = 100
    with served(google) as gcp_url, served(genesis) as genesis_url:
        text = FLEET_FILE.format(place=tmp_path, port=a_free_port(), gcp=gcp_url, genesis=genesis_url, token=TOKEN)
        (tmp_path / "fleet.yaml").write_text(text)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "fleet", "dispatch", "--config", str(tmp_path / "fleet.yaml")]
        with (tmp_path / "log").open("ab") as log:
            killer.process = first = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            wait_for(lambda: first.poll() is not None and killer.has_killed, 120.0)
            made = len(google.instances), len(genesis.instances)
            killer.process = second = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        assert made[0] == 2
        assert made[1] >= 1
        # As soon as the dead one's lead has run out, it asks again; then some passes more.
        wait_for(lambda: len(google.instances) + len(genesis.instances) == 4 or second.poll() is not None, 180.0)
        assert second.poll() is None, (tmp_path / "log").read_text()
        calls = len(google.calls) + len(genesis.calls)
        wait_for(lambda: len(google.calls) + len(genesis.calls) > calls + 2, 120.0)
    assert len(google.instances) == 2
    assert len(genesis.instances) == 2
    assert len({i["name"] for i in genesis.instances.values()}) == 2
