"""What EC2 sells for one resource: shapes, zones, subnets, list prices, quotas; and from it the offers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleet.errors import BadRequest, ProviderError
from fleet.model import Market, MarketPolicy, Offer, Quota, Resource
from fleet.providers.aws.access import PRICING_REGION, Access, pages
from fleet.providers.aws.errors import asking
from fleet.providers.aws.prices import read_list_prices, read_spot_prices
from fleet.providers.aws.quotas import NAMES, how_to_raise, quota_code, read_others, read_quota
from fleet.providers.aws.settings import Settings
from fleet.providers.aws.shapes import Shape, read_shapes, read_zones

log = logging.getLogger(__name__)

# `fleet.providers.prices.price_of`, for the directory of this provider: what is used where AWS' price list cannot be read
PriceOf = Callable[..., float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """One subnet of the resource. `zone` is where its machines are."""

    id: str
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What changes slowly."""

    shapes: Mapping[str, Shape]
    zones: Mapping[str, frozenset[str]]  # by type
    subnets: tuple[Subnet, ...]  # empty: the default one of each zone
    prices: Mapping[str, float | None]  # on demand, by type
    quotas: Mapping[str, float | None]  # vCPUs, by quota code
    others: Mapping[str, float] = field(default_factory=dict)  # of these, what machines that are not ours hold


def read_stock(access: Access, settings: Settings, resource: Resource, price_of: PriceOf, cluster: str) -> Stock:
    """Ask for all of it.

    Raises:
        ProviderError: EC2 does not answer, or refuses; prices and quotas that cannot be read are unknown instead.
    """
    ec2 = access.client("ec2")
    types = list(resource.instance_types)
    shapes = shapes_of(access, resource)
    with asking(f"resource {resource.name}: look up the zones of its types"):
        zones = read_zones(ec2, types)
    with asking(f"resource {resource.name}: look up its subnets"):
        subnets = read_subnets(ec2, settings.subnets)
    codes = {code for type_ in types for market in Market if (code := quota_code(type_, market))}
    stock = Stock(
        shapes=shapes,
        zones=zones,
        subnets=subnets,
        prices=_prices(access, resource, settings.place.region, price_of),
        quotas={code: read_quota(access.client("service-quotas"), code) for code in sorted(codes)},
        others=_others(ec2, cluster, resource),
    )
    for type_, market in sorted(too_large(stock)):
        log.warning(
            "type is above the account's quota", extra={"type": type_, "market": market, "resource": resource.name}
        )
    return stock


def shapes_of(access: Access, resource: Resource) -> dict[str, Shape]:
    """Of each of its types.

    Raises:
        ProviderError: EC2 does not answer, or does not have one of them.
    """
    types, region = resource.instance_types, access.place.region
    with asking(f"resource {resource.name}: look up its types in {region}"):
        shapes = read_shapes(access.client("ec2"), types)
    for missing in sorted(set(types) - shapes.keys()):
        raise BadRequest(f"resources.{resource.name}.instance_types: EC2 has no {missing} in {region}")
    return shapes


def _others(ec2: Any, cluster: str, resource: Resource) -> dict[str, float]:
    try:
        with asking(f"resource {resource.name}: look up what else runs in the account"):
            return read_others(ec2, cluster)
    except ProviderError as error:
        log.info("what else runs in the account is not seen", extra={"resource": resource.name, "error": str(error)})
        return {}


def read_subnets(ec2: Any, ids: Sequence[str]) -> tuple[Subnet, ...]:
    """These subnets, in their order."""
    if not ids:
        return ()
    found = {s["SubnetId"]: s for s in pages(ec2, "describe_subnets", "Subnets", SubnetIds=list(ids))}
    return tuple(Subnet(id=id, zone=str(found[id]["AvailabilityZone"])) for id in ids)


def read_spot(access: Access, resource: Resource, stock: Stock, at: datetime) -> dict[tuple[str, str], float]:
    """Spot prices by (type, zone).

    Raises:
        ProviderError: they could not be read.
    """
    with asking(f"resource {resource.name}: look up spot prices"):
        return read_spot_prices(access.client("ec2"), resource.instance_types, at, stock.prices)


