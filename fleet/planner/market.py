"""What an offer costs for the work that it gets done: a spot machine that is taken back has to do its work again.

A pool is the spot machines of one type in one zone. What became of ours is in `Snapshot.pools`; of a pool that nobody has
tried a calm one is believed, and a single interruption of a single machine says little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fleet.model import Market, Offer, PoolRecord
from fleet.planner.price import known_price

# What is believed of a pool before anything is seen of it, as if it had been seen: calm, as 5 to 20 % a month are.
PRIOR_MACHINE_H = 5.0
PRIOR_INTERRUPTIONS = 0.0125
PRIOR_LOST_H = 0.5  # of the first interruption
BOOT_H = 0.05  # three minutes of the machine that takes over
# Of the worst pool so much is left, so that prices stay numbers that can be compared.
LEAST_YIELD = 0.01

PoolKey = tuple[str, str, str | None]
Pools = Mapping[PoolKey, PoolRecord]


def pools_of(records: Sequence[PoolRecord]) -> dict[PoolKey, PoolRecord]:
    return {(r.provider, r.type, r.zone): r for r in records}


def pool_of(offer: Offer) -> PoolKey:
    """Whose record tells how long such a machine is left to us."""
    return offer.provider, offer.type, offer.zone or offer.region


def with_known_price(offer: Offer) -> Offer:
    """This offer; with the price None if what it says is no price."""
    usd = known_price(offer)
    return offer if usd == offer.price_usd_per_hour else replace(offer, price_usd_per_hour=None)


def effective_price(offer: Offer, pools: Pools) -> float | None:
    """US dollars for an hour of work that is not lost; None: the price is unknown, and must not win.

    On demand the price itself. Of spot the price over the share of the time that is neither lost with a machine nor
    spent on booting the next one.
    """
    usd = known_price(offer)
    if usd is None or offer.market is Market.ON_DEMAND:
        return usd
    return usd / (_yield(pools.get(pool_of(offer))) if pools else UNTRIED_YIELD)


def pays(offer: Offer, on_demand_usd: float | None, pools: Pools) -> bool:
    """Whether this spot offer does the work for less than on demand would."""
    usd = effective_price(offer, pools)
    return usd is not None and (on_demand_usd is None or usd < on_demand_usd)


def _yield(record: PoolRecord | None) -> float:
    """The share of a machine's time there that comes to something."""
    hours = PRIOR_MACHINE_H + (record.machine_h if record else 0.0)
    count = record.interruptions if record else 0
    lost = (PRIOR_LOST_H + (record.lost_h if record else 0.0)) / (1 + count)
    return max(1 - (PRIOR_INTERRUPTIONS + count) / hours * (lost + BOOT_H), LEAST_YIELD)


UNTRIED_YIELD = _yield(None)
