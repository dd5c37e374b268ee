"""The parameters of one RunInstances. Source: RunInstances (EC2 API Reference)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.model import Market
from fleet.providers.aws.settings import Disk, Settings
from fleet.providers.base import LaunchOrder

CLUSTER, RESOURCE, INSTANCE, INSTANCES = "fleet:cluster", "fleet:resource", "fleet:instance", "fleet:instances."
LONGEST_VALUE = 256  # of a tag
PREFERENCES = {"open": "open", "none": "none", "only": "capacity-reservations-only"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to get the machines; the next is tried when this one has no room left."""

    subnet: str | None = None
    reservation: str | None = None  # an id, an ARN of a group of them, or a word of PREFERENCES


def ways(settings: Settings, subnets: Sequence[str], market: Market) -> list[Way]:
    """Capacity that is paid for already goes first, then whatever there is; subnets of the zone in their order."""
    reserved = settings.capacity_reservation if market is Market.ON_DEMAND else None
    places: list[str | None] = [*subnets] or [None]
    reservations = [reserved] if reserved is None or reserved in PREFERENCES else [reserved, None]
    return [Way(subnet=subnet, reservation=cr) for cr in reservations for subnet in places]


def build(
    orders: Sequence[LaunchOrder],
    settings: Settings,
    way: Way,
    *,
    image_id: str,
    root_device: str | None,
    user_data: str,
    token: str,
) -> dict[str, Any]:
    """For orders of one resource and offer. `user_data` is the text: boto3 encodes it."""
    offer = orders[0].offer
    request: dict[str, Any] = {
        "ClientToken": token,
        "MinCount": 1,
        "MaxCount": len(orders),
        "ImageId": image_id,
        "InstanceType": offer.type,
        "UserData": user_data,
        "InstanceInitiatedShutdownBehavior": "terminate",  # a machine that ends itself ends its bill
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": settings.metadata_hop_limit,  # 1: nothing in a container gets an answer
            "HttpEndpoint": "enabled",
        },
        "TagSpecifications": _tags(orders, settings),
        **_network(settings, way, offer.zone),
    }
    if settings.launch_template:
        request["LaunchTemplate"] = dict(settings.launch_template)  # EC2 takes from it what this request does not say
    if settings.monitoring or not settings.launch_template:
        request["Monitoring"] = {"Enabled": settings.monitoring}
    if settings.key_name:
        request["KeyName"] = settings.key_name
    if profile := settings.iam_instance_profile:
        request["IamInstanceProfile"] = {"Arn" if profile.startswith("arn:") else "Name": profile}
    if disks := _disks(settings, root_device):
        request["BlockDeviceMappings"] = disks
    if offer.market is Market.SPOT:
        request["InstanceMarketOptions"] = _spot(settings)
    if way.reservation:
        request["CapacityReservationSpecification"] = _reservation(way.reservation)
    return merged(request, settings.launch_spec)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: mappings grow together, tags of the fleet file are added, anything else is replaced."""
    made = dict(base)
    for key, value in over.items():
        if key == "TagSpecifications" and isinstance(value, list):
            made[key] = _with_tags(made[key], value)
        elif isinstance(value, Mapping) and isinstance(made.get(key), Mapping):
            made[key] = merged(made[key], value)
        else:
            made[key] = value
    return made


def intents_of(tags: Mapping[str, str]) -> list[str]:
    """The intents that one call was for, in the order of its launch indices."""
    if INSTANCE in tags:
        return [tags[INSTANCE]]
    parts = sorted((name for name in tags if name.startswith(INSTANCES)), key=lambda name: (len(name), name))
    return [intent for name in parts for intent in tags[name].split()]


def _tags(orders: Sequence[LaunchOrder], settings: Settings) -> list[dict[str, Any]]:
    first = orders[0]
    tags = {"Name": f"fleet {first.cluster} {first.resource.name}", **settings.tags}
    tags |= {CLUSTER: first.cluster, RESOURCE: first.resource.name, **_names([o.instance for o in orders])}
    kinds = ["instance", "volume", "network-interface"]
    if first.offer.market is Market.SPOT:
        kinds.append("spot-instances-request")
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return [{"ResourceType": kind, "Tags": listed} for kind in kinds]


def _names(intents: Sequence[str]) -> dict[str, str]:
    if len(intents) == 1:
        return {INSTANCE: intents[0]}
    values = [""]
    for intent in intents:
        longer = f"{values[-1]} {intent}".strip()
        if len(longer) <= LONGEST_VALUE:
            values[-1] = longer
        else:
            values.append(intent)
    return {f"{INSTANCES}{n}": value for n, value in enumerate(values)}


def _with_tags(ours: list[dict[str, Any]], theirs: list[Any]) -> list[dict[str, Any]]:
    extra = {part["ResourceType"]: part["Tags"] for part in theirs}
    kept = [
        {**part, "Tags": [*part["Tags"], *(t for t in extra.pop(part["ResourceType"], ()) if not _is_ours(t, part))]}
        for part in ours
    ]
    return [*kept, *({"ResourceType": kind, "Tags": tags} for kind, tags in extra.items())]


def _is_ours(tag: Mapping[str, str], part: Mapping[str, Any]) -> bool:
    return tag["Key"] in {own["Key"] for own in part["Tags"]}


def _network(settings: Settings, way: Way, zone: str | None) -> dict[str, Any]:
    placement: dict[str, Any] = {} if way.subnet or not zone else {"AvailabilityZone": zone}
    if settings.placement_group:
        placement["GroupName"] = settings.placement_group
    if settings.tenancy:
        placement["Tenancy"] = settings.tenancy
    found: dict[str, Any] = {"Placement": placement} if placement else {}
    if settings.public_ip is None:
        if way.subnet:
            found["SubnetId"] = way.subnet
        if settings.security_groups:
            found["SecurityGroupIds"] = list(settings.security_groups)
        return found
    # Only an interface of our own can say whether it gets a public address.
    card: dict[str, Any] = {
        "DeviceIndex": 0,
        "AssociatePublicIpAddress": settings.public_ip,
        "DeleteOnTermination": True,
    }
    if way.subnet:
        card["SubnetId"] = way.subnet
    if settings.security_groups:
        card["Groups"] = list(settings.security_groups)
    return {**found, "NetworkInterfaces": [card]}


def _disks(settings: Settings, root_device: str | None) -> list[dict[str, Any]]:
    root = [settings.root] if settings.root else []
    return [_disk(disk, disk.device or root_device) for disk in (*root, *settings.volumes)]


def _disk(disk: Disk, device: str | None) -> dict[str, Any]:
    known = {
        "VolumeSize": disk.gib,
        "VolumeType": disk.type,
        "SnapshotId": disk.snapshot,
        "Iops": disk.iops,
        "Throughput": disk.throughput,
        "Encrypted": True if disk.kms_key else disk.encrypted,
        "KmsKeyId": disk.kms_key,
    }
    told = {key: value for key, value in known.items() if value is not None}
    return {"DeviceName": device, "Ebs": {"DeleteOnTermination": True, **told}}


def _spot(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
    if settings.max_spot_usd_per_hour:
        options["MaxPrice"] = f"{settings.max_spot_usd_per_hour:.4f}"
    return {"MarketType": "spot", "SpotOptions": options}


def _reservation(wanted: str) -> dict[str, Any]:
    if wanted in PREFERENCES:
        return {"CapacityReservationPreference": PREFERENCES[wanted]}
    key = "CapacityReservationResourceGroupArn" if wanted.startswith("arn:") else "CapacityReservationId"
    return {"CapacityReservationTarget": {key: wanted}}
