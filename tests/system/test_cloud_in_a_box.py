"""A cloud in a box: moto is the EC2 API, and what it launches boots. A stock Debian makes itself a machine of fleet by the package of its
dispatcher, from Debian's archive and PyPI; an image that is baked of it is ready in seconds."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleet.model import Instance, InstanceState
from tests.providers.aws.conftest import client, machines
from tests.providers.aws.ec2 import Ec2, served
from tests.system.box import image
from tests.system.box.cloud import Rented
from tests.system.box.ground import Ground
from tests.system.box.hypervisor import Hypervisor
from tests.system.box.image import Unavailable
from tests.system.box.machine import Disk
from tests.system.box.network import GATEWAY
from tests.system.box.way_out import NO_INDEX, WayOut
from tests.system.ring import Ring, a_free_port
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("vm")]

STOCK = "ami-12c6146b"  # one of those that moto has
ACCOUNT = "123456789012"  # moto's
TYPE, USD = "t3.medium", 0.0416
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAOFTHEBOX",
    "AWS_SECRET_ACCESS_KEY": "secret-key-of-the-account",
    "GIT": "token-of-git",
    "S3": "secret-of-the-storage",
}
# The machine's own programs are the container's: no registry is asked for an image.
MOUNTS = " ".join(f"-v {each}:{each}:ro" for each in ("/usr/bin", "/usr/lib", "/usr/lib64", "/opt/fleet-agent"))
PROVISION_WITHIN_S = 400

ENQUEUE = """
import sys
from clearml import Task
task = Task.create(project_name="box", task_name="by the SDK", script="work.py", packages=[], add_task_init_call=False)
Task.enqueue(task, queue_name=sys.argv[1])
print("SAW", task.id)
"""
WORK = """
import os, pathlib, urllib.error, urllib.request
print("in a container:", pathlib.Path("/.dockerenv").exists())
ask = urllib.request.Request("http://169.254.169.254/latest/api/token", method="PUT")
ask.add_header("X-aws-ec2-metadata-token-ttl-seconds", "60")
try:
    print("metadata said", urllib.request.urlopen(ask, timeout=2).status)
except urllib.error.HTTPError as error:
    print("metadata said", error.code)
except OSError as error:
    print("metadata: silence")
