"""Launching on EC2: one machine for each intent, whatever is lost, and each as the fleet file describes it."""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import BadRequest, NoCapacity, ProviderError, UnknownProviderFault
from fleet.model import Market, MarketPolicy, Resource
from fleet.providers.aws.provider import AwsProvider
from fleet.providers.aws.settings import read
from fleet.providers.aws.user_data import MOST_BYTES, of_many
from fleet.providers.base import FirstBoot, Launched, LaunchFailed, LaunchOrder
from fleet.providers.first_boot import user_data as first_boot
from tests.providers.aws.conftest import a_provider, alive, aws_resource, client, machines
from tests.providers.aws.ec2 import NS, Answer, Ec2, Fault, an_id, refusal
from tests.waiting import PATIENCE

pytestmark = pytest.mark.xdist_group("aws")

NOISE = random.Random(1).randbytes(20_000).hex()  # does not get small when it is packed
CUT = Answer(body=b"<RunInstancesResponse><instancesSet><item><instanceId>i-0")


def orders(
    provider: AwsProvider, resource: Resource, names: Sequence[str], market: Market | None = None
) -> list[LaunchOrder]:
    found = provider.offers(resource, datetime.now(UTC))
    offer = next(o for o in found if market in (None, o.market))
    return [
        LaunchOrder(
            instance=name,
            cluster="test",
            resource=resource,
            offer=offer,
            first_boot=FirstBoot(centre_url="https://fleet.lab:8765", join_token=f"token-of-{name}"),
        )
        for name in names
    ]


def names_of(ec2: Ec2) -> dict[str, str]:
    return {m["InstanceId"]: {t["Key"]: t["Value"] for t in m["Tags"]}.get("fleet:instance", "") for m in alive(ec2)}


def user_data(ec2: Ec2, cloud_id: str) -> str:
    told = client(ec2).describe_instance_attribute(InstanceId=cloud_id, Attribute="userData")
    return base64.b64decode(told["UserData"]["Value"]).decode()


# --- idempotency


@pytest.mark.parametrize("count", [1, 3, 12])
def test_an_answer_that_is_lost_is_had_by_asking_again_and_starts_nothing_twice(
    ec2: Ec2, provider: AwsProvider, resource: Resource, count: int
) -> None:
    asked = orders(provider, resource, [an_id() for _ in range(count)])
    ec2.faults.append(Fault(action="RunInstances", after=CUT))
    with pytest.raises(UnknownProviderFault):
        provider.launch(asked)
    answers = provider.launch(asked)
    assert all(isinstance(a, Launched) for a in answers)
    assert len(alive(ec2)) == count
    shown = {m.instance: m.cloud_id for m in provider.list("test")}
    assert shown == {a.instance: a.cloud_id for a in answers if isinstance(a, Launched)}


def test_a_dispatcher_that_was_killed_before_the_answer_finds_its_machines_when_it_is_back(
    ec2: Ec2, provider: AwsProvider, resource: Resource, tmp_path: Path
) -> None:
    asked = orders(provider, resource, [an_id() for _ in range(8)])
    ec2.faults.append(Fault(action="RunInstances", after=CUT))
    with pytest.raises(UnknownProviderFault):
        provider.launch(asked)
    back = a_provider(tmp_path, resource)
    assert {m.instance for m in back.list("test")} == {o.instance for o in asked}
    assert all(isinstance(a, Launched) for a in back.launch(asked))
    assert len(alive(ec2)) == 8


def test_a_batch_of_which_some_were_given_up_meanwhile_is_repeated_whole(
    ec2: Ec2, provider: AwsProvider, resource: Resource
) -> None:
    """Other words would be another call, and eight more machines."""
    asked = orders(provider, resource, [an_id() for _ in range(8)])
    ec2.faults.append(Fault(action="RunInstances", after=CUT))
    with pytest.raises(UnknownProviderFault):
        provider.launch(asked)
    more = orders(provider, resource, [an_id()])
    answers = provider.launch([*asked[3:], *more])
    assert all(isinstance(a, Launched) for a in answers)
    assert len(alive(ec2)) == 9
    assert {m.instance for m in provider.list("test")} == {o.instance for o in (*asked, *more)}


