"""What each resource of a fleet file can launch, at which price: as the fleet file says, by a price file, or as fleet knows itself.

A price file has one row for each instance type and region: `instance_type,count,on_demand_usd_h` and, where known,
`spot_usd_h,region,cloud,accelerator,vcpus,mem_gib`. Zeros, negative numbers and texts are no prices: such a row is unknown.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fleet.errors import ConfigError
from fleet.model import Market, MarketPolicy, Offer, Resource
from fleet.simulate.agenda import EPOCH
from fleet.simulate.rows import read_rows
from fleet.simulate.sold import Shape, is_known, known_shapes

NEEDED = ("instance_type", "count", "on_demand_usd_h")
OPTIONAL = ("spot_usd_h", "region", "cloud", "accelerator", "vcpus", "mem_gib")
MARKETS = {
    MarketPolicy.SPOT: (Market.SPOT,),
    MarketPolicy.ON_DEMAND: (Market.ON_DEMAND,),
    MarketPolicy.SPOT_THEN_ON_DEMAND: (Market.SPOT, Market.ON_DEMAND),
}
SIMULATED_MODEL = "Simulated GPU"
SIMULATED_MEMORY_GIB = 16.0


def offers_of(
    resources: Sequence[Resource], prices: Path | None, state_dir: Path | None = None
) -> dict[str, tuple[Offer, ...]]:
    """What may be launched for each resource, by its name: by market, then type, then zone, as the fleet file orders them.

    `prices`: a file that says what all types are and cost; without one fleet's own list does, and what was refreshed into `state_dir`.

    Raises:
        ConfigError: a shape or a price is not known; the text names every such type.
    """
    of_file = read_prices(prices) if prices else ()
    problems: list[str] = []
    found: dict[str, tuple[Offer, ...]] = {}
    for resource in resources:
        directory = state_dir / resource.provider if state_dir else None
        shapes = of_file if prices else tuple(known_shapes(resource, directory))
        found[resource.name] = tuple(_declared(resource, problems) or _listed(resource, shapes, prices, problems))
    if problems:
        raise ConfigError("; ".join(dict.fromkeys(problems)))
    return found


def without_spot(resource: Resource, offers: Sequence[Offer]) -> tuple[str, ...]:
    """Types that this resource would rather buy as spot, and that are simulated on demand alone: nobody knows what they cost there."""
    if resource.market is not MarketPolicy.SPOT_THEN_ON_DEMAND:
        return ()
    types = {market: {o.type for o in offers if o.market is market} for market in Market}
    return tuple(kind for kind in resource.instance_types if kind in types[Market.ON_DEMAND] - types[Market.SPOT])


def read_prices(path: Path) -> tuple[Shape, ...]:
    """The rows of a price file.

    Raises:
        ConfigError: the file or its head cannot be read.
    """
    return tuple(
        _shape(row) for _, row in read_rows(path, NEEDED, "a price file", f" and may have {', '.join(OPTIONAL)}")
    )


def _shape(row: Mapping[str, str]) -> Shape:
    usd = {Market.ON_DEMAND: _number(row, "on_demand_usd_h"), Market.SPOT: _number(row, "spot_usd_h")}
    return Shape(
        cloud=(row.get("cloud") or "").strip(),
        type=(row.get("instance_type") or "").strip(),
        region=(row.get("region") or "").strip(),
        gpus=_number(row, "count") or 0.0,
        gpu_model=(row.get("accelerator") or "").strip() or None,
        cpus=int(_number(row, "vcpus") or 1),
        memory_gib=_number(row, "mem_gib"),
        usd_per_hour={market: price for market, price in usd.items() if price is not None},
    )


def _number(row: Mapping[str, str], key: str) -> float | None:
    """A number above 0; None for all else: a price of nothing is a price that nobody knows."""
    try:
        number = float(row.get(key) or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _declared(resource: Resource, problems: list[str]) -> list[Offer]:
    """The one shape of a resource that says in the fleet file what it is and costs; none: it does not."""
    settings, is_local = resource.settings, resource.provider == "local"
    # As the provider itself takes them: a local machine has no GPUs and costs nothing unless the file says so.
    gpus, usd = settings.get("gpus", 0 if is_local else None), settings.get("usd_per_hour", 0.0 if is_local else None)
    if isinstance(gpus, bool) or not isinstance(gpus, int) or not isinstance(usd, int | float):
        if is_local:
            problems.append(f"resources.{resource.name}.gpus: say how many, the simulator cannot look at the machine")
        return []
    return [
        Offer(
            resource=resource.name,
            provider=resource.provider,
            type=f"{resource.provider}-{gpus}gpu" if gpus else f"{resource.provider}-cpu",
            market=Market.ON_DEMAND,
            price_usd_per_hour=float(usd),
            gpus=gpus,
            gpu_model=str(settings.get("gpu_model", SIMULATED_MODEL)) if gpus else None,
            gpu_memory_gib=_float(settings.get("gpu_memory"), SIMULATED_MEMORY_GIB) if gpus else None,
            cpus=int(_float(settings.get("cpus"), os.cpu_count() or 1)),
            seen_at=EPOCH,
        )
    ]


def _float(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


def _listed(resource: Resource, shapes: Sequence[Shape], prices: Path | None, problems: list[str]) -> Sequence[Offer]:
    if resource.provider == "local":
        return ()
    if not resource.instance_types:
        problems.append(f"resources.{resource.name}.instance_types: none are given, so there is nothing to simulate")
    chosen = [shape for name in resource.instance_types if (shape := _find(name, resource, shapes, prices, problems))]
    return [
        _offer(resource, shape, market, zone, shape.usd_per_hour[market])
        for market in MARKETS[resource.market]
        for shape in chosen
        for zone in resource.zones or (None,)
        if market in shape.usd_per_hour
    ]


def _find(
    name: str, resource: Resource, shapes: Sequence[Shape], prices: Path | None, problems: list[str]
) -> Shape | None:
    """The row for a type; what is missing is noted."""
    rows = [s for s in shapes if s.type == name and s.cloud in ("", resource.provider)]
    here = [s for s in rows if _is_in(s.region, resource.region or "", resource.zones)]
    path = f"resources.{resource.name}.instance_types: {name}"
    if not here:
        problems.append(f"{path} {_why_unknown(name, resource, rows, prices)}")
        return None
    # As for a dispatcher: what the fleet file says goes before every list.
    shape = (
        replace(here[0], usd_per_hour={**here[0].usd_per_hour, **resource.prices.get(name, {})}) if prices else here[0]
    )
    if shape.gpus % 1:
        problems.append(f"{path} has {shape.gpus:g} of a GPU; parts of a GPU cannot be simulated")
        return None
    missing = [market for market in MARKETS[resource.market] if market not in shape.usd_per_hour]
    if prices is None and resource.market is MarketPolicy.SPOT_THEN_ON_DEMAND and missing == [Market.SPOT]:
        missing = []  # spot prices change by the hour, and no list has them: it is simulated without, and that is said
    if missing:
        where = f"in {prices}" if prices else f"that is known{_where(resource)}; {_say_it(name, resource)}"
        problems.append(f"{path} has no {' and no '.join(missing)} price {where}")
        return None
    return shape


def _why_unknown(name: str, resource: Resource, rows: Sequence[Shape], prices: Path | None) -> str:
    elsewhere = f"; it lists {', '.join(sorted({s.region for s in rows}))}" if rows else ""
    if prices:
        return f"is not in {prices}{_where(resource)}{elsewhere}"
    if not is_known(resource, name):
        return f"is a type whose GPUs fleet does not know; describe it with --prices FILE (columns {', '.join(NEEDED)})"
    return f"has no price that is known{_where(resource)}; {_say_it(name, resource)}"


def _where(resource: Resource) -> str:
    return f" in {resource.region or ', '.join(resource.zones)}" if resource.region or resource.zones else ""


def _say_it(name: str, resource: Resource) -> str:
    market = "{spot: DOLLARS_AN_HOUR}" if resource.market is MarketPolicy.SPOT else "DOLLARS_AN_HOUR"
    ask = "" if resource.provider == "genesis" else ", ask the cloud with: fleet prices refresh"
    return f"say it with prices: {{{name}: {market}}} there{ask}, or give --prices FILE"


def _is_in(row: str, region: str, zones: Sequence[str]) -> bool:
    """A row without a region counts everywhere; a resource without one is where its zones are."""
    if not row or (not region and not zones):
        return True
    return row == region if region else all(zone.startswith(row) for zone in zones)


def _offer(resource: Resource, shape: Shape, market: Market, zone: str | None, usd: float) -> Offer:
    return Offer(
        resource=resource.name,
        provider=resource.provider,
        type=shape.type,
        market=market,
        price_usd_per_hour=usd,
        gpus=int(shape.gpus),
        gpu_model=shape.gpu_model,
        gpu_memory_gib=shape.gpu_memory_gib,
        cpus=shape.cpus,
        memory_gib=shape.memory_gib,
        region=resource.region or shape.region or None,
        zone=zone,
        seen_at=EPOCH,
    )
