"""What may be launched: each type in each zone (or region) in each market, with its price as far as it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from fleet.errors import ProviderError
from fleet.model import Market, MarketPolicy, Offer, Resource
from fleet.providers.gcp.settings import GcpSettings
from fleet.providers.gcp.shapes import Shape, Shapes, missing, model_of

# (resource, machine type or accelerator, region, market) -> US dollars an hour; None: nobody knows
PriceOf = Callable[[Resource, str, str, Market], float | None]
MARKETS = {
    MarketPolicy.SPOT: (Market.SPOT,),
    MarketPolicy.ON_DEMAND: (Market.ON_DEMAND,),
    MarketPolicy.SPOT_THEN_ON_DEMAND: (Market.SPOT, Market.ON_DEMAND),
}


def offers_of(
    resource: Resource, said: GcpSettings, shapes: Shapes, price_of: PriceOf, at: datetime
) -> Iterator[Offer]:
    """In the order of the fleet file: types, then places, then markets.

    Raises:
        BadRequest: no place has any of the types.
        ProviderError: nothing is known of any of them, and Google Cloud does not say.
    """
    places = said.zones or said.regions
    found, errors, is_any = [], [], False
    for kind in said.types:
        for place in places:
            try:
                shape = shapes.of(kind, place, at)
            except ProviderError as error:
                errors.append(error)
                continue
            if shape:
                is_any = True
                found += _of_a_place(resource, said, kind, place, shape, price_of, at)
    if not is_any:
        raise errors[0] if errors else missing(resource.name, said.types, places)
    yield from found


def region_of(place: str) -> str:
    """us-central1 of us-central1-a, and of itself."""
    return "-".join(place.split("-")[:2])


def _of_a_place(
    resource: Resource, said: GcpSettings, kind: str, place: str, shape: Shape, price_of: PriceOf, at: datetime
) -> list[Offer]:
    gpu_kind, gpus = (said.gpu_type, said.gpus) if said.gpu_type and said.gpus else (shape.gpu_kind, shape.gpus)
    model, memory = model_of(gpu_kind) if gpu_kind and gpus else (None, None)
    if said.is_cpu_only:
        model, memory, gpus = None, None, 0
    region = region_of(place)
    return [
        Offer(
            resource=resource.name,
            provider="gcp",
            type=kind,
            market=market,
            price_usd_per_hour=_price(resource, said, kind, region, market, price_of),
            gpus=gpus,
            gpu_model=model,
            gpu_memory_gib=memory,
            cpus=shape.cpus,
            memory_gib=shape.memory_gib,
            region=region,
            zone=place if place in said.zones else None,
            seen_at=at,
        )
        for market in MARKETS[resource.market]
    ]


def _price(
    resource: Resource, said: GcpSettings, kind: str, region: str, market: Market, price_of: PriceOf
) -> float | None:
    """GPUs that are attached to a machine (N1) have a price of their own; with one of the two unknown, so is the sum."""
    machine = price_of(resource, kind, region, market)
    if not said.gpu_type or not said.gpus or machine is None:
        return machine
    each = price_of(resource, said.gpu_type, region, market)
    return None if each is None else machine + said.gpus * each
