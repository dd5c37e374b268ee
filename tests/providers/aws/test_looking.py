"""Offers, checks and the console of EC2; and that all of it needs no more than the policy that ships."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import BadRequest
from fleet.model import Market, MarketPolicy, Resource
from fleet.providers.aws.prices import believable
from fleet.providers.aws.provider import AwsProvider
from fleet.providers.aws.quotas import NAMES, ON_DEMAND, SPOT, quota_code
from fleet.providers.base import Launched
from fleet.providers.prices import Price, Unpriced
from tests.providers.aws.conftest import a_provider, alive, aws_resource, client
from tests.providers.aws.ec2 import Answer, Ec2, Fault, refusal
from tests.providers.aws.test_launching import orders
from tests.waiting import wait_for

pytestmark = pytest.mark.xdist_group("aws")

POLICY = Path(__file__).parents[3] / "images" / "iam" / "aws-dispatcher-policy.json"
AT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def test_offers_are_types_by_zones_by_markets_with_their_shapes_and_prices(ec2: Ec2, tmp_path: Path) -> None:
    ec2.spot_prices = [
        {"type": "g5.xlarge", "zone": "us-east-1a", "usd": "0.4", "at": "2026-11-22T08:00:00.000Z"},
        {"type": "g5.xlarge", "zone": "us-east-1a", "usd": "0.3", "at": "2026-11-22T07:00:00.000Z"},
        {"type": "g5.xlarge", "zone": "us-east-1b", "usd": "1.2", "at": "2026-11-22T08:00:00.000Z"},
        {"type": "g5.12xlarge", "zone": "us-east-1a", "usd": "2.0", "at": "2026-11-01T08:00:00.000Z"},
        {"type": "g5.12xlarge", "zone": "us-east-1b", "usd": "0.0", "at": "2026-11-22T08:00:00.000Z"},
    ]
    resource = aws_resource(
        ec2,
        zones=("us-east-1a", "us-east-1b"),
        instance_types=("g5.xlarge", "g5.12xlarge"),
        market=MarketPolicy.SPOT_THEN_ON_DEMAND,
    )
    offers = a_provider(tmp_path, resource).offers(resource, AT)
    told = {(o.type, o.zone, o.market): (o.gpus, o.price_usd_per_hour) for o in offers}
    # Spot above on demand, older than two days, or free: not believed.
    assert told == {
        ("g5.xlarge", "us-east-1a", Market.SPOT): (1, 0.4),
        ("g5.xlarge", "us-east-1a", Market.ON_DEMAND): (1, 1.006),
        ("g5.xlarge", "us-east-1b", Market.SPOT): (1, None),
        ("g5.xlarge", "us-east-1b", Market.ON_DEMAND): (1, 1.006),
        ("g5.12xlarge", "us-east-1a", Market.SPOT): (4, None),
        ("g5.12xlarge", "us-east-1a", Market.ON_DEMAND): (4, 5.672),
        ("g5.12xlarge", "us-east-1b", Market.SPOT): (4, None),
        ("g5.12xlarge", "us-east-1b", Market.ON_DEMAND): (4, 5.672),
    }
    assert (offers[0].gpu_model, offers[0].cpus, offers[0].memory_gib) == ("NVIDIA A10G", 4, 16)


@pytest.mark.parametrize("value", ["", "free", "nan", "inf", "-1", "0", "1e9", None, True, [], "0.0000000001"])
def test_a_price_that_nobody_would_pay_is_unknown(value: object) -> None:
    assert believable(value) is None


def test_each_offer_says_which_quota_counts_it_and_what_others_hold_of_it(ec2: Ec2, tmp_path: Path) -> None:
    ec2.quotas["L-DB2E81BA"] = 8
    client(ec2).run_instances(ImageId="ami-12c6146b", InstanceType="g5.xlarge", MinCount=1, MaxCount=1)
    resource = aws_resource(ec2, instance_types=("g5.xlarge", "g5.12xlarge", "t3.micro"))
    provider = a_provider(tmp_path, resource)
    assert isinstance(provider.launch(orders(provider, resource, ["i1"]))[0], Launched)
    fresh = a_provider(tmp_path / "b", resource)
    offers = {o.type: o.quota for o in fresh.offers(resource, AT)}
    assert offers["t3.micro"] is None, "unknown is not zero"
    small = offers["g5.xlarge"]
    assert small is not None
    # The machine of this fleet is counted by the planner, from its intent on.
    said = (small.code, small.name, small.cpus, small.others_cpus, small.scope)
    assert said == ("L-DB2E81BA", "Running On-Demand G and VT instances", 8, 4, "us-east-1")
    assert (
        "request-service-quota-increase --service-code ec2 --quota-code L-DB2E81BA --desired-value 12" in small.remedy
    )
    found = {f.name: f for f in fresh.check(resource, AT)}
    assert found["quota of g5.xlarge (on_demand)"].found == "8 vCPUs, 4 in use by others: 1 of them"
    assert found["quota of g5.xlarge (on_demand)"].fix == ""
    assert found["quota of g5.12xlarge (on_demand)"].found.endswith(": 0 of them")
    assert "--desired-value 56" in found["quota of g5.12xlarge (on_demand)"].fix
    assert found["quota of t3.micro (on_demand)"].found == "unknown: it may be enough"


def test_every_quota_that_is_known_has_its_name() -> None:
    assert set(NAMES) == {*ON_DEMAND.values(), *SPOT.values()}


@pytest.mark.parametrize(
    ("type_", "market", "code"),
    [
        ("g6e.xlarge", Market.ON_DEMAND, "L-DB2E81BA"),
        ("gr6.4xlarge", Market.SPOT, "L-3819A6DF"),
        ("p4d.24xlarge", Market.SPOT, "L-7212CCBC"),
        ("p5.48xlarge", Market.SPOT, "L-C4BD4855"),
        ("p5en.48xlarge", Market.ON_DEMAND, "L-417A185B"),
        ("m7i.large", Market.SPOT, "L-34B43A08"),
        ("inf2.xlarge", Market.ON_DEMAND, "L-1945791B"),
        ("p6-b200.48xlarge", Market.SPOT, None),
        ("u-6tb1.metal", Market.SPOT, None),
    ],
)
def test_each_family_is_counted_by_its_quota(type_: str, market: Market, code: str | None) -> None:
    assert quota_code(type_, market) == code


def test_what_aws_sells_is_read_again_in_the_background_and_kept_while_it_is_silent(
    ec2: Ec2, provider: AwsProvider, resource: Resource
) -> None:
    before = provider.offers(resource, AT)
    calls = len(ec2.calls)
    assert len(provider.offers(resource, AT + timedelta(minutes=20))) == len(before)
    ec2.always = Fault(instead=refusal("InternalError", "no", 500))
    wait_for(lambda: len(ec2.calls) > calls)
    later = provider.offers(resource, AT + timedelta(hours=1))
    assert [o.type for o in later] == [o.type for o in before]


def test_doctor_sees_what_is_there_and_that_a_launch_would_be_allowed(ec2: Ec2, tmp_path: Path) -> None:
    client(ec2).create_key_pair(KeyName="k")
    client(ec2, "iam").create_instance_profile(InstanceProfileName="p")
    resource = aws_resource(ec2, settings={"key_name": "k", "iam_instance_profile": "p"})
    findings = {f.name: f for f in a_provider(tmp_path, resource).check(resource, AT)}
    assert [f.name for f in findings.values() if f.fix] == []
    assert "with tags" in findings["permission to launch"].found
    assert {"credentials", "image", "subnets", "security groups", "key pair", "instance profile"} <= findings.keys()
    assert alive(ec2) == []


def test_doctor_names_the_fix_of_what_is_missing(ec2: Ec2, tmp_path: Path) -> None:
    resource = aws_resource(
        ec2,
        image="none-*",
        settings={"subnets": ["subnet-12345678"], "key_name": "none", "iam_instance_profile": "none"},
    )
    fixes = {f.name: f.fix for f in a_provider(tmp_path, resource).check(resource, AT)}
    assert "AMI id" in fixes["image"]
    assert "`subnets`" in fixes["subnets"]
    assert "`key_name`" in fixes["key pair"]
    assert "NoSuchEntity" in fixes["instance profile"]


def test_a_console_is_read_without_what_looks_like_a_secret(
    ec2: Ec2, provider: AwsProvider, resource: Resource
) -> None:
    (launched,) = provider.launch(orders(provider, resource, ["i1"]))
    assert isinstance(launched, Launched)
    text = "boot\nFLEET_JOIN_TOKEN=abc123\nAKIAIOSFODNN7EXAMPLE\npassword: hunter2\nclone https://me:pat@git.lab/x\nno such file\n"
    encoded = base64.b64encode(text.encode()).decode()
    told = f"<GetConsoleOutputResponse><instanceId>i</instanceId><output>{encoded}</output></GetConsoleOutputResponse>"
    ec2.faults.append(Fault(action="GetConsoleOutput", instead=Answer(body=told.encode())))
    said = provider.console(launched.cloud_id)
    assert said is not None
    assert "no such file" in said
    assert [s for s in ("abc123", "AKIAIOSFODNN7EXAMPLE", "hunter2", "me:pat") if s in said] == []


def test_the_policy_allows_all_that_is_called_and_ends_only_what_carries_our_tag(
    ec2: Ec2, tmp_path: Path, provider: AwsProvider, resource: Resource
) -> None:
    """Every verb is used here; what the other tests of this process called counts too."""
    vpc = client(ec2).describe_vpcs()["Vpcs"][0]["VpcId"]
    subnet = client(ec2).describe_subnets()["Subnets"][0]["SubnetId"]
    group = client(ec2).create_security_group(GroupName="g", Description="g", VpcId=vpc)["GroupId"]
    client(ec2).create_key_pair(KeyName="k")
    client(ec2, "iam").create_instance_profile(InstanceProfileName="p")
    client(ec2, "ssm").put_parameter(Name="/fleet/image", Value="ami-12c6146b", Type="String")
    ec2.ever.clear()
    settings: dict[str, object] = {
        "subnets": [subnet],
        "security_groups": [group],
        "key_name": "k",
        "iam_instance_profile": "p",
        "role_arn": "arn:aws:iam::123456789012:role/fleet-launcher",
        "disk_gib": 50,
    }
    full = aws_resource(
        ec2, zones=(), image="resolve:ssm:/fleet/image", market=MarketPolicy.SPOT_THEN_ON_DEMAND, settings=settings
    )
    whole = a_provider(tmp_path / "full", full)
    whole.check(full, AT)
    (launched,) = whole.launch(orders(whole, full, ["i1"]))
    assert isinstance(launched, Launched), launched
    whole.list("test")
    free = aws_resource(ec2, "free", settings={"allocation_strategy": "price-capacity-optimized"})
    choosing = a_provider(tmp_path / "free", free)
    choosing.check(free, AT)
    assert isinstance(choosing.launch(orders(choosing, free, ["i2"]))[0], Launched)
    choosing.list("test")
    whole.prices(full, AT)
    whole.console(launched.cloud_id)
    whole.terminate([launched.cloud_id])
    statements = json.loads(POLICY.read_text())["Statement"]
    allowed = {a for s in statements for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}
    # Needed for a launch without being called: its tags, and the role of the instance profile.
    assert ec2.ever | {"ec2:CreateTags", "iam:PassRole"} == allowed
    ours = next(s for s in statements if "ec2:TerminateInstances" in s["Action"])
    assert ours["Condition"] == {"StringLike": {"aws:ResourceTag/fleet:cluster": "*"}}
    assert all("fleet:cluster" in json.dumps(s) for s in statements if s["Sid"] == "LaunchOnlyWithOurTag")


def test_what_a_refresh_learns_is_the_list_price_and_the_dearest_zone_s_spot_price(ec2: Ec2, tmp_path: Path) -> None:
    """Of a type without either, it is said why nothing is known: an old, a free and a too dear spot price are none."""
    ec2.prices["g5.12xlarge"] = 0.0
    ec2.spot_prices = [
        {"type": "g5.xlarge", "zone": "us-east-1a", "usd": "0.4", "at": "2026-11-22T08:00:00.000Z"},
        {"type": "g5.xlarge", "zone": "us-east-1b", "usd": "0.5", "at": "2026-11-22T08:00:00.000Z"},
        {"type": "g5.xlarge", "zone": "us-east-1c", "usd": "1.2", "at": "2026-11-22T08:00:00.000Z"},
        {"type": "g5.12xlarge", "zone": "us-east-1a", "usd": "2.0", "at": "2026-11-01T08:00:00.000Z"},
        {"type": "g5.12xlarge", "zone": "us-east-1b", "usd": "0.0", "at": "2026-11-22T08:00:00.000Z"},
    ]
    resource = aws_resource(ec2, instance_types=("g5.xlarge", "g5.12xlarge"))
    told = a_provider(tmp_path, resource).prices(resource, AT)
    priced = {(p.type, p.market): p.usd_per_hour for p in told if isinstance(p, Price)}
    assert priced == {("g5.xlarge", Market.ON_DEMAND): 1.006, ("g5.xlarge", Market.SPOT): 0.5}
    assert [str(p) for p in told if isinstance(p, Unpriced)] == [
        "aws g5.12xlarge us-east-1 on_demand: AWS' price list has no price of it, or none that can be believed; it is as unknown as before",
        "aws g5.12xlarge us-east-1 spot: no zone has had a spot price of it in two days that can be believed; it is as unknown as before",
    ]


def test_a_refresh_needs_no_image_nor_anything_else_that_only_a_launch_needs(ec2: Ec2, tmp_path: Path) -> None:
    settings = {"subnets": ["subnet-of-another-account"], "volumes": "not yet decided"}
    resource = aws_resource(ec2, image=None, settings=settings)
    provider = a_provider(tmp_path, resource)
    told = provider.prices(resource, AT)
    assert [p.usd_per_hour for p in told if isinstance(p, Price) and p.market is Market.ON_DEMAND] == [1.006]
    with pytest.raises(BadRequest, match=r"resources\.gpu\.image: is missing"):
        provider.offers(resource, AT)
    nothing = aws_resource(ec2, instance_types=())
    with pytest.raises(BadRequest, match=r"resources\.gpu\.instance_types: is missing"):
        provider.prices(nothing, AT)


def test_a_region_that_left_the_fleet_file_is_listed_until_it_is_empty(ec2: Ec2, tmp_path: Path) -> None:
    west = aws_resource(ec2, "west", region="us-west-2", zones=("us-west-2a",))
    provider = a_provider(tmp_path, west)
    (launched,) = provider.launch(orders(provider, west, ["i1"]))
    assert isinstance(launched, Launched)
    later = a_provider(tmp_path, aws_resource(ec2))
    assert [m.instance for m in later.list("test")] == ["i1"]
    later.terminate([launched.cloud_id])
    assert later.list("test") == []
    later.list("test")
    calls = len(ec2.calls)
    later.list("test")
    assert len(ec2.calls) == calls + 1
