"""`resources:` of the fleet file: keys that every provider has, and keys of each cloud."""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import timedelta

from fleet.config.prices import read_prices
from fleet.config.quantities import duration, memory_gib, money, number
from fleet.config.schedule import check_windows, read_schedule
from fleet.config.section import Section
from fleet.model import KeepAwake, MarketPolicy, Resource
from fleet.nearest import which

IDLE_TIMEOUT: timedelta | None = timedelta(minutes=10)  # what `auto` means until it has learned
BOOT_TIMEOUT = timedelta(minutes=15)
REPLACE_SICK: float | None = 0.5

# Keys beyond the common ones, kept in Resource.settings as they are written; their provider checks the values.
OWN_KEYS: dict[str, tuple[str, ...]] = {
    "local": ("gpus", "gpu_model", "gpu_memory", "usd_per_hour", "cpus"),
    "aws": (
        "subnets",
        "security_groups",
        "key_name",
        "iam_instance_profile",
        "disk_gib",
        "disk_type",
        "disk_device",
        "disk_snapshot",
        "disk_iops",
        "disk_throughput",
        "disk_encrypted",
        "disk_kms_key",
        "volumes",
        "image_owners",
        "tags",
        "init_script",
        "cpu_only",
        "public_ip",
        "metadata_hop_limit",
        "monitoring",
        "placement_group",
        "capacity_reservation",
        "allocation_strategy",
        "tenancy",
        "max_spot_usd_per_hour",
        "profile",
        "role_arn",
        "access_key",
        "secret_key",
        "session_token",
        "endpoint_url",
        "launch_spec",
        "launch_template",
    ),
    "gcp": (
        "project",
        "network",
        "subnets",
        "service_account",
        "scopes",
        "credentials",
        "gpu_type",
        "gpus",
        "disk_gib",
        "disk_type",
        "labels",
        "network_tags",
        "metadata",
        "init_script",
        "cpu_only",
        "public_ip",
        "provisioning_model",
        "min_cpu_platform",
        "endpoint_url",
        "regions",
        "template",
        "image_family",
        "image_project",
        "disk_snapshot",
        "shielded",
        "launch_spec",
    ),
    "genesis": (
        "token",
        "security_groups",
        "ssh_keys",
        "disk_gib",
        "volumes",
        "init_script",
        "cpu_only",
        "public_ip",
        "endpoint_url",
        "regions",
        "placement",
        "reservation",
        "launch_spec",
    ),
    "kubernetes": (
        "namespace",
        "context",
        "kubeconfig",
        "node_selector",
        "tolerations",
        "affinity",
        "service_account",
        "image_pull_secrets",
        "priority_class",
        "runtime_class",
        "gpu_resource",
        "gpus",
        "cpus",
        "memory",
        "requests",
        "limits",
        "labels",
        "annotations",
        "volumes",
        "volume_mounts",
        "pod_template",
        "usd_per_hour",
    ),
}
SECRETS = ("access_key", "secret_key", "session_token", "token", "credentials")  # may be ${ENV} or file:/path
ANY_KEYS = ("fake",)  # comes with fleet, for tests and the simulator


def read_resource(name: str, part: Section) -> Resource:
    """One resource. What is wrong is noted in `part`."""
    part.require("provider")
    provider = part.text("provider", "")
    market, market_times = _market(part)
    resource = Resource(
        name=name,
        provider=provider,
        region=_region(part, provider),
        zones=part.texts("zones"),
        instance_types=part.texts("instance_types"),
        market=market,
        image=part.text("image", None),
        max_instances=part.whole("max_instances", None),
        min_instances=part.whole("min_instances", 0),
        idle_timeout=part.read("idle_timeout", _idle_timeout, IDLE_TIMEOUT),
        is_idle_auto=part.anything("idle_timeout") in (None, "auto"),
        boot_timeout=part.read("boot_timeout", _some_time, BOOT_TIMEOUT),
        max_lifetime=part.read("max_lifetime", read_lifetime, None),
        keep_awake=read_keep_awake(part.section("keep_awake")),
        replace_sick=part.read("replace_sick", _part_of_gpus, REPLACE_SICK),
        min_driver=part.read("min_driver", read_driver, None),
        schedule=read_schedule(part, "min_instances", "max_instances"),
        settings=_own(provider, part),
    )
    resource = replace(
        resource,
        fallback_after=market_times.get("fallback_after", resource.fallback_after),
        blackout=market_times.get("blackout", resource.blackout),
        prices=read_prices(part, resource.instance_types, resource.settings.get("gpu_type")),
    )
    if resource.max_instances is not None and resource.min_instances > resource.max_instances:
        part.wrong("min_instances", f"{resource.min_instances} is more than max_instances, {resource.max_instances}")
    check_windows(part, resource)
    part.no_more()
    return resource