def test_a_fleet_file_that_changed_meanwhile_does_not_change_what_was_asked(
    ec2: Ec2, provider: AwsProvider, resource: Resource, tmp_path: Path
) -> None:
    asked = orders(provider, resource, [an_id()])
    ec2.faults.append(Fault(action="RunInstances", after=CUT))
    with pytest.raises(UnknownProviderFault):
        provider.launch(asked)
    changed = aws_resource(ec2, settings={"monitoring": True})
    back = a_provider(tmp_path, changed)
    assert isinstance(back.launch(orders(back, changed, [asked[0].instance]))[0], Launched)
    assert len(alive(ec2)) == 1


def test_without_its_disk_a_changed_call_finds_the_machine_of_the_first_by_its_token(
    ec2: Ec2, provider: AwsProvider, resource: Resource, tmp_path: Path
) -> None:
    (first,) = provider.launch(orders(provider, resource, ["i1"]))
    changed = aws_resource(ec2, settings={"monitoring": True})
    elsewhere = a_provider(tmp_path / "elsewhere", changed)
    assert elsewhere.launch(orders(elsewhere, changed, ["i1"])) == [first]
    assert len(alive(ec2)) == 1


def test_a_second_machine_for_one_intent_is_shown_as_one_that_nobody_knows(
    ec2: Ec2, provider: AwsProvider, resource: Resource, tmp_path: Path
) -> None:
    asked = orders(provider, resource, [f"i{n}" for n in range(8)])
    provider.launch(asked)
    elsewhere = a_provider(tmp_path / "elsewhere", resource)
    elsewhere.launch(asked[2:])
    shown = elsewhere.list("test")
    assert len(shown) == 14
    assert sorted(m.instance for m in shown if not m.instance.endswith(" again")) == [f"i{n}" for n in range(8)]


def test_what_a_call_may_have_started_is_not_called_refused_while_credentials_are(
    ec2: Ec2, provider: AwsProvider, resource: Resource
) -> None:
    asked = orders(provider, resource, ["i1"])
    ec2.faults.append(Fault(action="RunInstances", after=CUT))
    with pytest.raises(UnknownProviderFault):
        provider.launch(asked)
    ec2.faults.append(Fault(action="RunInstances", instead=refusal("ExpiredToken", "expired")))
    with pytest.raises(UnknownProviderFault):
        provider.launch(asked)
    assert isinstance(provider.launch(asked)[0], Launched)
    assert len(alive(ec2)) == 1


def test_a_call_is_written_for_its_owner_alone_and_forgotten_when_it_is_answered(
    ec2: Ec2, provider: AwsProvider, resource: Resource, tmp_path: Path
) -> None:
    asked = orders(provider, resource, ["i1"])
    ec2.faults.append(Fault(action="RunInstances", after=CUT))
    with pytest.raises(UnknownProviderFault):
        provider.launch(asked)
    (written,) = (tmp_path / "aws" / "calls").iterdir()
    assert written.stat().st_mode & 0o777 == 0o600
    provider.launch(asked)
    assert list((tmp_path / "aws" / "calls").glob("*.json")) == []


def test_what_was_answered_beside_a_call_that_failed_stays_one_machine_although_its_batch_is_another_next_time(
    ec2: Ec2, resource: Resource, tmp_path: Path
) -> None:
    """Seven were answered by one call, and no list shows them yet; then three of them are given up, so that it would be other calls."""
    provider = a_provider(tmp_path, resource)
    seven = orders(provider, resource, [f"i{n}" for n in range(7)], Market.ON_DEMAND)
    elsewhere = replace(seven[0], instance="i7", offer=replace(seven[0].offer, zone="us-east-1b"))
    ec2.faults.append(Fault(action="RunInstances"))  # the first call is answered, the second is not
    ec2.faults.append(Fault(action="RunInstances", after=CUT))
    with pytest.raises(UnknownProviderFault):
        provider.launch([*seven, elsewhere])
    assert len(alive(ec2)) == 8
    for again in (provider, a_provider(tmp_path, resource)):  # also one that has been started anew
        answers = again.launch([*seven[:4], elsewhere])
        assert all(isinstance(a, Launched) for a in answers)
        assert len(alive(ec2)) == 8
    assert len({a.cloud_id for a in answers if isinstance(a, Launched)}) == 5