def too_large(stock: Stock) -> set[tuple[str, Market]]:
    """Types of which the account may not run even one."""
    return {
        (shape.type, market)
        for shape in stock.shapes.values()
        for market in Market
        if (code := quota_code(shape.type, market))
        and (limit := stock.quotas.get(code)) is not None
        and shape.cpus > limit
    }


def offers_of(
    resource: Resource, settings: Settings, stock: Stock, spot: Mapping[tuple[str, str], float], at: datetime
) -> Iterator[Offer]:
    """In the order of the fleet file: types, then zones; each with its quota, which the planner counts."""
    for type_ in resource.instance_types:
        shape = stock.shapes[type_]
        for zone in zones_of(resource, stock, type_):
            for market in markets_of(resource.market):
                if market not in shape.markets:
                    continue
                seen = stock.prices.get(type_) if market is Market.ON_DEMAND else spot.get((type_, zone))
                price = resource.prices.get(type_, {}).get(market, seen)
                quota = quota_of(settings, stock, shape, market)
                yield _offer(resource, settings, shape, zone, market, price, at, quota)


def quota_of(settings: Settings, stock: Stock, shape: Shape, market: Market) -> Quota | None:
    """What counts this type; None: AWS does not say, or no quota of it is known."""
    code = quota_code(shape.type, market)
    limit = stock.quotas.get(code) if code else None
    if code is None or limit is None:
        return None
    region, whom = settings.place.region, settings.place.role_arn or settings.place.profile
    return Quota(
        code=code,
        name=NAMES[code],
        cpus=limit,
        others_cpus=stock.others.get(code, 0.0),
        scope=f"{region} ({whom})" if whom else region,
        remedy=how_to_raise(code, region, limit + shape.cpus),
    )


def zones_of(resource: Resource, stock: Stock, type_: str) -> tuple[str, ...]:
    """Where this resource may launch this type: zones of the fleet file or of its subnets that sell it."""
    sold = stock.zones[type_]
    own = tuple(dict.fromkeys(s.zone for s in stock.subnets)) or resource.zones or tuple(sorted(sold))
    return tuple(zone for zone in own if zone in sold and zone in (resource.zones or own))


def markets_of(policy: MarketPolicy) -> tuple[Market, ...]:
    match policy:
        case MarketPolicy.SPOT:
            return (Market.SPOT,)
        case MarketPolicy.ON_DEMAND:
            return (Market.ON_DEMAND,)
    return Market.SPOT, Market.ON_DEMAND


def _offer(
    resource: Resource,
    settings: Settings,
    shape: Shape,
    zone: str,
    market: Market,
    price: float | None,
    at: datetime,
    quota: Quota | None,
) -> Offer:
    has_gpus = bool(shape.gpus) and not settings.is_cpu_only
    return Offer(
        resource=resource.name,
        provider="aws",
        type=shape.type,
        market=market,
        price_usd_per_hour=price,
        gpus=shape.gpus if has_gpus else 0,
        gpu_model=shape.gpu_model if has_gpus else None,
        gpu_memory_gib=shape.gpu_memory_gib if has_gpus else None,
        cpus=shape.cpus,
        memory_gib=shape.memory_gib,
        region=settings.place.region,
        zone=zone,
        quota=quota,
        may_vary=settings.lets_ec2_choose(market),
        seen_at=at,
    )


def _prices(access: Access, resource: Resource, region: str, price_of: PriceOf) -> dict[str, float | None]:
    types = resource.instance_types
    try:
        with asking(f"resource {resource.name}: read AWS' price list"):
            listed = read_list_prices(access.client("pricing", PRICING_REGION), types, region)
    except ProviderError as error:
        log.info("the price list cannot be read", extra={"resource": resource.name, "error": str(error)})
        listed = {}
    return {t: listed.get(t) or price_of("aws", t, region, Market.ON_DEMAND, resource=resource) for t in types}
