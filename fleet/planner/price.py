"""Which prices can be reckoned with."""

from __future__ import annotations

import math

from fleet.model import Offer


def known_price(offer: Offer) -> float | None:
    """US dollars an hour; None: unknown. A price that is missing, not a number or below 0 is none, and nothing but a
    machine of one's own is free."""
    price = offer.price_usd_per_hour
    if price is None or not math.isfinite(price) or price < 0:
        return None
    return price if price > 0 or offer.provider == "local" else None
