"""The keys of a resource of provider genesis, and what a type is made of: its name says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.model import MarketPolicy, Resource
from fleet.providers.own_keys import OwnKeys

SMALLEST_DISK_GIB = 80
# vcpu-192_memory-1920g_nvidia-h100-sxm5-8, vcpu-4_memory-12g_disk-80g_nvidia3080-1, vcpu-2_memory-4g
_TYPE = re.compile(r"vcpu-(\d+)_memory-(\d+)g(?:_disk-\d+g)?(?:_([a-z0-9-]+)-(\d+))?$")
# Document: "Instance types" of developers.genesiscloud.com; memory in GB as NVIDIA's data sheets have it
GPUS = {
    "h200": ("H200", 141.0),
    "h100": ("H100", 80.0),
    "3090": ("GeForce RTX 3090", 24.0),
    "3080": ("GeForce RTX 3080", 10.0),
    "3060ti": ("GeForce RTX 3060 Ti", 8.0),
    "1080ti": ("GeForce GTX 1080 Ti", 11.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a type is made of. Accelerators that are not NVIDIA's do not count: no supervisor could hand them out."""

    cpus: int
    memory_gib: float
    gpus: int = 0
    gpu_model: str | None = None
    gpu_memory_gib: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisSettings:
    """What the fleet file says of a machine."""

    regions: tuple[str, ...]
    types: tuple[str, ...]
    image: str
    ssh_keys: tuple[str, ...]  # names or ids
    security_groups: tuple[str, ...]  # names or ids
    volumes: tuple[str, ...]  # ids
    disk_gib: int | None
    placement: str | None
    reservation: str | None
    is_cpu_only: bool
    launch_spec: Mapping[str, Any]


def settings_of(resource: Resource) -> GenesisSettings:
    """
    Raises:
        BadRequest: a key has a value that cannot be meant.
    """
    keys = OwnKeys(resource)
    regions = keys.texts("regions") or ((resource.region,) if resource.region else ())
    if not regions:
        raise keys.wrong("region", "is missing; give one, as NORD-NO-KRS-1")
    if resource.zones:
        raise keys.wrong("zones", "Genesis Cloud has regions alone; give region")
    if not resource.instance_types:
        raise keys.wrong("instance_types", "is missing; give types, as [vcpu-4_memory-24g_nvidia-rtx-3090-1]")
    for kind in resource.instance_types:
        if not shape_of(kind):
            raise keys.wrong(
                "instance_types", f"{kind[:60]} is no type; they are called as vcpu-4_memory-24g_nvidia-rtx-3090-1"
            )
    if not resource.image:
        raise keys.wrong("image", "is missing; give a slug as ubuntu:22.04, an id, or the id of a snapshot")
    if resource.market is MarketPolicy.SPOT:
        raise keys.wrong("market", "Genesis Cloud sells on demand alone; give on_demand")
    if not keys.flag("public_ip", True):
        raise keys.wrong("public_ip", "a machine there always has one; leave it out")
    return GenesisSettings(
        regions=regions,
        types=resource.instance_types,
        image=resource.image,
        ssh_keys=keys.texts("ssh_keys"),
        security_groups=keys.texts("security_groups"),
        volumes=keys.texts("volumes"),
        disk_gib=keys.whole("disk_gib", at_least=SMALLEST_DISK_GIB, at_most=65536),
        placement=keys.text("placement"),
        reservation=keys.text("reservation"),
        is_cpu_only=keys.flag("cpu_only", False),
        launch_spec=keys.section("launch_spec"),
    )


def shape_of(kind: str) -> Shape | None:
    """None: no type is called so."""
    match = _TYPE.match(kind)
    if not match:
        return None
    cpus, memory = int(match[1]), float(match[2])
    if not match[3] or not match[3].startswith("nvidia"):
        return Shape(cpus=cpus, memory_gib=memory)
    name = match[3].removeprefix("nvidia").strip("-")
    model, gib = next((found for key, found in GPUS.items() if key in name), (name.upper().replace("-", " "), None))
    return Shape(cpus=cpus, memory_gib=memory, gpus=int(match[4]), gpu_model=model, gpu_memory_gib=gib)