@pytest.mark.parametrize("index", ["-1", "7"])
def test_a_machine_of_another_number_than_was_asked_for_is_no_refusal(
    ec2: Ec2, provider: AwsProvider, resource: Resource, index: str
) -> None:
    asked = orders(provider, resource, ["i1"])
    told = (
        f'<RunInstancesResponse xmlns="{NS}"><instancesSet><item><instanceId>i-1</instanceId>'
        f"<amiLaunchIndex>{index}</amiLaunchIndex></item></instancesSet></RunInstancesResponse>"
    )
    ec2.faults.append(Fault(action="RunInstances", after=Answer(body=told.encode())))
    with pytest.raises(UnknownProviderFault):
        provider.launch(asked)
    assert isinstance(provider.launch(asked)[0], Launched)
    assert len(alive(ec2)) == 1


# --- batches


def test_few_machines_get_a_user_data_of_their_own_each(ec2: Ec2, provider: AwsProvider, resource: Resource) -> None:
    for answer in provider.launch(orders(provider, resource, ["i1", "i2", "i3"])):
        assert isinstance(answer, Launched)
        text = user_data(ec2, answer.cloud_id)
        assert [name for name in ("i1", "i2", "i3") if f"token-of-{name}" in text] == [answer.instance]


@pytest.mark.system
def test_each_machine_of_a_large_call_finds_its_own_line_in_their_common_user_data(
    ec2: Ec2, provider: AwsProvider, resource: Resource, tmp_path: Path
) -> None:
    """Rendered by cloud-init itself, with what EC2's metadata service says."""
    program = shutil.which("cloud-init")
    if program is None:
        pytest.skip("no cloud-init here (apt-get install cloud-init)")
    answers = provider.launch(orders(provider, resource, [an_id() for _ in range(7)]))
    shown = {m["InstanceId"]: m["AmiLaunchIndex"] for m in alive(ec2)}
    for answer in (answers[0], answers[6]):
        assert isinstance(answer, Launched)
        text = user_data(ec2, answer.cloud_id)
        (tmp_path / "user-data").write_text(text)
        facts = {"ds": {"meta_data": {"ami-launch-index": str(shown[answer.cloud_id])}}, "v1": {}}
        (tmp_path / "facts.json").write_text(json.dumps(facts))
        command = [program, "devel", "render", "-i", str(tmp_path / "facts.json"), str(tmp_path / "user-data")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE)
        assert done.returncode == 0, done.stderr
        assert f"FLEET_INSTANCE={answer.instance}\\n" in done.stdout
        assert f"FLEET_JOIN_TOKEN=token-of-{answer.instance}\\n" in done.stdout
        assert done.stdout.count("token-of-") == 1


def test_a_zone_that_has_some_gives_some_and_the_others_are_refused(
    ec2: Ec2, provider: AwsProvider, resource: Resource
) -> None:
    ec2.capacity["g5.xlarge", "us-east-1a", "on-demand"] = 6
    answers = provider.launch(orders(provider, resource, [f"i{n}" for n in range(9)]))
    assert [type(a) for a in answers] == [Launched] * 6 + [LaunchFailed] * 3
    assert all(isinstance(a.error, NoCapacity) for a in answers if isinstance(a, LaunchFailed))
    assert {m.instance for m in provider.list("test")} == {f"i{n}" for n in range(6)}


def test_a_thousand_machines_are_launched_listed_in_pages_and_ended(
    ec2: Ec2, resource: Resource, tmp_path: Path
) -> None:
    provider = a_provider(tmp_path, resource, patience_s=300)  # moto takes seconds for a list of so many
    names = [f"{n:08x}" for n in range(1000)]
    answers = provider.launch(orders(provider, resource, names))
    assert ec2.count("ec2:RunInstances") == 10
    shown = provider.list("test")
    assert {m.instance: m.cloud_id for m in shown} == {
        a.instance: a.cloud_id for a in answers if isinstance(a, Launched)
    }
    assert len(shown) == 1000
    provider.terminate([m.cloud_id for m in shown])
    assert provider.list("test") == []
    assert ec2.count("ec2:TerminateInstances") == 5


def test_what_does_not_fit_into_the_user_data_of_one_call_goes_into_several(
    ec2: Ec2, provider: AwsProvider, tmp_path: Path
) -> None:
    resource = aws_resource(ec2, settings={"init_script": NOISE[:10_000]})
    provider = a_provider(tmp_path, resource)
    answers = provider.launch(orders(provider, resource, [an_id() + "0" * 60 for _ in range(60)]))
    assert all(isinstance(a, Launched) for a in answers)
    assert ec2.count("ec2:RunInstances") > 1
    assert all(len(base64.b64decode(r["UserData"])) <= MOST_BYTES for r in ec2.started)


