"""The keys of a resource of `provider: aws`, read once. What is wrong names the key and the fix."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import BadRequest
from fleet.model import Market, Resource

# Of spot; EC2's own words. On demand the cheapest pool goes first, which is the only other order that EC2 has by itself.
STRATEGIES = ("price-capacity-optimized", "capacity-optimized", "lowest-price")
TENANCIES = ("default", "dedicated", "host")
DISK_TYPES = ("gp2", "gp3", "io1", "io2", "st1", "sc1", "standard")
DISK_KEYS = ("gib", "type", "device", "snapshot", "iops", "throughput", "encrypted", "kms_key")
# What makes a launch ours cannot be written over: P1 and P6 rest on these.
OURS = ("ClientToken", "MinCount", "MaxCount", "DryRun", "UserData", "InstanceInitiatedShutdownBehavior")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and as whom: one region of one account."""

    region: str
    profile: str | None = None
    role_arn: str | None = None
    endpoint_url: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One EBS volume. `device` None: the image's root device."""

    device: str | None = None
    gib: int | None = None
    type: str | None = None
    snapshot: str | None = None
    iops: int | None = None
    throughput: int | None = None
    encrypted: bool | None = None
    kms_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one resource asks of EC2."""

    place: Place
    image: str
    image_owners: tuple[str, ...] = ("self", "amazon")
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    key_name: str | None = None
    iam_instance_profile: str | None = None
    root: Disk | None = None
    volumes: tuple[Disk, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    is_cpu_only: bool = False
    public_ip: bool | None = None
    monitoring: bool = False
    placement_group: str | None = None
    capacity_reservation: str | None = None
    allocation_strategy: str | None = None  # None: fleet chooses type and zone, EC2 has no choice
    tenancy: str | None = None
    max_spot_usd_per_hour: float | None = None
    metadata_hop_limit: int = 1
    launch_spec: Mapping[str, Any] = field(default_factory=dict)
    launch_template: Mapping[str, str] | None = None  # of the account's own, as RunInstances takes it

    def lets_ec2_choose(self, market: Market) -> bool:
        """Whether EC2 chooses the pool. Reserved capacity with an id is asked for by RunInstances, which can go on without it."""
        is_anywhere = market is Market.SPOT or self.capacity_reservation in (None, "open", "none")
        return self.allocation_strategy is not None and is_anywhere


def read(resource: Resource) -> Settings:
    """The settings of this resource.

    Raises:
        BadRequest: a key is missing or wrong.
    """
    keys = _Keys(resource)
    read_types(resource)
    if not resource.image:
        raise keys.wrong("image", "is missing; name an AMI id, a name with stars, or resolve:ssm:PARAMETER")
    tags = keys.mapping("tags")
    if forbidden := [name for name in tags if name.startswith(("fleet:", "aws:"))]:
        raise keys.wrong("tags", f"{forbidden[0]} is a name that fleet or AWS gives")
    return Settings(
        place=read_place(resource),
        image=resource.image,
        image_owners=keys.texts("image_owners") or ("self", "amazon"),
        subnets=keys.texts("subnets"),
        security_groups=keys.texts("security_groups"),
        key_name=keys.text("key_name"),
        iam_instance_profile=keys.text("iam_instance_profile"),
        root=_root(keys),
        volumes=_volumes(keys),
        tags=tags,
        is_cpu_only=keys.flag("cpu_only") or False,
        public_ip=keys.flag("public_ip"),
        monitoring=keys.flag("monitoring") or False,
        placement_group=keys.text("placement_group"),
        capacity_reservation=keys.text("capacity_reservation"),
        allocation_strategy=keys.choice("allocation_strategy", STRATEGIES),
        tenancy=keys.choice("tenancy", TENANCIES),
        max_spot_usd_per_hour=keys.price("max_spot_usd_per_hour"),
        metadata_hop_limit=keys.whole("metadata_hop_limit", 64) or 1,
        launch_spec=_launch_spec(keys),
        launch_template=_launch_template(keys),
    )


def read_place(resource: Resource) -> Place:
    """Where this resource lives.

    Raises:
        BadRequest: it does not say so.
    """
    keys = _Keys(resource)
    if not resource.region:
        raise keys.wrong("region", "is missing; name one, as us-east-1 (several regions: a resource for each)")
    return Place(
        region=resource.region,
        profile=keys.text("profile"),
        role_arn=keys.text("role_arn"),
        endpoint_url=keys.text("endpoint_url"),
        access_key=keys.text("access_key"),
        secret_key=keys.text("secret_key"),
        session_token=keys.text("session_token"),
    )


def read_types(resource: Resource) -> tuple[str, ...]:
    """What is bought.

    Raises:
        BadRequest: nothing.
    """
    if not resource.instance_types:
        raise _Keys(resource).wrong("instance_types", "is missing; name at least one, as g5.xlarge")
    return resource.instance_types


def _root(keys: _Keys) -> Disk | None:
    found = {name: value for name in DISK_KEYS if (value := keys.disk("disk_" + name, name)) is not None}
    return Disk(**found) if found else None


def _volumes(keys: _Keys) -> tuple[Disk, ...]:
    listed = keys.resource.settings.get("volumes") or []
    if not isinstance(listed, list) or not all(isinstance(part, dict) for part in listed):
        raise keys.wrong("volumes", "expected a list, as [{device: /dev/sdf, gib: 500}]")
    disks = []
    for n, part in enumerate(listed):
        inner = _Keys(keys.resource, part, f"volumes[{n}].")
        if unknown := sorted(set(map(str, part)) - set(DISK_KEYS)):
            raise inner.wrong(unknown[0], f"unknown key; known are {', '.join(DISK_KEYS)}")
        found = {name: value for name in DISK_KEYS if (value := inner.disk(name, name)) is not None}
        if "device" not in found or not {"gib", "snapshot"} & found.keys():
            raise inner.wrong("device", "a volume needs its device, and gib or snapshot")
        disks.append(Disk(**found))
    return tuple(disks)


def _launch_spec(keys: _Keys) -> Mapping[str, Any]:
    spec = keys.resource.settings.get("launch_spec") or {}
    if not isinstance(spec, dict):
        raise keys.wrong("launch_spec", "expected the parameters of RunInstances, as {EbsOptimized: true}")
    if taken := [name for name in OURS if name in spec]:
        raise keys.wrong(f"launch_spec.{taken[0]}", "fleet sets it itself; use init_script for what runs at boot")
    return spec


def _launch_template(keys: _Keys) -> Mapping[str, str] | None:
    said = keys.text("launch_template")
    if said is None:
        return None
    if keys.resource.settings.get("allocation_strategy"):
        why = "cannot stand beside allocation_strategy, for which fleet makes a template of each launch; say it in launch_spec"
        raise keys.wrong("launch_template", why)
    name, _, version = said.partition(":")
    if not name or not re.fullmatch(r"|[0-9]+|\$Latest|\$Default", version):
        raise keys.wrong("launch_template", f"expected a name or an id, as gpu-base or lt-0abc:3, got {said!r}")
    known_by = "LaunchTemplateId" if name.startswith("lt-") else "LaunchTemplateName"
    return {known_by: name, "Version": version or "$Default"}


class _Keys:
    """Reads values of one mapping; the first wrong one is raised, with its path."""

    def __init__(self, resource: Resource, part: Mapping[str, Any] | None = None, path: str = "") -> None:
        self.resource = resource
        self.part: Mapping[str, Any] = resource.settings if part is None else part
        self.path = path

    def wrong(self, key: str, why: str) -> BadRequest:
        return BadRequest(f"resources.{self.resource.name}.{self.path}{key}: {why}")

    def text(self, key: str) -> str | None:
        value = self.part.get(key)
        if value is None or (isinstance(value, str) and value):
            return value
        raise self.wrong(key, f"expected a text, got {value!r}")

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.part.get(key)
        if value is None:
            return ()
        items = [value] if isinstance(value, str) else value
        if isinstance(items, list) and all(isinstance(item, str) and item for item in items):
            return tuple(items)
        raise self.wrong(key, f"expected a list of names, got {value!r}")

    def flag(self, key: str) -> bool | None:
        value = self.part.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(key, f"expected true or false, got {value!r}")

    def whole(self, key: str, most: int) -> int | None:
        value = self.part.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most):
            return value
        raise self.wrong(key, f"expected a whole number, 1 to {most}, got {value!r}")

    def price(self, key: str) -> float | None:
        value = self.part.get(key)
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and math.isfinite(value) and value > 0:
            return float(value)
        raise self.wrong(key, f"expected US dollars an hour, above 0, got {value!r}")

    def choice(self, key: str, options: tuple[str, ...]) -> str | None:
        value = self.text(key)
        if value is None or value in options:
            return value
        raise self.wrong(key, f"expected {', '.join(options)}, got {value!r}")

    def mapping(self, key: str) -> dict[str, str]:
        value = self.part.get(key)
        if value is None:
            return {}
        if isinstance(value, dict) and all(isinstance(v, str | int | float) for v in value.values()):
            return {str(k): str(v).lower() if isinstance(v, bool) else str(v) for k, v in value.items()}
        raise self.wrong(key, f"expected names with texts, got {value!r}")

    def disk(self, key: str, what: str) -> Any:
        """One property of a volume, by its kind."""
        match what:
            case "gib":
                return self.whole(key, 65_536)
            case "iops":
                return self.whole(key, 256_000)
            case "throughput":
                return self.whole(key, 2_000)
            case "encrypted":
                return self.flag(key)
            case "type":
                return self.choice(key, DISK_TYPES)
        return self.text(key)
