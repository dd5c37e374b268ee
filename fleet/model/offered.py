"""What may be had: resources, as the fleet file describes them, and the offers of the clouds for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.model.told import KeepAwake
from fleet.model.wanted import Window


class Market(StrEnum):
    SPOT = "spot"  # cheaper; the cloud may take it back at short notice
    ON_DEMAND = "on_demand"


class MarketPolicy(StrEnum):
    """Which markets a resource may be bought in."""

    SPOT = "spot"
    ON_DEMAND = "on_demand"
    SPOT_THEN_ON_DEMAND = "spot_then_on_demand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What may be launched: a provider, types, zones, a market, an image and limits (ClearML's word)."""

    name: str
    provider: str
    region: str | None = None
    zones: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    market: MarketPolicy = MarketPolicy.ON_DEMAND
    fallback_after: timedelta = timedelta(minutes=5)  # so long a task waits for spot before it gets on-demand
    blackout: timedelta = timedelta(minutes=10)  # so long no spot of a pool that had none or took a machine back; grows
    image: str | None = None
    max_instances: int | None = None
    min_instances: int = 0  # kept even when nothing waits
    idle_timeout: timedelta | None = timedelta(minutes=10)  # None = never end for idleness
    is_idle_auto: bool = False  # the planner chooses, for each machine; `idle_timeout` holds until it has
    boot_timeout: timedelta = timedelta(minutes=15)
    max_lifetime: timedelta | None = None
    keep_awake: KeepAwake = field(default_factory=KeepAwake)
    # Replaced when more than this part of its GPUs is sick, or when what waits cannot be held by the rest; None: never.
    replace_sick: float | None = 0.5
    min_driver: str | None = None  # GPUs under an older driver are sick
    schedule: tuple[Window, ...] = ()  # of two that are open, the later one holds
    open_windows: tuple[
        int, ...
    ] = ()  # places in `schedule` of those whose values hold now (`fleet.schedule.in_force`)
    opens_at: datetime | None = None  # when the next one opens that allows more instances
    # US dollars an hour by type and market, where the fleet file says them: before what the cloud or a list says
    prices: Mapping[str, Mapping[Market, float]] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)  # keys of this provider alone, checked by it


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How much of some families the account may run at once in one place, in CPUs."""

    code: str  # the cloud's own: "L-DB2E81BA"
    name: str  # and its name there
    cpus: float  # the limit
    others_cpus: float  # what machines that are not this fleet's hold of it, as last seen
    scope: str  # where, and as whom, if that matters: "us-east-1"
    remedy: str  # how to get more


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One type in one zone at one price in one market, as seen now."""

    resource: str
    provider: str
    type: str
    market: Market
    price_usd_per_hour: float | None  # None = unknown; never treated as free
    gpus: int
    gpu_model: str | None = None
    gpu_memory_gib: float | None = None  # of each GPU
    cpus: int = 1
    memory_gib: float | None = None
    region: str | None = None
    zone: str | None = None
    quota: Quota | None = None  # None: none that is known
    may_vary: bool = False  # its cloud may be told to choose between it and others of its resource
    seen_at: datetime

    @property
    def family(self) -> str:
        """What a quota counts together: `g5` of g5.xlarge (AWS), `a2-highgpu` of a2-highgpu-1g (GCP)."""
        return self.type.partition(".")[0] if "." in self.type else self.type.rpartition("-")[0] or self.type