def test_a_script_that_cannot_fit_is_refused_before_a_call(ec2: Ec2, tmp_path: Path) -> None:
    resource = aws_resource(ec2, settings={"init_script": NOISE})
    provider = a_provider(tmp_path, resource)
    (answer,) = provider.launch(orders(provider, resource, ["i1"]))
    assert isinstance(answer, LaunchFailed)
    assert isinstance(answer.error, BadRequest)
    assert ec2.count("ec2:RunInstances") == 0


def test_a_template_without_the_two_values_is_not_shared(provider: AwsProvider, resource: Resource) -> None:
    asked = orders(provider, resource, ["i1", "i2"])
    assert of_many(asked, lambda order: "#!/bin/sh\n") is None
    assert of_many(asked[:1], first_boot) == first_boot(asked[0])


# --- what is asked for


def test_a_machine_is_what_the_fleet_file_describes(ec2: Ec2, tmp_path: Path) -> None:
    aws = client(ec2)
    subnet = next(s for s in aws.describe_subnets()["Subnets"] if s["AvailabilityZone"] == "us-east-1b")
    group = aws.create_security_group(GroupName="g", Description="g", VpcId=subnet["VpcId"])["GroupId"]
    aws.create_key_pair(KeyName="k")
    client(ec2, "iam").create_instance_profile(InstanceProfileName="p")
    settings: dict[str, object] = {
        "subnets": [subnet["SubnetId"]],
        "security_groups": [group],
        "key_name": "k",
        "iam_instance_profile": "p",
        "disk_gib": 200,
        "disk_type": "gp3",
        "disk_device": "/dev/sda1",
        "disk_iops": 4000,
        "disk_throughput": 250,
        "disk_encrypted": True,
        "volumes": [{"device": "/dev/sdf", "gib": 500, "type": "st1"}],
        "tags": {"team": "vision"},
        "monitoring": True,
        "placement_group": "pg",
        "tenancy": "dedicated",
        "metadata_hop_limit": 2,
        "launch_spec": {"EbsOptimized": True, "CreditSpecification": {"CpuCredits": "standard"}},
    }
    resource = aws_resource(ec2, zones=(), settings=settings)
    provider = a_provider(tmp_path, resource)
    (answer,) = provider.launch(orders(provider, resource, ["i1"]))
    assert isinstance(answer, Launched), answer
    (asked,) = ec2.started
    assert {key: asked[key] for key in EXPECTED} == {
        **EXPECTED,
        "SubnetId": subnet["SubnetId"],
        "SecurityGroupId.1": group,
    }
    (machine,) = alive(ec2)
    assert machine["SubnetId"] == subnet["SubnetId"]
    assert {t["Key"]: t["Value"] for t in machine["Tags"]} == {
        "Name": "fleet test gpu",
        "team": "vision",
        "fleet:cluster": "test",
        "fleet:resource": "gpu",
        "fleet:instance": "i1",
    }
    volumes = aws.describe_volumes()["Volumes"]
    assert sorted(v["Size"] for v in volumes) == [200, 500]
    assert all({"Key": "fleet:cluster", "Value": "test"} in v["Tags"] for v in volumes)


EXPECTED = {
    "SubnetId": "",
    "SecurityGroupId.1": "",
    "KeyName": "k",
    "IamInstanceProfile.Name": "p",
    "InstanceInitiatedShutdownBehavior": "terminate",
    "MetadataOptions.HttpTokens": "required",
    "MetadataOptions.HttpPutResponseHopLimit": "2",
    "Monitoring.Enabled": "true",
    "Placement.GroupName": "pg",
    "Placement.Tenancy": "dedicated",
    "EbsOptimized": "true",
    "CreditSpecification.CpuCredits": "standard",
    "BlockDeviceMapping.1.DeviceName": "/dev/sda1",
    "BlockDeviceMapping.1.Ebs.VolumeSize": "200",
    "BlockDeviceMapping.1.Ebs.Iops": "4000",
    "BlockDeviceMapping.1.Ebs.Throughput": "250",
    "BlockDeviceMapping.1.Ebs.Encrypted": "true",
    "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
    "BlockDeviceMapping.2.Ebs.VolumeType": "st1",
    "TagSpecification.2.ResourceType": "volume",
    "TagSpecification.3.ResourceType": "network-interface",
}


