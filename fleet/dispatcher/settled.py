"""What a machine has become, where the cloud was free to choose: the store keeps the truth, and the price may only fall."""

from __future__ import annotations

from dataclasses import replace

from fleet.dispatcher.parts import Parts
from fleet.errors import ProviderError
from fleet.model import Offer, Resource


def settled(
    ordered: Offer, type: str | None, zone: str | None, resource: Resource | None, parts: Parts
) -> Offer | None:
    """The offer that such a machine is of; None: the one that was ordered.

    Budgets count what was committed with the intent, so a machine that its cloud sells for more now is still counted at that.
    """
    if type in (None, ordered.type) and zone in (None, ordered.zone):
        return None
    found = next(
        (o for o in _offers(resource, parts) if (o.type, o.zone, o.market) == (type, zone, ordered.market)), None
    )
    if found is None:
        return replace(ordered, type=type or ordered.type, zone=zone or ordered.zone)
    prices = [usd for usd in (ordered.price_usd_per_hour, found.price_usd_per_hour) if usd is not None]
    is_known = ordered.price_usd_per_hour is not None
    return replace(found, price_usd_per_hour=min(prices) if is_known else found.price_usd_per_hour)


def _offers(resource: Resource | None, parts: Parts) -> tuple[Offer, ...]:
    if resource is None or resource.provider not in parts.providers:
        return ()
    try:
        return tuple(parts.providers[resource.provider].offers(resource, parts.now()))
    except ProviderError:
        return ()  # then what the machine is said to be holds, at the price that was committed
