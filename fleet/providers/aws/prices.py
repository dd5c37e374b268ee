"""What a type costs: the price list for on demand, the price history for spot. What is not believable is unknown (None).

Source: "Using the AWS Price List Query API" (AWS Billing User Guide), DescribeSpotPriceHistory (EC2 API Reference).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fleet.providers.aws.access import pages

# EC2 lists a price anew at least daily; one that is older is of a pool that is not sold any more.
OLDEST_SPOT = timedelta(hours=48)
# Spot is a part of on demand. Above it, one of the two is wrong, and nobody knows which.
LOWEST_PART = 1e-6
MOST_USD_PER_HOUR = 2_000.0  # the dearest machine there is costs a tenth
LINUX = "Linux/UNIX"


def read_spot_prices(
    ec2: Any, types: Sequence[str], at: datetime, on_demand: Mapping[str, float | None]
) -> dict[tuple[str, str], float]:
    """US dollars an hour by (type, zone), the newest of each, as far as it can be believed."""
    found = pages(
        ec2,
        "describe_spot_price_history",
        "SpotPriceHistory",
        InstanceTypes=list(types),
        ProductDescriptions=[LINUX],
        StartTime=at,  # only the prices in force now
    )
    newest: dict[tuple[str, str], tuple[datetime, object]] = {}
    for part in found:
        key = (str(part["InstanceType"]), str(part["AvailabilityZone"]))
        when = part["Timestamp"]
        if key not in newest or when > newest[key][0]:
            newest[key] = (when, part["SpotPrice"])
    believed = {}
    for (type_, zone), (when, value) in newest.items():
        price = believable(value)
        if price is None or at - when > OLDEST_SPOT or price > (on_demand.get(type_) or math.inf):
            continue
        believed[type_, zone] = price
    return believed


def read_list_prices(pricing: Any, types: Iterable[str], region: str) -> dict[str, float]:
    """US dollars an hour on demand by type, for Linux without other software on shared machines."""
    return {type_: price for type_ in types if (price := _list_price(pricing, type_, region)) is not None}


def _list_price(pricing: Any, type_: str, region: str) -> float | None:
    wanted = {
        "instanceType": type_,
        "regionCode": region,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    found = pages(
        pricing, "get_products", "PriceList", ServiceCode="AmazonEC2", Filters=filters, FormatVersion="aws_v1"
    )
    prices = {price for product in found for price in _hourly(product)}
    return prices.pop() if len(prices) == 1 else None  # two prices for one thing: neither can be believed


def _hourly(product: Any) -> list[float]:
    """The hourly prices of one product of the list, which comes as JSON in a text."""
    told = json.loads(product) if isinstance(product, str) else product
    dimensions = [d for term in told["terms"]["OnDemand"].values() for d in term["priceDimensions"].values()]
    prices = [believable(d["pricePerUnit"].get("USD")) for d in dimensions if d.get("unit") == "Hrs"]
    return [price for price in prices if price is not None]


def believable(value: object) -> float | None:
    """The number, if a machine can cost so much."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        price = float(value)
    except ValueError:
        return None
    return price if LOWEST_PART < price < MOST_USD_PER_HOUR else None