def test_the_disks_of_a_machine_are_made_from_the_snapshots_of_the_fleet_file(ec2: Ec2, tmp_path: Path) -> None:
    """Read back from EC2: device, size, type, snapshot and encryption of the root volume and of one beside it."""
    aws = client(ec2)
    blank = aws.create_volume(AvailabilityZone="us-east-1a", Size=10)["VolumeId"]
    of_root, of_data = (aws.create_snapshot(VolumeId=blank)["SnapshotId"] for _ in range(2))
    key = client(ec2, "kms").create_key()["KeyMetadata"]["Arn"]
    data = {"device": "/dev/sdf", "gib": 500, "type": "st1", "snapshot": of_data}
    settings: dict[str, object] = {
        "disk_device": "/dev/sda1",
        "disk_gib": 200,
        "disk_type": "gp3",
        "disk_snapshot": of_root,
        "disk_kms_key": key,
        "volumes": [data, {"device": "/dev/sdg", "snapshot": of_data, "gib": 20, "encrypted": True}],
    }
    resource = aws_resource(ec2, settings=settings)
    provider = a_provider(tmp_path, resource)
    (answer,) = provider.launch(orders(provider, resource, ["i1"]))
    assert isinstance(answer, Launched), answer
    (machine,) = alive(ec2)
    device_of = {d["Ebs"]["VolumeId"]: d["DeviceName"] for d in machine["BlockDeviceMappings"]}
    made = {device_of[v["VolumeId"]]: v for v in aws.describe_volumes(VolumeIds=list(device_of))["Volumes"]}
    assert {device: (v["Size"], v.get("SnapshotId"), v["Encrypted"]) for device, v in made.items()} == {
        "/dev/sda1": (200, of_root, True),
        "/dev/sdf": (500, of_data, False),
        "/dev/sdg": (20, of_data, True),
    }
    assert (made["/dev/sda1"]["VolumeType"], made["/dev/sdf"]["VolumeType"]) == ("gp3", "st1")
    assert made["/dev/sda1"]["KmsKeyId"] == key
    assert all(d["Ebs"]["DeleteOnTermination"] for d in machine["BlockDeviceMappings"])


def test_a_launch_template_of_the_account_gives_what_the_fleet_file_does_not(ec2: Ec2, tmp_path: Path) -> None:
    theirs = {"KeyName": "of-the-template", "InstanceType": "t3.micro", "Monitoring": {"Enabled": True}}
    client(ec2).create_launch_template(LaunchTemplateName="gpu-base", LaunchTemplateData=theirs)
    resource = aws_resource(ec2, settings={"launch_template": "gpu-base:1"})
    provider = a_provider(tmp_path, resource)
    (answer,) = provider.launch(orders(provider, resource, ["i1"]))
    assert isinstance(answer, Launched), answer
    (asked,) = ec2.started
    assert (asked["LaunchTemplate.LaunchTemplateName"], asked["LaunchTemplate.Version"]) == ("gpu-base", "1")
    assert not {"KeyName", "Monitoring.Enabled"} & asked.keys()
    (machine,) = alive(ec2)
    assert (machine["InstanceType"], machine["KeyName"]) == ("g5.xlarge", "of-the-template")
    assert {"Key": "fleet:instance", "Value": "i1"} in machine["Tags"]
    by_id = aws_resource(ec2, settings={"launch_template": "lt-0abc"})
    assert read(by_id).launch_template == {"LaunchTemplateId": "lt-0abc", "Version": "$Default"}


def test_by_default_containers_get_no_answer_from_the_metadata_service(
    ec2: Ec2, provider: AwsProvider, resource: Resource
) -> None:
    provider.launch(orders(provider, resource, ["i1"]))
    assert ec2.started[0]["MetadataOptions.HttpTokens"] == "required"
    assert ec2.started[0]["MetadataOptions.HttpPutResponseHopLimit"] == "1"
    assert ec2.started[0]["Placement.AvailabilityZone"] == "us-east-1a"


def test_a_public_address_is_asked_for_on_an_interface_of_its_own(ec2: Ec2, tmp_path: Path) -> None:
    resource = aws_resource(ec2, settings={"public_ip": False})
    provider = a_provider(tmp_path, resource)
    assert isinstance(provider.launch(orders(provider, resource, ["i1"]))[0], Launched)
    assert ec2.started[0]["NetworkInterface.1.AssociatePublicIpAddress"] == "false"


