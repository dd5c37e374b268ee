"""What machines cost, as a cloud bills them, and by how much a budget was exceeded.

A spot machine is billed at the price of its launch until its end: so the store counts it, and so the budgets. AWS
bills the spot price of each second, which may come to more or less than that of the launch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise

from fleet.model import Budget
from fleet.simulate.truth import Life

# Clouds bill by the second, but never less than this.
LEAST_BILLED = timedelta(seconds=60)
HOUR = timedelta(hours=1)
# What adding and taking away leaves of a float is no overshoot.
NOTHING_USD = 1e-6


class Billed:
    """A machine's time as the cloud bills it; one that runs still is billed until the end of the simulation."""

    def __init__(self, life: Life, until: datetime, queue: str | None = None, user: str | None = None) -> None:
        """`queue` and `user`: that it was launched for."""
        self.queue, self.user = queue, user
        self.gpus = life.offer.gpus
        self.usd_per_hour = life.offer.price_usd_per_hour or 0.0
        self.start = life.launched_at
        self.end = life.ended_at or until
        self.billed_until = max(self.end, self.start + LEAST_BILLED)
        self.hours = (self.billed_until - self.start) / HOUR
        self.usd = self.hours * self.usd_per_hour


def overshoot_usd(budget: Budget, bills: Sequence[Billed]) -> float:
    """US dollars beyond the cap that was exceeded most: above the rate, or in days or months above theirs; of the fleet, of
    a queue or of a user, each with the machines that were launched for it."""
    over = [_overshoot(budget, bills)]
    for queue, part in budget.queues.items():
        over.append(_overshoot(part, [bill for bill in bills if bill.queue == queue]))
    for user in {bill.user for bill in bills if bill.user is not None}:
        if own := budget.users.get(user) or budget.per_user:
            over.append(_overshoot(own, [bill for bill in bills if bill.user == user]))
    return max(over)


def _overshoot(budget: Budget, bills: Sequence[Billed]) -> float:
    days = _by_day(bills)
    months: dict[tuple[int, int], float] = defaultdict(float)
    for day, usd in days.items():
        months[day.year, day.month] += usd
    over = [
        0.0 if budget.usd_per_hour is None else _over_rate(bills, budget.usd_per_hour),
        0.0 if budget.usd_per_day is None else _over(days.values(), budget.usd_per_day),
        0.0 if budget.usd_per_month is None else _over(months.values(), budget.usd_per_month),
    ]
    return max(over)


def most_at_once(bills: Sequence[Billed]) -> int:
    """How many machines ran at the same instant."""
    running, most = 0, 0
    for _, change in sorted([(bill.start, 1) for bill in bills] + [(bill.end, -1) for bill in bills]):
        running += change
        most = max(most, running)
    return most


def _over_rate(bills: Sequence[Billed], usd_per_hour: float) -> float:
    """Dollars spent above a rate, over all instants."""
    steps = sorted(
        [(bill.start, bill.usd_per_hour) for bill in bills] + [(bill.end, -bill.usd_per_hour) for bill in bills]
    )
    rate, over = 0.0, 0.0
    for (at, change), (until, _) in pairwise(steps):
        rate += change
        if rate > usd_per_hour + NOTHING_USD:
            over += (rate - usd_per_hour) * ((until - at) / HOUR)
    return over


def _by_day(bills: Sequence[Billed]) -> dict[date, float]:
    spent: dict[date, float] = defaultdict(float)
    for bill in bills:
        at = bill.start
        while at < bill.billed_until:
            midnight = at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            until = min(midnight, bill.billed_until)
            spent[at.date()] += (until - at) / HOUR * bill.usd_per_hour
            at = until
    return spent


def _over(spent: Iterable[float], cap: float) -> float:
    return sum(max(usd - cap, 0.0) for usd in spent if usd > cap + NOTHING_USD)