print("all of it")
"""


@dataclass
class Box:
    """One fleet and its cloud."""

    ground: Ground
    ec2: Ec2
    hypervisor: Hypervisor
    ring: Ring
    baked: list[Disk] = field(default_factory=list)  # the image, once there is one

    def enqueue(self, queue: str) -> str:
        """By the SDK, as a researcher does; the task's id."""
        place = self.ring.place / queue
        place.mkdir()
        (place / "work.py").write_text(WORK)
        conf = place / "clearml.conf"
        self.ring.fleet("server", "credentials", "-c", "fleet.yaml", "--write", str(conf))
        kept = {k: v for k, v in os.environ.items() if k not in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
        done = subprocess.run(
            [sys.executable, "-c", ENQUEUE, queue],
            env=kept | {"CLEARML_CONFIG_FILE": str(conf), "HOME": str(place)},
            cwd=place,
            capture_output=True,
            text=True,
            timeout=90 * PATIENCE,
            check=False,
        )
        assert "SAW " in done.stdout, done.stdout + done.stderr
        return done.stdout.split("SAW ")[1].split()[0]

    def instance(self, resource: str) -> Instance:
        """The only one that there ever was."""
        (only,) = [each for each in self.ring.instances() if each.resource == resource]
        return only

    def machine(self, resource: str) -> Rented:
        """What boots as that instance."""

        def found() -> Rented | None:
            ids = [each.cloud_id for each in self.ring.instances() if each.resource == resource]
            return self.hypervisor.rented.get(ids[0]) if ids and ids[0] else None

        machine = wait_for(found, 60, what="a machine boots")
        assert machine
        return machine

    def power_off_of(self, machine: Rented, within_s: float) -> None:
        """It powered itself off, nobody else ended it, and its cloud knows."""
        wait_for(lambda: not machine.vm.is_running, within_s, what="the machine ends")
        assert machine.vm.process.returncode == 0
        assert machine.terminated_at is None
        id_ = machine.metadata.instance
        wait_for(lambda: self.hypervisor.state(id_) == "terminated", what="EC2 shows it terminated")

    def report(self) -> None:
        """Shown by pytest when something fails."""
        print((self.ring.place / "dispatch.log").read_text()[-4000:])
        for each in self.hypervisor.rented.values():
            print(each.vm.console[-8000:])


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    try:
        ground = Ground(is_baked=False)
    except Unavailable as why:
        pytest.skip(str(why))
    try:
        image.leave_stock(ground.root)
        with opened(ground) as way_out, ground.network.entered(), served() as ec2:
            yield from _made(ground, way_out, ec2, tmp_path_factory.mktemp("box"))
    finally:
        ground.close()


@contextmanager
def opened(ground: Ground) -> Iterator[WayOut]:
    try:
        way_out = WayOut(ground.network, "".join(file.read_text() for file in image.sources()))
    except Unavailable as why:
        pytest.skip(str(why))
    try:
        yield way_out
    finally:
        way_out.close()


def _made(ground: Ground, way_out: WayOut, ec2: Ec2, place: Path) -> Iterator[Box]:
    ec2.prices[TYPE] = USD
    (ground.place / "lent").mkdir()
    stock = Disk(root=ground.root, is_kept=True, lent=way_out.lent(ground.place / "lent"))
    registered = client(ec2).register_image(Name="fleet-baked", RootDeviceName="/dev/sda1", Architecture="x86_64")
    baked: list[Disk] = []
    hypervisor = Hypervisor(ground, ec2, {STOCK: lambda: stock, registered["ImageId"]: lambda: baked[0]})
    fleet = fleet_file(place, ec2, hypervisor, registered["ImageId"])
    ring = Ring(place, host=GATEWAY, file=json.dumps(fleet).replace("{", "{{").replace("}", "}}"))
    ring.environment |= {k: v for k, v in SECRETS.items() if k.startswith("AWS")}
    ring.environment |= {"AWS_EC2_METADATA_DISABLED": "true"}
    try:
        yield Box(ground, ec2, hypervisor, ring.start(), baked)
    finally:
        ring.close()
        hypervisor.close()


def fleet_file(place: Path, ec2: Ec2, hypervisor: Hypervisor, baked: str) -> dict[str, Any]:
    """Machines without GPUs, from two images, whose tasks run in containers: of one on a bridge, of the other on its own network."""
    docker = {"network": "bridge", "arguments": MOUNTS}
    agent = {
        "mode": "docker",
        "image": "box:latest",
        "docker": docker,
        "environment": {"CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1"},
        "git": {"user": "git", "token": SECRETS["GIT"]},
        "storage": {"s3": {"key": "key-of-the-storage", "secret": SECRETS["S3"]}},
    }
    cpu: dict[str, Any] = {
        "provider": "aws",
        "region": "us-east-1",
        "zones": ["us-east-1a"],
        "instance_types": [TYPE],
        "endpoint_url": ec2.url,
        "max_instances": 1,
        "idle_timeout": "2s",
    }
    container = f"systemctl start docker.service\n{image.CONTAINER_IMAGE}"
    return {
        "cluster": "ring",
        "state_dir": str(place / "home" / "ring"),
        "listen": f"{GATEWAY}:{a_free_port()}",
        "poll_interval": "1s",
        "identity": {"aws_certificates": str(hypervisor.certificates), "aws_account": ACCOUNT},
        "agent": agent,
        "resources": {
            "stock": cpu | {"image": STOCK, "init_script": container},
            "baked": cpu | {"image": baked, "agent": {"docker": docker | {"network": "host"}}},
        },
        "queues": {name: {"resources": [name], "gpus": 0} for name in ("stock", "baked")},
    }


@pytest.fixture(scope="module")
def provisioned(box: Box) -> str:
    """The task that a stock machine ran, which is off again."""
    task = box.enqueue("stock")
    try:
        machine = box.machine("stock")
        wait_for(lambda: box.instance("stock").enrolled_at or not machine.vm.is_running, PROVISION_WITHIN_S)
        if not box.instance("stock").enrolled_at and NO_INDEX in machine.vm.console:
            pytest.skip(f"PyPI cannot be reached from this machine: {NO_INDEX}")
        assert box.ring.ends(task) == ["completed"]
        box.power_off_of(machine, 60)
    except AssertionError:
        box.report()
        raise
    return task


def test_a_stock_image_provisions_itself_runs_a_task_and_powers_itself_off(box: Box, provisioned: str) -> None:
    machine = box.machine("stock")
    said = box.ring.console(provisioned)
    assert "in a container: True" in said
    assert "all of it" in said
    took = dict(re.findall(r"fleet provision: (\S+): (\d+) s", machine.vm.console))
    assert [part for part in ("10-base", "20-docker", "40-fleet", "50-units") if part not in took] == []
    print(f"stock: enrolled {seconds_to_enrol(box, 'stock'):.1f} s after its boot began; scripts, s: {took}")


def test_what_its_tasks_ask_the_metadata_service_is_not_answered(box: Box, provisioned: str) -> None:
    assert "metadata: silence" in box.ring.console(provisioned)
    assert "dynamic/instance-identity/rsa2048" in box.machine("stock").metadata.asked  # by its supervisor


def test_its_ledger_is_closed_and_nothing_is_left_in_the_cloud(box: Box, provisioned: str) -> None:
    wait_for(lambda: box.instance("stock").state is InstanceState.GONE, 30, what="the ledger closes")
    instance = box.instance("stock")
    assert instance.end_reason
    assert instance.end_reason.code == "idle"
    assert instance.gone_at
    (paid,) = json.loads(box.ring.fleet("cost", "--json").stdout)["instances"]
    assert paid["id"] == instance.id
    assert paid["usd"] == pytest.approx(instance.usd(instance.gone_at), rel=0.01)
    assert paid["usd"] > 0
    assert json.loads(box.ring.fleet("status", "--json").stdout)["instances"] == []
    assert [each["InstanceId"] for each in machines(box.ec2)] == [instance.cloud_id]
    assert box.ring.store.events(kind="instance.orphan") == ()


def test_user_data_holds_no_secret(box: Box, provisioned: str) -> None:
    secrets = [*SECRETS.values(), *the_centres_own(box.ring.state)]
    assert len(secrets) > len(SECRETS) + 2
    for each in machines(box.ec2):
        told = client(box.ec2).describe_instance_attribute(InstanceId=each["InstanceId"], Attribute="userData")
        text = base64.b64decode(told["UserData"]["Value"]).decode()
        assert "FLEET_JOIN_TOKEN" in text
        assert [secret for secret in secrets if secret in text] == []


def test_an_image_that_is_baked_is_ready_in_seconds(box: Box, provisioned: str) -> None:
    image.finish(box.ground.root)
    box.baked.append(Disk(root=box.ground.root, docker=box.machine("stock").vm.docker))
    task = box.enqueue("baked")
    try:
        machine = box.machine("baked")
        assert box.ring.ends(task) == ["completed"]
        box.power_off_of(machine, 60)
    except AssertionError:
        box.report()
        raise
    assert "in a container: True" in box.ring.console(task)
    assert "metadata: silence" in box.ring.console(task)  # to root in it, on the machine's own network
    assert "fleet provision" not in machine.vm.console
    took = seconds_to_enrol(box, "baked")
    print(f"baked: enrolled {took:.1f} s after its boot began")
    assert took < seconds_to_enrol(box, "stock") / 3


def seconds_to_enrol(box: Box, resource: str) -> float:
    enrolled_at = box.instance(resource).enrolled_at
    assert enrolled_at
    return enrolled_at.timestamp() - box.machine(resource).launched_at


def the_centres_own(state: Path) -> Sequence[str]:
    """What the dispatcher made for itself and keeps from others: the server's credentials, the operators' token."""
    pairs = json.loads((state / "credentials.json").read_text())
    centre = json.loads((state / "centre.json").read_text())
    return [*(pair["secret_key"] for pair in pairs.values()), centre["token"]]
