"""What the machines of a resource cost as Google's price list has their parts: the sum of all of them, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from fleet.model import Market
from fleet.providers.gcp.catalog import Catalog
from fleet.providers.gcp.offers import region_of
from fleet.providers.gcp.parts import NotSold, Part, Unit, parts
from fleet.providers.gcp.settings import Wares
from fleet.providers.gcp.shapes import Shapes
from fleet.providers.prices import Price, Unpriced

SOURCE = "Cloud Billing Catalog API"
Parts = Sequence[tuple[Part, float]]


def told_prices(said: Wares, shapes: Shapes, catalog: Catalog, at: datetime) -> Iterator[Price | Unpriced]:
    """Each type, and one GPU of those that are attached to it, in each region and in both markets.

    Raises:
        ProviderError: Google Cloud does not say what a type is made of.
    """
    places = said.zones or said.regions
    for region in dict.fromkeys(map(region_of, places)):
        for kind in said.types:
            made_of = _made_of(kind, [place for place in places if region_of(place) == region], shapes, at)
            yield from _in_both_markets(kind, region, made_of, catalog, at)
        if said.gpu_type and said.gpus:
            yield from _in_both_markets(said.gpu_type, region, [(Part(Unit.GPU, said.gpu_type), 1.0)], catalog, at)


def _made_of(kind: str, places: Sequence[str], shapes: Shapes, at: datetime) -> Parts | str:
    """Its parts, or why they are not known."""
    shape = next((found for place in places if (found := shapes.of(kind, place, at))), None)
    if shape is None:
        return f"{', '.join(places)} does not have it"
    try:
        return list(parts(kind, shape))
    except NotSold as error:
        return f"it is not known {error}"


def _in_both_markets(
    kind: str, region: str, made_of: Parts | str, catalog: Catalog, at: datetime
) -> Iterator[Price | Unpriced]:
    for market in Market:
        found = made_of if isinstance(made_of, str) else _sum(made_of, region, market, catalog)
        if isinstance(found, str):
            yield Unpriced(provider="gcp", type=kind, region=region, market=market, why=found)
            continue
        yield Price(
            provider="gcp",
            type=kind,
            region=region,
            market=market,
            usd_per_hour=found,
            seen_on=at.date(),
            source=SOURCE,
        )


def _sum(made_of: Parts, region: str, market: Market, catalog: Catalog) -> float | str:
    """US dollars an hour; with a part missing, why there is no sum."""
    try:
        return round(sum(amount * catalog.rate(part, region, market) for part, amount in made_of), 6)
    except NotSold as error:
        return f"Google's price list {error}"
