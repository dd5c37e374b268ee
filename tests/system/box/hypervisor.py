"""What stands behind an EC2 API: each instance that moto says was launched is a machine that boots, and ends as that machine does.

After the Amazon EC2 User Guide: "Instance lifecycle", "Change the instance initiated shutdown behavior", "Instance identity
documents".
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.identity.signed import a_document, signed
from tests.providers.aws.conftest import client, machines
from tests.providers.aws.ec2 import Ec2
from tests.system.box.cloud import ENDS_WITHIN_S, Rented
from tests.system.box.ground import Ground
from tests.system.box.imds import TIME, Metadata, MetadataService
from tests.system.box.machine import Disk, Vm
from tests.waiting import PATIENCE

TURN_S, ASKS_EVERY_S = 0.05, 1.0
CHANGES = ("ec2:RunInstances", "ec2:CreateFleet", "ec2:TerminateInstances")
SHUTDOWN = "instanceInitiatedShutdownBehavior"
LAUNCHED = ("pending", "running")


class Hypervisor:
    """Runs in the network of the box. `images`: what a machine of each AMI boots from."""

    def __init__(self, ground: Ground, ec2: Ec2, images: Mapping[str, Callable[[], Disk]]) -> None:
        self.ground, self.ec2, self.images = ground, ec2, images
        self.rented: dict[str, Rented] = {}  # by EC2's id; all there ever were
        self.certificates = ground.place / "0.pem"  # of who signs identity documents
        self._by_address: dict[str, Metadata] = {}
        self._settled: set[str] = set()
        self._over = threading.Event()
        with ground.network.entered():
            signed(b"", ground.place)
            self._metadata = MetadataService(self._by_address)
            self._thread = threading.Thread(target=self._watch, name="hypervisor")
            self._thread.start()

    def close(self) -> None:
        """Whatever still runs is lost."""
        self._over.set()
        self._thread.join()
        for each in self.rented.values():
            if each.vm.is_running:
                each.vm.lose()
                each.vm.process.wait(10 * PATIENCE)
        self._metadata.close()

    def state(self, cloud_id: str) -> str:
        """As EC2 tells it."""
        return next(str(m["State"]["Name"]) for m in machines(self.ec2) if m["InstanceId"] == cloud_id)

    def _watch(self) -> None:
        """EC2 is asked at once when somebody called what may change what runs, and again and again, as calls take time."""
        calls, asked_at = 0, 0.0
        while not self._over.wait(TURN_S):
            for id_, each in self.rented.items():
                if not each.vm.is_running and id_ not in self._settled:
                    self._settle(id_, each)
            now = sum(map(self.ec2.count, CHANGES))
            if now != calls or time.monotonic() - asked_at > ASKS_EVERY_S:
                calls, asked_at = now, time.monotonic()
                self._follow(machines(self.ec2))

    def _follow(self, told: list[dict[str, Any]]) -> None:
        for each in told:
            known = self.rented.get(each["InstanceId"])
            is_wanted = each["State"]["Name"] in LAUNCHED
            if known is None and is_wanted:
                self._boot(each)
            elif known and known.vm.is_running and not is_wanted:
                _end(known)

    def _boot(self, told: dict[str, Any]) -> None:
        id_: str = told["InstanceId"]
        name = id_[:10]  # a network card's name is short
        address = self.ground.network.address(len(self.rented))
        answer = client(self.ec2).describe_instance_attribute(InstanceId=id_, Attribute="userData")
        text = base64.b64decode(answer["UserData"]["Value"]).decode()
        metadata = self._by_address[address] = Metadata(id_, address, text)
        zone = told["Placement"]["AvailabilityZone"]
        facts = {
            "availabilityZone": zone,
            "imageId": told["ImageId"],
            "instanceId": id_,
            "instanceType": told["InstanceType"],
            "pendingTime": told["LaunchTime"].strftime(TIME),
            "privateIp": address,
            "region": zone[:-1],
        }
        metadata.identity = self._identity(facts)
        metadata.meta |= {
            "ami-id": told["ImageId"],
            "ami-launch-index": str(told["AmiLaunchIndex"]),
            "instance-life-cycle": told.get("InstanceLifecycle", "on-demand"),
            "instance-type": told["InstanceType"],
            "placement": {"availability-zone": zone, "region": zone[:-1]},
        }
        vm = Vm(self.ground, name, address, boots=self.images[told["ImageId"]]())
        tags = {tag["Key"]: tag["Value"] for tag in told["Tags"]}
        self.rented[id_] = Rented(vm, metadata, tags, time.time())

    def _identity(self, facts: Mapping[str, str]) -> dict[str, Any]:
        document = a_document(**facts)
        return {"document": document.decode(), "rsa2048": signed(document, self.ground.place).decode()}

    def _settle(self, cloud_id: str, machine: Rented) -> None:
        """A machine that is off is terminated or stopped, as its launch said."""
        self._settled.add(cloud_id)
        if machine.terminated_at is None:
            ec2 = client(self.ec2)
            answer = ec2.describe_instance_attribute(InstanceId=cloud_id, Attribute=SHUTDOWN)
            ends = {"terminate": ec2.terminate_instances, "stop": ec2.stop_instances}
            ends[answer["InstanceInitiatedShutdownBehavior"]["Value"]](InstanceIds=[cloud_id])


def _end(machine: Rented) -> None:
    """First the power button, then the plug."""
    if machine.terminated_at is None:
        machine.terminated_at = time.time()
        machine.vm.press_power_button()
    elif time.time() - machine.terminated_at > ENDS_WITHIN_S:
        machine.vm.lose()
