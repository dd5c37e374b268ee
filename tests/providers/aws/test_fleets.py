"""`allocation_strategy`: EC2 chooses among types and zones in one call, and what it chose is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import BadRequest, NoCapacity, NotAuthorised, ProviderError, QuotaExceeded, UnknownProviderFault
from fleet.model import Market, MarketPolicy, Resource
from fleet.providers.aws.provider import AwsProvider
from fleet.providers.base import FirstBoot, Launched, LaunchFailed, LaunchOrder
from tests.providers.aws.conftest import a_provider, alive, aws_resource, client
from tests.providers.aws.ec2 import Answer, Ec2, Fault, refusal
from tests.providers.aws.test_launching import user_data

pytestmark = pytest.mark.xdist_group("aws")

CUT = Answer(body=b"<CreateFleetResponse><fleetInstanceSet><item>")
ZONES = ("us-east-1a", "us-east-1b")
ON_DEMAND, SPOT = "on-demand", "spot"


def choosing(ec2: Ec2, settings: dict[str, object] | None = None, **changes: Any) -> Resource:
    """Two types of one shape in two zones."""
    ec2.prices.update({"g5.xlarge": 1.006, "g6.xlarge": 0.8048})
    keys = {"allocation_strategy": "price-capacity-optimized"} | (settings or {})
    return aws_resource(
        ec2, **({"zones": ZONES, "instance_types": ("g5.xlarge", "g6.xlarge"), "settings": keys} | changes)
    )


def order(
    provider: AwsProvider, resource: Resource, name: str = "i1", market: Market = Market.ON_DEMAND
) -> LaunchOrder:
    """For the first offer; all the others would do as well."""
    first, *others = [o for o in provider.offers(resource, datetime.now(UTC)) if o.market is market]
    assert first.may_vary
    boot = FirstBoot(centre_url="https://fleet.lab:8765", join_token=f"token-of-{name}")
    return LaunchOrder(
        instance=name, cluster="test", resource=resource, offer=first, first_boot=boot, alternatives=tuple(others)
    )


def templates(ec2: Ec2) -> list[str]:
    return [t["LaunchTemplateName"] for t in client(ec2).describe_launch_templates()["LaunchTemplates"]]


def calls(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "aws" / "calls").glob("*.json"))


def test_a_sold_out_pool_costs_no_second_call_and_the_answer_says_what_it_became(ec2: Ec2, tmp_path: Path) -> None:
    resource = choosing(ec2)
    provider = a_provider(tmp_path, resource)
    ec2.capacity.update({("g5.xlarge", zone, ON_DEMAND): 0 for zone in ZONES})
    ec2.capacity["g6.xlarge", "us-east-1a", ON_DEMAND] = 0
    (answer,) = provider.launch([order(provider, resource)])
    assert isinstance(answer, Launched), answer
    assert (answer.type, answer.zone) == ("g6.xlarge", "us-east-1b")
    assert (ec2.count("ec2:CreateFleet"), ec2.count("ec2:RunInstances")) == (1, 0)
    (machine,) = alive(ec2)
    assert (machine["InstanceType"], machine["Placement"]["AvailabilityZone"]) == ("g6.xlarge", "us-east-1b")
    assert {t["Key"]: t["Value"] for t in machine["Tags"]}["fleet:instance"] == "i1"
    assert "token-of-i1" in user_data(ec2, answer.cloud_id)
    (listed,) = provider.list("test")
    assert (listed.cloud_id, listed.type, listed.zone) == (answer.cloud_id, "g6.xlarge", "us-east-1b")
    assert templates(ec2) == []
    assert calls(tmp_path) == []


def test_what_the_template_holds_is_what_run_instances_would_be_told(ec2: Ec2, tmp_path: Path) -> None:
    settings: dict[str, object] = {
        "monitoring": True,
        "tags": {"team": "vision"},
        "disk_gib": 90,
        "disk_device": "/dev/sda1",
    }
    resource = choosing(ec2, settings)
    provider = a_provider(tmp_path, resource)
    provider.launch([order(provider, resource)])
    (asked,) = ec2.started
    expected = {
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions.HttpTokens": "required",
        "MetadataOptions.HttpPutResponseHopLimit": "1",
        "Monitoring.Enabled": "true",
        "BlockDeviceMapping.1.Ebs.VolumeSize": "90",
        "Placement.AvailabilityZone": "us-east-1a",
        "TagSpecification.2.ResourceType": "volume",
    }
    assert {key: asked[key] for key in expected} == expected
    assert not {"InstanceMarketOptions.MarketType", "ClientToken"} & asked.keys()


@pytest.mark.parametrize("action", ["CreateLaunchTemplate", "CreateFleet", "DeleteLaunchTemplate"])
def test_a_dispatcher_killed_after_any_of_the_three_calls_starts_one_machine_and_leaves_no_template(
    ec2: Ec2, tmp_path: Path, action: str
) -> None:
    resource = choosing(ec2)
    provider = a_provider(tmp_path, resource)
    asked = order(provider, resource)
    ec2.faults.append(Fault(action=action, after=CUT))
    if action == "DeleteLaunchTemplate":
        assert isinstance(provider.launch([asked])[0], Launched)
    else:
        with pytest.raises(UnknownProviderFault):
            provider.launch([asked])
        assert len(calls(tmp_path)) == 1
        # Another process: it knows the intent, but not what would have done as well.
        back = a_provider(tmp_path, resource)
        (answer,) = back.launch([replace(asked, alternatives=())])
        assert isinstance(answer, Launched)
    assert len(alive(ec2)) == 1
    assert templates(ec2) == []
    assert calls(tmp_path) == []


def test_a_template_that_a_killed_dispatcher_left_is_found_by_its_tag_and_deleted_with_the_next_list(
    ec2: Ec2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = choosing(ec2)
    provider = a_provider(tmp_path, resource)
    tags = [
        {"ResourceType": "launch-template", "Tags": [{"Key": "fleet:cluster", "Value": name}]}
        for name in ("test", "test-2")
    ]
    for name, tag in zip(("ours", "theirs"), tags, strict=True):
        data = {"ImageId": "ami-12c6146b"}
        client(ec2).create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data, TagSpecifications=[tag])
    provider.list("test")
    assert templates(ec2) == ["ours", "theirs"], "a call that goes on now may need it"
    later = datetime.now(UTC) + timedelta(hours=1)
    provider._left_over._now = lambda: later  # type: ignore[attr-defined]
    provider.list("test")
    assert templates(ec2) == ["theirs"]
    seen = ec2.count("ec2:DescribeLaunchTemplates")
    provider.list("test")
    assert ec2.count("ec2:DescribeLaunchTemplates") == seen


def test_without_its_disk_another_call_finds_the_machine_of_the_first_by_its_tag(ec2: Ec2, tmp_path: Path) -> None:
    resource = choosing(ec2)
    provider = a_provider(tmp_path, resource)
    asked = order(provider, resource)
    (first,) = provider.launch([asked])
    elsewhere = a_provider(tmp_path / "elsewhere", resource)
    assert elsewhere.launch([replace(asked, alternatives=())]) == [first]
    assert len(alive(ec2)) == 1


def test_when_every_pool_is_refused_each_is_told_with_its_own_reason(ec2: Ec2, tmp_path: Path) -> None:
    resource = choosing(ec2)
    provider = a_provider(tmp_path, resource)
    ec2.capacity.update({("g5.xlarge", zone, ON_DEMAND): 0 for zone in ZONES})
    ec2.refusals.update({("g6.xlarge", zone, ON_DEMAND): "VcpuLimitExceeded" for zone in ZONES})
    (answer,) = provider.launch([order(provider, resource)])
    assert isinstance(answer, LaunchFailed)
    assert isinstance(answer.error, NoCapacity)
    assert "g5.xlarge in us-east-1a" in str(answer.error)
    assert [(o.type, o.zone, type(o.error)) for o in answer.others] == [
        ("g5.xlarge", "us-east-1b", NoCapacity),
        ("g6.xlarge", "us-east-1a", QuotaExceeded),
        ("g6.xlarge", "us-east-1b", QuotaExceeded),
    ]
    assert alive(ec2) == []
    assert templates(ec2) == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UnauthorizedOperation", NotAuthorised),
        ("InvalidFleetConfiguration", BadRequest),
        ("InternalError", UnknownProviderFault),
    ],
)
def test_what_is_wrong_with_the_call_itself_is_of_our_classes(
    ec2: Ec2, tmp_path: Path, code: str, kind: type[ProviderError]
) -> None:
    resource = choosing(ec2, zones=("us-east-1a",), instance_types=("g5.xlarge",))
    provider = a_provider(tmp_path, resource)
    ec2.refusals["g5.xlarge", "us-east-1a", ON_DEMAND] = code
    (answer,) = provider.launch([order(provider, resource)])
    assert isinstance(answer, LaunchFailed)
    assert isinstance(answer.error, kind)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<CreateFleetResponse/>",
        b"<CreateFleetResponse><fleetInstanceSet><item/></fleetInstanceSet></CreateFleetResponse>",
    ],
)
def test_an_answer_with_neither_a_machine_nor_an_error_is_asked_for_again(
    ec2: Ec2, tmp_path: Path, body: bytes
) -> None:
    resource = choosing(ec2)
    provider = a_provider(tmp_path, resource)
    asked = order(provider, resource)
    ec2.faults.append(Fault(action="CreateFleet", after=Answer(body=body)))
    with pytest.raises(UnknownProviderFault):
        provider.launch([asked])
    assert isinstance(provider.launch([asked])[0], Launched)
    assert len(alive(ec2)) == 1


def test_spot_may_never_cost_more_than_was_committed(ec2: Ec2, tmp_path: Path) -> None:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    ec2.spot_prices = [{"type": "g5.xlarge", "zone": zone, "usd": "0.4043", "at": at} for zone in ZONES]
    resource = choosing(ec2, market=MarketPolicy.SPOT, instance_types=("g5.xlarge",))
    provider = a_provider(tmp_path, resource)
    asked = order(provider, resource, market=Market.SPOT)
    ec2.spot_prices = [{"type": "g5.xlarge", "zone": zone, "usd": "0.41", "at": at} for zone in ZONES]
    (answer,) = provider.launch([asked])
    assert isinstance(answer, LaunchFailed)
    assert isinstance(answer.error, NoCapacity)
    ec2.spot_prices[1]["usd"] = "0.4043"
    (answer,) = provider.launch([replace(asked, instance="i2")])
    assert isinstance(answer, Launched)
    assert answer.zone == "us-east-1b"
    assert [m["InstanceLifecycle"] for m in alive(ec2)] == ["spot"]


def test_capacity_that_is_reserved_goes_first(ec2: Ec2, tmp_path: Path) -> None:
    """Open reservations by the fleet's own option; one with an id by RunInstances, which can go on without it."""
    seen: list[dict[str, Any]] = []
    open_ = choosing(ec2, {"capacity_reservation": "open"})
    provider = a_provider(tmp_path, open_)
    made = provider._access(provider._named[0]).client("ec2")
    made.meta.events.register("before-call.ec2.CreateFleet", lambda params, **_: seen.append(params["body"]))
    provider.launch([order(provider, open_)])
    assert seen[0]["OnDemandOptions.CapacityReservationOptions.UsageStrategy"] == "use-capacity-reservations-first"
    named = choosing(ec2, {"capacity_reservation": "cr-1"}, market=MarketPolicy.SPOT_THEN_ON_DEMAND)
    provider = a_provider(tmp_path / "named", named)
    told = {o.market: o.may_vary for o in provider.offers(named, datetime.now(UTC))}
    assert told == {Market.SPOT: True, Market.ON_DEMAND: False}


