"""One machine from several pools in one call: CreateFleet, type `instant`. EC2 chooses among types and zones by its own strategy,
so that a sold-out pool costs no second call: docs/adr/0030-aws.md.

Sources: CreateFleet, CreateLaunchTemplate (EC2 API Reference); "Allocation strategies for Spot Instances" and "Configure an EC2 Fleet of
type instant" (EC2 User Guide).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import ClientError

from fleet.errors import NoCapacity, NotAuthorised, ProviderError
from fleet.model import Market, Offer
from fleet.providers.aws.access import pages
from fleet.providers.aws.errors import AwsFault, asking, code_of, of_answer
from fleet.providers.aws.journal import Call
from fleet.providers.aws.request import CLUSTER, INSTANCE, RESOURCE
from fleet.providers.aws.settings import Settings
from fleet.providers.aws.stock import Stock
from fleet.providers.base import Launched, LaunchFailed, LaunchOrder, Refusal

TEMPLATE_IS_THERE = "InvalidLaunchTemplateName.AlreadyExistsException"
# EC2 takes more; beyond this many pools the dearest add nothing but time.
MOST_POOLS = 50
# What RunInstances takes and a launch template does not: the call says it, or each pool does.
OF_THE_CALL = ("ClientToken", "MinCount", "MaxCount", "InstanceType", "SubnetId", "InstanceMarketOptions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Machines of one type in one zone, as EC2 counts what it has of them."""

    type: str
    zone: str
    subnet: str | None = None


def pools_of(order: LaunchOrder, stock: Stock) -> tuple[Pool, ...]:
    """The ordered one first. EC2 refuses two subnets of one zone for one type, so it is the first of each zone."""
    subnets: dict[str, str] = {}
    for subnet in stock.subnets:
        subnets.setdefault(subnet.zone, subnet.id)
    made = stock.shapes.get(order.offer.type)
    found = [
        Pool(type=offer.type, zone=offer.zone, subnet=subnets.get(offer.zone))
        for offer in (order.offer, *order.alternatives)
        if offer.zone and _is_bootable(stock, offer, made.architectures if made else ())
    ]
    return tuple(dict.fromkeys(found))[:MOST_POOLS]


def call_of(
    order: LaunchOrder, settings: Settings, pools: Sequence[Pool], built: Mapping[str, Any], token: str
) -> Call:
    """`built` is the RunInstances of the ordered offer: all of it but type, place and market becomes a launch template."""
    tags = [
        {"Key": CLUSTER, "Value": order.cluster},
        {"Key": RESOURCE, "Value": order.resource.name},
        {"Key": INSTANCE, "Value": order.instance},
    ]
    template = {
        "LaunchTemplateName": token,
        "LaunchTemplateData": _template_data(built),
        "TagSpecifications": [{"ResourceType": "launch-template", "Tags": tags}],
    }
    market = order.offer.market
    request: dict[str, Any] = {
        "ClientToken": token,
        "Type": "instant",
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": 1,
            "DefaultTargetCapacityType": "spot" if market is Market.SPOT else "on-demand",
        },
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": token, "Version": "1"},
                "Overrides": [_override(pool) for pool in pools],
            }
        ],
        "TagSpecifications": [{"ResourceType": "fleet", "Tags": tags}],
        **(_spot(order.offer, settings) if market is Market.SPOT else _on_demand(settings)),
    }
    return Call(
        token=token,
        resource=order.resource.name,
        intents=(order.instance,),
        request=request,
        template=template,
        pools=tuple(asdict(pool) for pool in pools),
    )


def run(call: Call, ec2: Any, doing: str, *, is_first: bool) -> Launched | LaunchFailed:
    """The template, unless it is there; then the call.

    Raises:
        ProviderError: as RunInstances.
    """
    _make_template(call, ec2, doing, is_first=is_first)
    try:
        with asking(doing):
            return _read(call, ec2.create_fleet(**call.request), doing)
    except AwsFault as error:
        if error.code != "IdempotentParameterMismatch":
            raise
    # The first time was another dispatcher's, with other pools: its machine is ours all the same.
    with asking(doing):
        cluster = _tags(call)[CLUSTER]
        filters = [
            {"Name": f"tag:{CLUSTER}", "Values": [cluster]},
            {"Name": f"tag:{INSTANCE}", "Values": list(call.intents)},
        ]
        parts = pages(ec2, "describe_instances", "Reservations", Filters=filters)
        for machine in (m for part in parts for m in part["Instances"]):
            zone = str(machine["Placement"]["AvailabilityZone"])
            return _launched(call, machine["InstanceId"], str(machine["InstanceType"]), zone)
    raise AwsFault(f"{doing}: EC2 has carried out another call with this token and does not list its machine yet")


def _make_template(call: Call, ec2: Any, doing: str, *, is_first: bool) -> None:
    try:
        with asking(f"{doing}: make its launch template"):
            try:
                ec2.create_launch_template(**(call.template or {}))
            except ClientError as error:
                if code_of(error) != TEMPLATE_IS_THERE:
                    raise
    except ProviderError as error:
        if is_first:
            raise
        # That no template can be made now says nothing of the machine that the first call may have started.
        raise AwsFault(f"repeat an unanswered launch: {error}") from error


