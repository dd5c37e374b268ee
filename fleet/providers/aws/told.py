"""What the types of a resource cost, for `fleet prices refresh`. Nothing is needed here that only a launch needs."""

from __future__ import annotations

from datetime import datetime

from fleet.model import Market, Resource
from fleet.providers.aws.access import PRICING_REGION, Access
from fleet.providers.aws.errors import asking
from fleet.providers.aws.prices import read_list_prices, read_spot_prices
from fleet.providers.aws.settings import read_types
from fleet.providers.aws.stock import PriceOf, shapes_of
from fleet.providers.prices import Price, Unpriced

NO_LIST_PRICE = "AWS' price list has no price of it, or none that can be believed"
NO_SPOT_PRICE = "no zone has had a spot price of it in two days that can be believed"


def told_prices(access: Access, resource: Resource, price_of: PriceOf, at: datetime) -> list[Price | Unpriced]:
    """List prices and, of the zones, the dearest spot price: of which zone a machine will be is not known yet.

    Raises:
        ProviderError: AWS does not tell them, or does not have one of the types.
    """
    region, types = access.place.region, read_types(resource)
    shapes = shapes_of(access, resource)
    with asking(f"resource {resource.name}: read AWS' price list"):
        listed = read_list_prices(access.client("pricing", PRICING_REGION), types, region)
    above = {t: listed.get(t) or price_of("aws", t, region, Market.ON_DEMAND, resource=resource) for t in types}
    spot: dict[str, float] = {}
    with asking(f"resource {resource.name}: look up spot prices"):
        for (type_, _), usd in read_spot_prices(access.client("ec2"), types, at, above).items():
            spot[type_] = max(usd, spot.get(type_, 0.0))
    told = [(t, Market.ON_DEMAND, usd, "AWS Price List Query API") for t, usd in listed.items()]
    told += [(t, Market.SPOT, usd, "EC2 DescribeSpotPriceHistory") for t, usd in spot.items()]
    untold = [
        Unpriced(provider="aws", type=t, region=region, market=m, why=why)
        for m, known, why in ((Market.ON_DEMAND, listed, NO_LIST_PRICE), (Market.SPOT, spot, NO_SPOT_PRICE))
        for t in types
        if t not in known and m in shapes[t].markets
    ]
    return [
        *(
            Price(provider="aws", type=t, region=region, market=m, usd_per_hour=usd, seen_on=at.date(), source=source)
            for t, m, usd, source in told
        ),
        *untold,
    ]