def test_a_strategy_that_ec2_does_not_have_is_named(ec2: Ec2, tmp_path: Path) -> None:
    resource = choosing(ec2, {"allocation_strategy": "cheapest"})
    with pytest.raises(BadRequest, match=r"allocation_strategy: expected price-capacity-optimized"):
        a_provider(tmp_path, resource).offers(resource, datetime.now(UTC))


def test_subnets_of_a_zone_are_one_pool(ec2: Ec2, tmp_path: Path) -> None:
    """EC2 refuses two subnets of one zone for one type in a fleet."""
    found = {s["AvailabilityZone"]: s["SubnetId"] for s in client(ec2).describe_subnets()["Subnets"]}
    resource = choosing(ec2, {"subnets": [found[zone] for zone in ZONES]}, zones=())
    provider = a_provider(tmp_path, resource)
    ec2.capacity["g5.xlarge", found["us-east-1a"], ON_DEMAND] = 0
    (answer,) = provider.launch([order(provider, resource)])
    assert isinstance(answer, Launched)
    assert answer.zone == "us-east-1b"
    assert alive(ec2)[0]["SubnetId"] == found["us-east-1b"]


def test_doctor_tries_the_three_calls_too(ec2: Ec2, tmp_path: Path) -> None:
    resource = choosing(ec2)
    found = {f.name: f for f in a_provider(tmp_path, resource).check(resource, datetime.now(UTC))}
    assert found["permission to launch"].fix == ""
    assert ec2.count("ec2:CreateFleet") == 1
    ec2.faults.append(Fault(action="CreateFleet", instead=refusal("UnauthorizedOperation", "no", 403)))
    found = {f.name: f for f in a_provider(tmp_path / "b", resource).check(resource, datetime.now(UTC))}
    assert "aws-dispatcher-policy.json" in found["permission to launch"].fix
    assert alive(ec2) == []