def _read(call: Call, answer: Any, doing: str) -> Launched | LaunchFailed:
    for part in answer.get("Instances") or ():
        ids = part["InstanceIds"]
        told = (part.get("LaunchTemplateAndOverrides") or {}).get("Overrides") or {}
        pool = _pool(call, {"InstanceType": part.get("InstanceType"), **told})
        type_ = part.get("InstanceType") or (pool.type if pool else None)
        zone = part.get("AvailabilityZone") or (pool.zone if pool else None)
        return _launched(call, ids[0], type_, zone)
    faults = [(_pool(call, _overrides(part)), _fault(part, doing)) for part in answer.get("Errors") or ()]
    if not faults:
        raise ValueError("neither a machine nor an error in it")
    return _refused(call, faults)


def _launched(call: Call, cloud_id: Any, type: str | None, zone: str | None) -> Launched:
    if not isinstance(cloud_id, str) or not cloud_id.startswith("i-"):
        raise ValueError("no machine in it")
    return Launched(instance=call.intents[0], cloud_id=cloud_id, type=type, zone=zone)


def _refused(call: Call, faults: Sequence[tuple[Pool | None, ProviderError]]) -> LaunchFailed:
    """What nobody but an operator can mend goes before what is sold out; else what was said of the ordered pool."""
    ordered, *others = [Pool(**pool) for pool in call.pools]
    by_pool = {pool: error for pool, error in reversed(faults) if pool}
    loud = [error for _, error in faults if isinstance(error, NotAuthorised)]
    error = loud[0] if loud else by_pool.get(ordered, faults[0][1])
    said = [(pool, by_pool.get(pool, error if isinstance(error, NoCapacity) else None)) for pool in others]
    return LaunchFailed(
        instance=call.intents[0],
        error=error,
        others=tuple(Refusal(type=pool.type, zone=pool.zone, error=fault) for pool, fault in said if fault),
    )


def _fault(part: Mapping[str, Any], doing: str) -> ProviderError:
    told = _overrides(part)
    place = told.get("AvailabilityZone") or told.get("SubnetId")
    where = f"{doing}: {told.get('InstanceType')} in {place}" if place else doing
    error = {"Code": str(part.get("ErrorCode") or ""), "Message": str(part.get("ErrorMessage") or "")}
    return of_answer(ClientError({"Error": error}, "CreateFleet"), where)


def _overrides(part: Mapping[str, Any]) -> Mapping[str, Any]:
    told = (part.get("LaunchTemplateAndOverrides") or {}).get("Overrides") or {}
    return dict(told)


def _pool(call: Call, told: Mapping[str, Any]) -> Pool | None:
    """Which of the call's pools EC2 speaks of."""
    for pool in (Pool(**pool) for pool in call.pools):
        is_there = told.get("SubnetId") == pool.subnet if pool.subnet else told.get("AvailabilityZone") == pool.zone
        if told.get("InstanceType") == pool.type and is_there:
            return pool
    return None


def _tags(call: Call) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in call.request["TagSpecifications"][0]["Tags"]}


def _is_bootable(stock: Stock, offer: Offer, architectures: Iterable[str]) -> bool:
    """There is one image in the template, so only types of its architecture may use it."""
    shape = stock.shapes.get(offer.type)
    return shape is None or not architectures or bool(set(shape.architectures) & set(architectures))


def _template_data(built: Mapping[str, Any]) -> dict[str, Any]:
    data = {key: value for key, value in built.items() if key not in OF_THE_CALL}
    placement = {key: value for key, value in data.pop("Placement", {}).items() if key != "AvailabilityZone"}
    if placement:
        data["Placement"] = placement
    # boto3 encodes it for RunInstances, but not here.
    data["UserData"] = base64.b64encode(str(built["UserData"]).encode()).decode()
    return data


def _override(pool: Pool) -> dict[str, str]:
    place = {"SubnetId": pool.subnet} if pool.subnet else {"AvailabilityZone": pool.zone}
    return {"InstanceType": pool.type, **place}


def _spot(offer: Offer, settings: Settings) -> dict[str, Any]:
    options = {
        "AllocationStrategy": settings.allocation_strategy,
        "InstanceInterruptionBehavior": "terminate",
    }
    limits = [usd for usd in (offer.price_usd_per_hour, settings.max_spot_usd_per_hour) if usd]
    if limits:
        # The budget has committed so much an hour. Rounded up: a price is never above itself.
        options["MaxTotalPrice"] = f"{math.ceil(min(limits) * 10_000) / 10_000:.4f}"
    return {"SpotOptions": options}


def _on_demand(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {"AllocationStrategy": "lowest-price"}  # the only other one wants our own order
    if settings.capacity_reservation == "open":
        options["CapacityReservationOptions"] = {"UsageStrategy": "use-capacity-reservations-first"}
    return {"OnDemandOptions": options}