def read_keep_awake(part: Section) -> KeepAwake:
    """What, besides tasks, keeps an idle machine from ending."""
    wanted = KeepAwake(
        ssh=part.flag("ssh", False),
        gpu_percent=part.positive("gpu", _percent, None),
        keep_alive=part.read("file", _some_time, None),
    )
    part.no_more()
    return wanted


def gpus_of(resource: Resource) -> int | None:
    """How many GPUs an instance has, where the fleet file alone can tell; None where only the cloud or the machine knows."""
    gpus = resource.settings.get("gpus")
    return gpus if resource.provider == "local" and isinstance(gpus, int) else None


def _region(part: Section, provider: str) -> str | None:
    """One: images, subnets and groups are a region's own."""
    if not isinstance(part.anything("region"), list):
        return part.text("region", None)
    has_several = "regions" in OWN_KEYS.get(provider, ())
    fix = "list them under regions" if has_several else "make a resource of each, and name them all in the queue"
    part.wrong("region", f"expected one; several: {fix}")
    return None


def _market(part: Section) -> tuple[MarketPolicy, dict[str, timedelta]]:
    """A policy by name, or `{policy: spot_then_on_demand, fallback_after: 5m, blackout: 30m}`; the options may also stand beside it."""
    where, key, default = part, "market", MarketPolicy.ON_DEMAND
    if isinstance(part.anything("market"), dict):
        # Without its policy the options can mean but this one.
        where, key, default = part.section("market"), "policy", MarketPolicy.SPOT_THEN_ON_DEMAND
        where.require("policy")
    policy = where.choice(key, MarketPolicy, default)
    places = (part,) if where is part else (part, where)
    times: dict[str, timedelta] = {}
    for option in ("fallback_after", "blackout"):
        for place in places:
            if (value := place.read(option, duration, None)) is not None:
                times[option] = value
                if policy is not MarketPolicy.SPOT_THEN_ON_DEMAND:
                    place.wrong(option, f"has a meaning only where market is {MarketPolicy.SPOT_THEN_ON_DEMAND}")
    if where is not part:
        where.no_more()
    return policy, times


def _own(provider: str, part: Section) -> dict[str, object]:
    """The settings of this provider alone."""
    if provider == "local":
        return _local(part)
    if provider in OWN_KEYS:
        read = {key: part.value(key, None) if key in SECRETS else part.anything(key) for key in OWN_KEYS[provider]}
        return {key: value for key, value in read.items() if value is not None}
    rest = dict(part.rest())
    if provider in ANY_KEYS or (provider and provider in installed()):
        return rest
    if provider:
        part.wrong("provider", _unknown(provider))
    return {}  # the other keys may be right for the provider that was meant


def _local(part: Section) -> dict[str, object]:
    gpus = part.read("gpus", read_gpus, None)
    read = {
        "gpus": gpus,
        "gpu_model": part.text("gpu_model", None),
        "gpu_memory": part.positive("gpu_memory", memory_gib, None),
        "usd_per_hour": part.read("usd_per_hour", _price, None),
        "cpus": part.whole("cpus", None, at_least=1),
    }
    return {key: value for key, value in read.items() if value is not None}


@functools.cache
def installed() -> tuple[str, ...]:
    """Providers of other packages, by their entry points. Asked for only when a name is not our own: it takes 60 ms."""
    from importlib.metadata import entry_points

    return tuple(sorted({point.name for point in entry_points(group="fleet.providers")}))


def _unknown(provider: str) -> str:
    known = sorted({*OWN_KEYS, *installed()} - set(ANY_KEYS))
    return f"no provider is called {provider!r}; {which(provider, known)}"


def _idle_timeout(value: object) -> timedelta | None:
    if value == "auto":
        return IDLE_TIMEOUT
    if value == "never":
        return None
    try:
        return duration(value)
    except ValueError as error:
        raise ValueError(f"{error}; or auto, or never") from None


def read_lifetime(value: object) -> timedelta | None:
    return None if value == "never" else _some_time(value)


def _percent(value: object) -> float:
    per_cent = number(value)
    if not 0 < per_cent <= 100:
        raise ValueError("expected per cent, above 0 and up to 100")
    return per_cent


def _part_of_gpus(value: object) -> float | None:
    if value == "never":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError("expected a part of the GPUs, 0 to less than 1 (0: at the first sick one), or never")
    return float(value)


def read_driver(value: object) -> str:
    text = str(value)
    if not all(part.isascii() and part.isdigit() for part in text.split(".")):
        raise ValueError('expected the version of a driver, as "550.54.15"')
    return text


def _some_time(value: object) -> timedelta:
    time = duration(value)
    if not time:
        raise ValueError("must be more than 0s")
    return time


def read_gpus(value: object) -> int | str:
    if value == "real" or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 64):
        return value if isinstance(value, int) else "real"
    raise ValueError("expected a number of simulated GPUs, 0 to 64, or real")


def _price(value: object) -> float:
    usd = money(value)
    if usd < 0:
        raise ValueError("a price is not below 0")
    return usd
