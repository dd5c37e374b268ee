"""What a type of EC2 is: GPUs, CPUs, memory; and in which zones it is sold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fleet.model import Market
from fleet.providers.aws.access import pages

MIB_PER_GIB = 1024
MARKETS = {"on-demand": Market.ON_DEMAND, "spot": Market.SPOT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One type, as DescribeInstanceTypes tells it."""

    type: str
    cpus: int
    memory_gib: float
    gpus: int = 0
    gpu_model: str | None = None
    gpu_memory_gib: float | None = None  # of each
    architectures: tuple[str, ...] = ()
    markets: frozenset[Market] = frozenset(Market)


def read_shapes(ec2: Any, types: Sequence[str]) -> dict[str, Shape]:
    """The shapes of these types, by name. EC2 refuses all of them when it does not know one."""
    found = pages(ec2, "describe_instance_types", "InstanceTypes", InstanceTypes=list(types))
    return {shape.type: shape for shape in map(read_shape, found)}


def read_shape(info: Any) -> Shape:
    """One answer.

    Raises:
        KeyError, TypeError, ValueError: it is not as documented.
    """
    parts = (info.get("GpuInfo") or {}).get("Gpus") or []
    # A part of a GPU (g6f) counts 0 whole ones, and one that can be used.
    counts = [int(gpu.get("Count") or gpu.get("LogicalGpuCount") or 0) for gpu in parts]
    memory = [gpu["MemoryInfo"]["SizeInMiB"] / MIB_PER_GIB for gpu in parts if gpu.get("MemoryInfo")]
    return Shape(
        type=str(info["InstanceType"]),
        cpus=_positive(info["VCpuInfo"]["DefaultVCpus"]),
        memory_gib=_positive(info["MemoryInfo"]["SizeInMiB"]) / MIB_PER_GIB,
        gpus=sum(counts),
        gpu_model=f"{parts[0].get('Manufacturer', '')} {parts[0]['Name']}".strip() if parts else None,
        gpu_memory_gib=min(memory, default=None),
        architectures=tuple((info.get("ProcessorInfo") or {}).get("SupportedArchitectures") or ()),
        markets=frozenset(MARKETS[name] for name in info.get("SupportedUsageClasses") or MARKETS if name in MARKETS),
    )


def read_zones(ec2: Any, types: Sequence[str]) -> dict[str, frozenset[str]]:
    """In which zones of the region each type is sold."""
    found = pages(
        ec2,
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": list(types)}],
    )
    pairs = [(str(part["InstanceType"]), str(part["Location"])) for part in found]
    return {name: frozenset(zone for kind, zone in pairs if kind == name) for name in types}


def _positive(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is no size")
    return value
