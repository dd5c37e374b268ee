"""A dispatcher that is killed after each call of a launch, and before its answer: one machine comes of it, and it is known for what it is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.providers.aws.conftest import alive, client
from tests.providers.aws.ec2 import Ec2
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("aws")]
ROOT = Path(__file__).parents[3]
FLEET_FILE = """\
cluster: lab
state_dir: {place}/state
listen: 127.0.0.1:{port}
advertise_url: https://fleet.lab:8765
tls: none
poll_interval: 200ms
resources:
  gpu:
    provider: aws
    region: us-east-1
    zones: [us-east-1a, us-east-1b]
    instance_types: [g5.xlarge, g5.2xlarge]
    image: ami-12c6146b
    min_instances: 1
    prices: {{g5.xlarge: {{on_demand: 1.0}}, g5.2xlarge: {{on_demand: 1.0}}}}
    allocation_strategy: price-capacity-optimized
    endpoint_url: "{url}"
queues:
  train: {{resources: [gpu]}}
"""


class Dispatchers:
    """One after the other on the same state. `dies_after`: the call during which the one that runs is killed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.dies_after = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, dies_after: str = "") -> None:
        self.dies_after = dies_after
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command("dispatch"), env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
            )

    def command(self, verb: str, *more: str) -> list[str]:
        return [sys.executable, "-m", "fleet", verb, "--config", str(self.place / "fleet.yaml"), *more]

    def heard(self, action: str) -> None:
        if self.process and action == self.dies_after:
            self.dies_after = ""
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def has_died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def instances(self) -> list[dict[str, Any]]:
        done = subprocess.run(
            self.command("status", "--json"),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        return list(json.loads(done.stdout)["instances"]) if done.returncode == 0 else []


@pytest.fixture
def dispatchers(ec2: Ec2, tmp_path: Path) -> Iterator[Dispatchers]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "fleet.yaml").write_text(FLEET_FILE.format(place=tmp_path, port=port, url=ec2.url))
    made = Dispatchers(tmp_path)
    ec2.after = made.heard
    yield made
    ec2.after = lambda action: None
    if made.process and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_a_dispatcher_killed_after_its_launch_template_and_another_after_the_launch_start_one_machine(
    ec2: Ec2, dispatchers: Dispatchers
) -> None:
    # Of the two types only the one that is not asked for first is there, in one zone.
    for zone in ("us-east-1a", "us-east-1b"):
        ec2.capacity["g5.xlarge", zone, "on-demand"] = 0
    ec2.capacity["g5.2xlarge", "us-east-1a", "on-demand"] = 0
    for action, machines in (("CreateLaunchTemplate", 0), ("CreateFleet", 1)):
        dispatchers.start(dies_after=action)
        wait_for(dispatchers.has_died, 60.0)
        assert len(alive(ec2)) == machines, action
    dispatchers.start()
    # As soon as the dead one's lead has run out; then some passes more.
    wait_for(lambda: any(i["cloud_id"] for i in dispatchers.instances()), 60.0)
    seen = ec2.count("ec2:DescribeInstances")
    wait_for(lambda: ec2.count("ec2:DescribeInstances") > seen + 2, 30.0)
    (machine,) = alive(ec2)
    (known,) = dispatchers.instances()
    assert (known["cloud_id"], known["type"], known["zone"]) == (machine["InstanceId"], "g5.2xlarge", "us-east-1b")
    # What the killed ones left carries the tag by which it is found when it is old.
    tags = [t["Tags"] for t in client(ec2).describe_launch_templates()["LaunchTemplates"]]
    assert all({"Key": "fleet:cluster", "Value": "lab"} in tag for tag in tags)