def test_spot_is_one_time_and_its_request_is_tagged(ec2: Ec2, tmp_path: Path) -> None:
    resource = aws_resource(ec2, market=MarketPolicy.SPOT, settings={"max_spot_usd_per_hour": 0.5})
    provider = a_provider(tmp_path, resource)
    assert isinstance(provider.launch(orders(provider, resource, ["i1"], Market.SPOT))[0], Launched)
    asked = ec2.started[0]
    assert asked["InstanceMarketOptions.MarketType"] == "spot"
    assert asked["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"
    assert asked["InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior"] == "terminate"
    assert asked["InstanceMarketOptions.SpotOptions.MaxPrice"] == "0.5000"
    assert asked["TagSpecification.4.ResourceType"] == "spot-instances-request"
    assert [m["InstanceLifecycle"] for m in alive(ec2)] == ["spot"]


def test_capacity_that_is_reserved_goes_first_and_then_whatever_there_is(ec2: Ec2, tmp_path: Path) -> None:
    resource = aws_resource(ec2, settings={"capacity_reservation": "cr-1"})
    provider = a_provider(tmp_path, resource)
    provider.launch(orders(provider, resource, ["i1"]))
    ec2.faults.append(Fault(action="RunInstances", instead=refusal("ReservationCapacityExceeded", "it is full")))
    assert isinstance(provider.launch(orders(provider, resource, ["i2"]))[0], Launched)
    key = "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId"
    assert [r.get(key) for r in ec2.started] == ["cr-1", None]


def test_a_subnet_without_free_addresses_is_passed_over(ec2: Ec2, tmp_path: Path) -> None:
    vpc = client(ec2).describe_vpcs()["Vpcs"][0]["VpcId"]
    more = client(ec2).create_subnet(VpcId=vpc, CidrBlock="172.31.240.0/24", AvailabilityZone="us-east-1a")
    first = next(s for s in client(ec2).describe_subnets()["Subnets"] if s["AvailabilityZone"] == "us-east-1a")
    ids = [first["SubnetId"], more["Subnet"]["SubnetId"]]
    resource = aws_resource(ec2, zones=(), settings={"subnets": ids})
    provider = a_provider(tmp_path, resource)
    fault = refusal("InsufficientFreeAddressesInSubnet", "no free addresses")
    ec2.faults.append(Fault(action="RunInstances", instead=fault))
    assert isinstance(provider.launch(orders(provider, resource, ["i1"]))[0], Launched)
    assert [r["SubnetId"] for r in ec2.started] == [ids[1]]


def an_image(ec2: Ec2, name: str) -> str:
    aws = client(ec2)
    machine = aws.run_instances(ImageId="ami-12c6146b", InstanceType="t3.micro", MinCount=1, MaxCount=1)
    cloud_id = machine["Instances"][0]["InstanceId"]
    image: str = aws.create_image(InstanceId=cloud_id, Name=name)["ImageId"]
    aws.terminate_instances(InstanceIds=[cloud_id])
    return image


@pytest.mark.parametrize("wanted", ["fleet-gpu-*", "resolve:ssm:/fleet/image", "/fleet/image"])
def test_an_image_is_named_by_stars_or_by_a_parameter(ec2: Ec2, tmp_path: Path, wanted: str) -> None:
    an_image(ec2, "fleet-gpu-1")
    newest = an_image(ec2, "fleet-gpu-2")
    client(ec2, "ssm").put_parameter(Name="/fleet/image", Value=newest, Type="String")
    resource = aws_resource(ec2, image=wanted, settings={"image_owners": ["self"], "disk_gib": 80})
    provider = a_provider(tmp_path, resource)
    (answer,) = provider.launch(orders(provider, resource, ["i1"]))
    assert isinstance(answer, Launched), answer
    asked = ec2.started[-1]
    assert asked["ImageId"] in (newest, asked["ImageId"] if "*" in wanted else newest)
    assert asked["BlockDeviceMapping.1.DeviceName"] == "/dev/sda1"


@pytest.mark.parametrize(
    ("image", "says"),
    [("nothing-*", "no image of self, amazon is called"), ("resolve:ssm:/none", "ParameterNotFound")],
)
def test_an_image_that_is_not_there_is_said_with_the_key(ec2: Ec2, tmp_path: Path, image: str, says: str) -> None:
    resource = aws_resource(ec2, image=image)
    provider = a_provider(tmp_path, resource)
    (answer,) = provider.launch(orders(provider, resource, ["i1"]))
    assert isinstance(answer, LaunchFailed)
    assert isinstance(answer.error, BadRequest)
    assert says in str(answer.error)


def test_user_data_holds_no_secret_of_the_fleet_file(ec2: Ec2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read back through the API; of all that is secret it holds the one-time token alone."""
    secrets = {
        "access_key": "AKIAIOSFODNN7EXAMPLE",
        "secret_key": "very-secret-key",
        "session_token": "very-secret-token",
    }
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "clearml-secret")
    resource = aws_resource(ec2, settings=dict(secrets))
    provider = a_provider(tmp_path, resource)
    for count in (1, 8):
        for answer in provider.launch(orders(provider, resource, [an_id() for _ in range(count)])):
            assert isinstance(answer, Launched)
            text = user_data(ec2, answer.cloud_id)
            assert f"token-of-{answer.instance}" in text
            assert [s for s in (*secrets.values(), "clearml-secret") if s in text] == []
    kept = b"".join(p.read_bytes() for p in (tmp_path / "aws").rglob("*") if p.is_file())
    assert [s for s in secrets.values() if s.encode() in kept] == []


# --- settings that are wrong

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"settings": {"subnets": "x", "disk_gib": "big"}}, "disk_gib"),
    ({"settings": {"disk_gib": 0}}, "disk_gib"),
    ({"settings": {"disk_type": "gp9"}}, "disk_type"),
    ({"settings": {"tags": {"fleet:cluster": "other"}}}, "tags"),
    ({"settings": {"tags": ["a"]}}, "tags"),
    ({"settings": {"launch_spec": {"UserData": "x"}}}, "launch_spec.UserData"),
    ({"settings": {"launch_spec": {"MaxCount": 9}}}, "launch_spec.MaxCount"),
    ({"settings": {"launch_spec": ["x"]}}, "launch_spec"),
    ({"settings": {"launch_template": "gpu-base:newest"}}, "launch_template"),
    ({"settings": {"launch_template": "t", "allocation_strategy": "lowest-price"}}, "launch_template"),
    ({"settings": {"volumes": [{"gib": 5}]}}, "volumes[0].device"),
    ({"settings": {"volumes": [{"device": "/dev/sdf", "size": 5}]}}, "volumes[0].size"),
    ({"settings": {"volumes": "/dev/sdf"}}, "volumes"),
    ({"settings": {"max_spot_usd_per_hour": -1}}, "max_spot_usd_per_hour"),
    ({"settings": {"max_spot_usd_per_hour": float("nan")}}, "max_spot_usd_per_hour"),
    ({"settings": {"metadata_hop_limit": 65}}, "metadata_hop_limit"),
    ({"settings": {"monitoring": "yes"}}, "monitoring"),
    ({"settings": {"tenancy": "mine"}}, "tenancy"),
    ({"settings": {"security_groups": [1]}}, "security_groups"),
    ({"settings": {"key_name": 5}}, "key_name"),
    ({"image": None}, "image"),
    ({"instance_types": ()}, "instance_types"),
    ({"instance_types": ("g5.tiny",)}, "instance_types"),
]


@pytest.mark.parametrize(("changes", "names"), WRONG, ids=[f"{n}-{w[1]}" for n, w in enumerate(WRONG)])
def test_a_setting_that_is_wrong_is_named_before_anything_is_launched(
    ec2: Ec2, tmp_path: Path, changes: dict[str, Any], names: str
) -> None:
    changes = dict(changes)
    settings = changes.pop("settings", {})
    resource = aws_resource(ec2, settings=settings, **changes)
    with pytest.raises(ProviderError) as caught:
        a_provider(tmp_path, resource).offers(resource, datetime.now(UTC))
    assert isinstance(caught.value, BadRequest)
    assert names in str(caught.value)
    assert machines(ec2) == []


def test_a_launch_spec_that_is_no_parameter_of_ec2_is_a_bad_request(ec2: Ec2, tmp_path: Path) -> None:
    resource = aws_resource(ec2, settings={"launch_spec": {"Colour": "red"}})
    provider = a_provider(tmp_path, resource)
    (answer,) = provider.launch(orders(provider, resource, ["i1"]))
    assert isinstance(answer, LaunchFailed)
    assert isinstance(answer.error, BadRequest)
    assert "launch_spec" in str(answer.error)
