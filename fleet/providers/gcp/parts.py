"""What Google sells a machine by: its cores, memory, GPUs and local SSD, each under a name of the price list; and which machine has
how much of each.

Names: "Compute Engine SKUs" (cloud.google.com/skus) and "VM instance pricing"; a SKU is taken if its whole description is one of
these. So a commitment, a reservation, sole tenancy, a custom type, Calendar Mode and what else is sold under other names is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fleet.model import Market
from fleet.providers.gcp.shapes import Shape


class Unit(StrEnum):
    """What one of a part is."""

    CORE = "core"
    RAM = "memory"  # a GiB
    GPU = "GPU"
    LOCAL_SSD = "local SSD"  # a GiB


@dataclass(frozen=True, slots=True)
class Part:
    """Cores of a family ("g2"), GPUs of a type ("nvidia-l4"), local SSD of a family, or of all that have none of their own ("")."""

    unit: Unit
    of: str

    def __str__(self) -> str:
        if self.unit is Unit.GPU:
            return f"GPU {self.of}"
        return f"{self.unit} of {self.of}" if self.of else str(self.unit)


class NotSold(Exception):
    """It is not known which parts of the price list this machine is made of. The text says of what."""


# By the words of the price list before "Core" and "Ram".
FAMILIES = {
    "n1 predefined instance": "n1",
    "e2 instance": "e2",
    "n2 instance": "n2",
    "n2d amd instance": "n2d",
    "n4 instance": "n4",
    "t2d amd instance": "t2d",
    "t2a arm instance": "t2a",
    "compute optimized": "c2",
    "compute optimized instance": "c2",
    "c2d amd instance": "c2d",
    "c3 instance": "c3",
    "c3d instance": "c3d",
    "c4 instance": "c4",
    "c4a arm instance": "c4a",
    "c4d instance": "c4d",
    "g2 instance": "g2",
    "g4 instance": "g4",
    "a2 instance": "a2",
    "a3 instance": "a3",
    "a3plus instance": "a3-megagpu",
    "a3ultra instance": "a3-ultragpu",
}
GPUS = {
    "nvidia tesla k80": "nvidia-tesla-k80",
    "nvidia tesla p4": "nvidia-tesla-p4",
    "nvidia tesla p100": "nvidia-tesla-p100",
    "nvidia tesla v100": "nvidia-tesla-v100",
    "nvidia tesla t4": "nvidia-tesla-t4",
    "nvidia tesla a100": "nvidia-tesla-a100",
    "nvidia tesla a100 80gb": "nvidia-a100-80gb",
    "nvidia l4": "nvidia-l4",
    "nvidia h100 80gb": "nvidia-h100-80gb",
    "nvidia h100 80gb mega": "nvidia-h100-mega-80gb",
    "nvidia h100 80gb plus": "nvidia-h100-mega-80gb",
    "h200 141gb": "nvidia-h200-141gb",
    "nvidia h200 141gb": "nvidia-h200-141gb",
    "rtx 6000 96gb": "nvidia-rtx-pro-6000",
}
OWN_SSD = ("c4", "c4a", "c4d")  # local SSD of these is sold under a name of its own
SSD_GIB = 375  # one that is built in
# "VM instance pricing", shared-core machine types: the part of a core that is paid for.
SHARED = {"e2-micro": 0.25, "e2-small": 0.5, "e2-medium": 1.0}

_SPOT = r"(?:(?:spot )?preemptible )?"
_CORE_OR_RAM = re.compile(_SPOT + r"(?P<family>.+?) (?P<unit>core|ram) running in .+")
_GPU = re.compile(r"(?:spot preemptible )?(?P<gpu>.+?)(?: gpu)?(?: attached to spot preemptible vms)? running in .+")
_SSD = re.compile(r"ssd backed local storage(?: attached to spot preemptible vms?)?(?: (?:running )?in .+)?")
_SSD_OF_FAMILY = re.compile(_SPOT + r"(?P<family>[a-z0-9]+)(?: arm| amd)? instance local ssd running in .+")
_ELSEWISE = re.compile(r"commitment|sole tenancy|custom|reserved|reservation|dws|calendar|flex|premium|suspended")
# "About Local SSD disks": every type of these comes with some.
_WITH_SSD = re.compile(r"a2-ultragpu-|a3-|z3-|.*-lssd$")


def part_of(description: str) -> Part | None:
    """What this SKU is the price of; None: nothing that a machine of ours is made of."""
    said = " ".join(description.lower().split())
    if _ELSEWISE.search(said):
        return None
    if found := _CORE_OR_RAM.fullmatch(said):
        unit = Unit.CORE if found["unit"] == "core" else Unit.RAM
        return Part(unit, FAMILIES[found["family"]]) if found["family"] in FAMILIES else None
    if _SSD.fullmatch(said):
        return Part(Unit.LOCAL_SSD, "")
    if found := _SSD_OF_FAMILY.fullmatch(said):
        return Part(Unit.LOCAL_SSD, found["family"])
    if (found := _GPU.fullmatch(said)) and found["gpu"] in GPUS:
        return Part(Unit.GPU, GPUS[found["gpu"]])
    return None


def market_of(description: str, usage: object) -> Market | None:
    """How it is bought. The description goes before the category, which has "OnDemand" for some that are spot."""
    if usage == "Preemptible" or (usage == "OnDemand" and "preemptible" in description.lower()):
        return Market.SPOT
    return Market.ON_DEMAND if usage == "OnDemand" else None


def parts(kind: str, shape: Shape) -> Iterator[tuple[Part, float]]:
    """How much of which parts a machine of this type is: all of them, or none.

    Raises:
        NotSold: the rule for this type is not known, or not how much of a part it has.
    """
    family = _family_of(kind)
    cores = SHARED.get(kind) if shape.is_shared else float(shape.cpus)
    if cores is None:
        raise NotSold("how much of a core it has, of those that it shares")
    ssd_gib = _ssd_gib(kind, shape)
    yield Part(Unit.CORE, family), cores
    yield Part(Unit.RAM, family), shape.memory_gib
    if shape.gpus:
        yield Part(Unit.GPU, shape.gpu_kind or ""), float(shape.gpus)
    if ssd_gib:
        yield Part(Unit.LOCAL_SSD, family if family in OWN_SSD else ""), ssd_gib


def _family_of(kind: str) -> str:
    if "custom" in kind or kind.startswith(("n1-megamem-", "n1-ultramem-")):
        raise NotSold("which cores and memory of the price list it has")
    beginnings = (family for family in FAMILIES.values() if kind.startswith(f"{family}-"))
    family = max(beginnings, key=len, default=None)
    if family is None:
        raise NotSold("which cores and memory of the price list it has")
    return family


def _ssd_gib(kind: str, shape: Shape) -> float:
    if kind.startswith("z3-") or (shape.local_ssds is None and _WITH_SSD.match(kind)):
        raise NotSold("how much local SSD it has")
    return float(SSD_GIB * (shape.local_ssds or 0))
